"""What a page looks like survives: tables, scans, boxes, and how well it all was read."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput, MissingExtra, NotFound, TooLarge
from interlock.core.passages import Span
from interlock.knowledge.boxes import boxes_of, encode_boxes
from interlock.knowledge.loaders import find_loader, loaders
from interlock.knowledge.parsing import Parser
from interlock.knowledge.quality import assess
from interlock.knowledge.types import Block, Box, LoadedDocument, PageSize
from interlock.testing.loaders import LoaderConformance, check_document

from . import layout_samples as samples
from .conftest import OPERATOR, caller
from .samples import pdf_file

LINES = ("Invoices are kept for ten years", "from the end of the year")
MEMORY = 2 << 30


def load(name, data, file_name):
    document = loaders.get(name).load(data, file_name)
    check_document(document)
    return document


def without_recognition(monkeypatch):
    """As on a machine where the extra is not installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "rapidocr" else real(name, *a))


class TestImage(LoaderConformance):
    name, file_name = "image", "scan.png"
    words = ("Invoices are kept for ten years", "from the end of the year")

    def sample(self):
        return samples.picture(LINES)

    def test_flipped_bytes_are_survived(self):
        """Each copy that is still a picture costs a recognition: a few are enough."""
        data = bytearray(self.sample())
        for place in (5, 20, 60, len(data) // 2):
            data[place] ^= 0xFF
            self._try(f"byte {place} flipped", bytes(data))

    def test_boxes_are_pixels(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert document.page_sizes == (PageSize(1190, 700),)
        (box, *_) = document.boxes
        assert document.text[box.start : box.end] == LINES[0]
        assert (box.left, box.top) == (pytest.approx(100, abs=12), pytest.approx(200, abs=15))

    def test_a_picture_without_text_says_so(self):
        with pytest.raises(InvalidInput) as caught:
            load("image", samples.picture(()), "logo.png")
        assert caught.value.code == "no_text_in_picture"

    def test_a_picture_of_too_many_pixels_is_refused_unread(self):
        from PIL import Image

        image = Image.new("1", (20_000, 20_000))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        with pytest.raises(TooLarge):
            load("image", stream.getvalue(), "bomb.png")

    def test_without_the_extra_pictures_have_no_loader(self, monkeypatch):
        without_recognition(monkeypatch)
        assert loaders.get("image").suffixes == frozenset()
        with pytest.raises(MissingExtra) as caught:
            self.loader.load(self.sample(), self.file_name)
        assert "interlock[ocr]" in caught.value.hint


def test_a_ruled_table_keeps_its_columns_over_the_page():
    document = load("pdf", samples.table_pdf(), "report.pdf")
    rows = [block for block in document.blocks if block.kind == "table_row"]
    assert len(rows) == 61
    assert document.text.count("Item | 2024 | 2025") == 1
    assert all(block.labelled.startswith("Item: Part ") for block in rows[1:])
    assert (rows[-1].page, rows[-1].labelled) == (2, "Item: Part 59 of the plan | 2024: 159 | 2025: 259")
    text = document.text[document.blocks[-1].span.start :]
    assert text == "Words after the table."


def test_a_table_over_many_pages_loses_no_row_to_the_margins():
    document = load("pdf", samples.table_pdf(400), "long.pdf")
    rows = [block.labelled for block in document.blocks if block.labelled]
    assert rows == [f"Item: Part {n} of the plan | 2024: {100 + n} | 2025: {200 + n}" for n in range(400)]


async def test_a_source_says_which_of_two_loaders_reads_a_suffix(house):
    house.write("report.md", "# Title\n\nWords of the report.")
    await house.ingest()
    (before,) = await house.knowledge.documents(OPERATOR)
    await house.ingest(loaders={".md": "text"})
    (after,) = await house.knowledge.documents(OPERATOR)
    assert (before.media_type, after.media_type) == ("text/markdown", "text/plain")
    with pytest.raises(InvalidInput, match="no loader named 'docling'"):
        await house.ingest(loaders={".md": "docling"})


def test_every_table_cell_has_its_box():
    document = load("pdf", samples.table_pdf(), "report.pdf")
    at = document.text.index("Part 3 of the plan | 103 | 203")
    (page,) = boxes_of(encode_boxes(document), Span(at, at + len("Part 3 of the plan | 103")))
    assert [document.text[box.start : box.end] for box in page.boxes] == ["Part 3 of the plan", "103"]
    assert page.boxes[0].right == page.boxes[1].left
    assert (page.width, page.height) == (pytest.approx(595, abs=1), pytest.approx(842, abs=1))


@pytest.mark.parametrize(
    ("rotate", "crop", "where", "size"),
    [
        # 100 from the left, 700 from the bottom of a page of 800: 100 from the top.
        (0, None, (100, 100), (600, 800)),
        (0, (50, 0, 600, 750), (50, 50), (550, 750)),
        # Turned clockwise by a quarter, what was left is above and what was below is left.
        (90, None, (700, 100), (800, 600)),
        (180, None, (600 - 100, 700), (600, 800)),
    ],
)
def test_boxes_are_where_a_reader_sees_the_line(rotate, crop, where, size):
    document = load("pdf", samples.words_pdf(rotate=rotate, crop=crop), "turned.pdf")
    assert document.page_sizes == (PageSize(*size),)
    (box,) = [box for box in document.boxes if document.text[box.start : box.end] == "Quarterly figures"]
    corners = {(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)}
    # The start of the base line is a corner of the box, but for the tails of letters below it.
    assert min(abs(x - where[0]) + abs(y - where[1]) for x, y in corners) < 6


def test_lines_of_a_paragraph_keep_their_boxes_when_a_cut_word_is_joined():
    document = load("pdf", pdf_file(), "manual.pdf")
    at = document.text.index("connection")
    (page,) = boxes_of(encode_boxes(document), Span(at, at + len("connection")))
    assert [document.text[box.start : box.end] for box in page.boxes] == [
        "The gateway needs a good connec",
        "tion to the network. Chapter text",
    ]
    assert page.boxes[0].bottom <= page.boxes[1].top


async def test_a_scan_is_read_where_a_page_has_no_text_and_gets_the_time_it_needs():
    data = samples.scan_pdf(samples.picture(LINES), "A page with words of its own.", None)
    async with Parser(timeout_s=1.0, memory_bytes=MEMORY) as parser:
        document = await parser.load("pdf", data, "scan.pdf")
    check_document(document)
    assert [block.page for block in document.blocks] == [1, 2]
    assert document.text.startswith("Invoices are kept for ten years from the end of the year")
    assert [(note.page, note.reason) for note in document.notes] == [(1, "text_recognised")]
    (box, *_) = document.boxes
    assert (box.page, box.left, box.top) == (1, pytest.approx(50, abs=6), pytest.approx(100, abs=8))
    assert assess(document) == (1.0, ())


def test_without_the_extra_a_scanned_page_is_told_and_a_scan_asks_for_it(monkeypatch):
    mixed = samples.scan_pdf(samples.picture(LINES), "A page with words of its own.")
    read = loaders.get("pdf").version
    without_recognition(monkeypatch)
    assert loaders.get("pdf").version != read, "installing the extra reads scans anew"
    score, review = assess(load("pdf", mixed, "mixed.pdf"))
    assert score == 0.5
    assert [(page.page, page.reasons) for page in review] == [(1, ("no_text",))]
    with pytest.raises(MissingExtra) as caught:
        load("pdf", samples.scan_pdf(samples.picture(LINES)), "scan.pdf")
    assert "interlock[ocr]" in caught.value.hint


def test_more_pages_than_a_document_has_are_refused():
    with pytest.raises(TooLarge, match="5000 pages"):
        load("pdf", samples.words_pdf(((9, 9, "x"),), pages=5001), "endless.pdf")


PROSE = "The gateway needs a good connection to the network before it can be used by anyone. " * 6


def page_of(text):
    return LoadedDocument(text, (Block("paragraph", Span(0, len(text)), (), 1),), "t", "text/plain", pages=1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        ("合同的期限为三年。任何一方可以提前三十天书面通知对方终止本合同。" * 6, ""),
        ("Der Käufer zahlt 5 €. Größe: 3×4 m, siehe § 12 (a)–(c). " * 6, ""),
        ("Total | 29 | 15% | 2026-01-27 | yes\n" * 20, ""),
        (PROSE.encode().replace(b"e", "é".encode()).decode("latin-1"), "garbled"),
        (PROSE.replace("e", "\ufffd"), "garbled"),
        ("(cid:12)(cid:33) " * 40, "garbled"),
        ("\ue001\ue002 \ue003 " * 40, "garbled"),
        ("### *** ~~~ +++ ### ||| <<< >>> a " * 20, "symbols"),
        (" ".join(PROSE.replace(" ", "")), "loose_letters"),
        (PROSE.replace(" ", ""), "run_together"),
        (PROSE.replace("connection ", "connec- tion ").replace("network ", "net- work ") , "cut_words"),
    ],
)  # fmt: skip
def test_pages_that_a_person_should_look_at_are_told_with_the_reason(text, reason):
    score, review = assess(page_of(text))
    if not reason:
        assert (score, review) == (1.0, ())
    else:
        assert score < 0.6
        assert reason in review[0].reasons
        assert review[0].page == 1


@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), st.integers(1, 3)), max_size=12),
    start=st.integers(0, 300),
    length=st.integers(0, 200),
)
def test_boxes_of_a_span_are_those_that_touch_it(rows, start, length):
    boxes, at, page = [], 0, 1
    for gap, size, step in rows:
        at, page = at + gap, page + step - 1
        boxes.append(Box(at, at + size, page, 10.0, 20.5, 99.9, 30.0))
        at += size
    document = replace(page_of("x" * 10), boxes=tuple(boxes), page_sizes=(PageSize(595.3, 841.9),) * page)
    found = boxes_of(encode_boxes(document), Span(start, start + length)) if boxes else ()
    touched = [box for box in boxes if box.start < start + length and box.end > start]
    assert [box for one in found for box in one.boxes] == touched
    assert all(box.page == one.page for one in found for box in one.boxes)


async def test_a_citation_of_a_pdf_becomes_a_page_and_boxes(house):
    house.write("report.pdf", samples.table_pdf(4))
    house.write("note.md", "# Note\n\nJust words here.")
    await house.ingest(permissions=[{"match": "**", "readers": ["group:staff"]}])
    staff = caller("staff")
    (passage, *_) = await house.search("Part 3 of the plan", staff)
    pages = await house.knowledge.span_boxes(staff, passage.document_id, passage.span, passage.document_digest)
    assert [page.page for page in pages] == [1]
    assert len(pages[0].boxes) > 3
    info = {i.source: i for i in await house.knowledge.documents(staff)}
    assert await house.knowledge.span_boxes(staff, info["note.md"].id, Span(0, 5)) == ()
    for stranger in (caller("others"), OPERATOR, caller("staff", tenant="rival")):
        with pytest.raises(NotFound):
            await house.knowledge.span_boxes(stranger, passage.document_id, passage.span)
    with pytest.raises(NotFound):
        await house.knowledge.span_boxes(staff, passage.document_id, passage.span, "sha256:" + "0" * 64)


async def test_boxes_go_with_their_document_and_with_their_version(house):
    house.write("report.pdf", samples.table_pdf(4))
    await house.ingest()
    (info,) = await house.knowledge.documents(OPERATOR)
    held = {digest async for digest in house.blobs.list(OPERATOR.tenant)}
    assert len(held - {info.raw_digest, info.text_digest}) >= 1
    house.write("report.pdf", samples.table_pdf(4, title="Yearly report"))
    await house.ingest()
    old = await house.knowledge.span_boxes(caller(), info.id, Span(0, 6), info.text_digest)
    new = await house.knowledge.span_boxes(caller(), info.id, Span(0, 6))
    assert old
    assert new
    await house.knowledge.delete(OPERATOR, info.id)
    left = {digest async for digest in house.blobs.list(OPERATOR.tenant)}
    # Snapshots stay: they are facts of the collection, and name digests only.
    for digest in left:
        assert b"documents" in await house.blobs.get(OPERATOR.tenant, digest)


async def test_the_registry_keeps_how_well_a_document_was_read(house):
    house.write("good.md", "# Good\n\n" + PROSE)
    house.write("bad.txt", PROSE.replace("e", "\ufffd"))
    house.write("logo.png", samples.picture(()))
    report = await house.ingest()
    assert (report.failed, report.added, report.skipped) == ((), 2, 1)
    infos = {info.source: info for info in await house.knowledge.documents(OPERATOR)}
    assert (infos["good.md"].quality, infos["good.md"].review) == (1.0, ())
    assert infos["bad.txt"].quality < 0.6
    assert infos["bad.txt"].review[0].reasons == ("garbled",)
    assert (infos["logo.png"].state, infos["logo.png"].review[0].reasons) == ("ok", ("no_text",))
    again = await house.ingest()
    assert (again.unchanged, again.failed, again.passages) == (3, (), 0)


async def test_the_content_decides_where_the_suffix_is_missing_or_wrong(house):
    house.write("report.txt", samples.words_pdf())
    house.write("page.txt", "<html><body><p>Kept as text.</p></body></html>")
    house.write("setup.pdf", b"MZ\x90\x00\x03\x00\x00\x00" + bytes(60) + b"PE\x00\x00" + bytes(4000))
    house.write("NOTES", "The fire drill is on the first Monday of every month, at ten o'clock.\n" * 3)
    house.write("tool", b"\x7fELF\x02\x01\x01" + bytes(9000))
    house.write("font.woff2", b"wOF2\x00\x01\x00\x00" + bytes(range(256)) * 20)
    report = await house.ingest()
    types = {info.source: info.media_type for info in await house.knowledge.documents(OPERATOR)}
    assert types["report.txt"] == "application/pdf"
    assert types["page.txt"] == "text/plain"
    assert types["NOTES"].startswith("text/")
    assert {failure.source: failure.code for failure in report.failed} == {"setup.pdf": "content_mismatch"}
    assert "setup.pdf" in report.failed[0].message
    assert report.skipped == 2
    assert (await house.search("fire drill"))[0].source == "NOTES"
    again = await house.ingest()
    assert (again.unchanged, again.changed, len(again.failed), again.skipped) == (3, 0, 1, 2)


@pytest.mark.parametrize(
    ("file_name", "loader"),
    [
        ("a.PDF", "pdf"),
        ("a.xlsx", "xlsx"),
        ("a.ipynb", "notebook"),
        ("a.tsv", "csv"),
        ("a.rs", "code"),
        ("a.zip", None),
    ],
)
def test_suffixes_find_their_loader(file_name, loader):
    assert find_loader(file_name) == loader
