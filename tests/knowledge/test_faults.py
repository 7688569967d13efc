"""What goes wrong around an ingest: each is told by name, stops nothing else, and loses nothing."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta

import pytest

from interlock.core.clock import now
from interlock.core.errors import Unavailable
from interlock.knowledge import parse_spec
from interlock.knowledge.freshness import is_due, status_of
from interlock.knowledge.source_store import SourceState
from interlock.stores.index.sqlite import SqliteIndex

from .conftest import OPERATOR, caller

REFUNDS = "# Refunds\n\nRefunds are paid within 14 days."


def archive(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return stream.getvalue()


async def test_hostile_and_enormous_files_are_each_one_line_and_the_rest_is_found(house):
    types = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    laughs = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;">]><a>&y;</a>'
    house.write("good.md", REFUNDS)
    with house.write("half-a-gigabyte.txt", b"The first words.\n").open("r+b") as file:
        file.truncate(500_000_000)
    house.write("bomb.docx", archive({"[Content_Types].xml": types, "word/document.xml": b"<a>" + b" " * 30_000_000}))
    house.write("laughs.xml", laughs)
    house.write("laughs.docx", archive({"[Content_Types].xml": types, "word/document.xml": laughs}))
    house.write("outside.docx", archive({"[Content_Types].xml": types, "../../../etc/cron.d/x": "* * * * * root"}))
    report = await house.ingest()
    assert report.added == 1
    assert {f.source: f.code for f in report.failed} == {
        "half-a-gigabyte.txt": "request_too_large",
        "bomb.docx": "archive_too_large",
        "laughs.xml": "hostile_document",
        "laughs.docx": "hostile_document",
        "outside.docx": "hostile_document",
    }
    assert all(f.source in f.message for f in report.failed)
    assert [p.source for p in await house.search("when are refunds paid")] == ["good.md"]
    assert not list(house.folder.parent.rglob("cron.d"))


def endless_pdf(pages):
    """A PDF of empty pages, as small as they can be."""
    numbers = range(3, 3 + pages)
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {pages}/Kids[{kids}]>>"]
    objects += ["<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"] * pages
    data, places = b"%PDF-1.4\n", []
    parts = [data]
    at = len(data)
    for number, content in enumerate(objects, 1):
        part = f"{number} 0 obj{content}endobj\n".encode()
        places.append(at)
        parts.append(part)
        at += len(part)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    parts.append(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}".encode())
    parts.append(f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{at}\n%%EOF\n".encode())
    return b"".join(parts)


async def test_a_pdf_of_ten_thousand_pages_is_refused_with_advice(house):
    house.write("good.md", REFUNDS)
    house.write("endless.pdf", endless_pdf(10_000))
    report = await house.ingest()
    (failure,) = report.failed
    assert (failure.source, failure.code) == ("endless.pdf", "request_too_large")
    assert "5000 pages" in failure.message
    assert "split it" in failure.message
    assert [p.source for p in await house.search("when are refunds paid")] == ["good.md"]


@pytest.mark.parametrize("where", ["head", "middle", "cut"])
async def test_a_damaged_index_is_noticed_and_built_again_without_embedding(house, tmp_path, where):
    for number in range(60):
        house.write(f"n{number}.md", f"# Note {number}\n\nThe word of note {number} is wort{number}. " + "More. " * 200)
    await house.ingest()
    if not isinstance(house.index._inner, SqliteIndex):
        # PostgreSQL looks after its own pages: nothing to damage, and nothing is built again.
        await house.index.check(caller().tenant)
        assert (await house.ingest()).restored == 0
        return
    await house.index.close()
    (file,) = (tmp_path / "index").glob("*.sqlite")
    data = file.read_bytes()
    if where == "head":
        file.write_bytes(b"\x00" * 4096 + data[4096:])
    elif where == "middle":
        third = len(data) // 3
        file.write_bytes(data[:third] + b"\xa5" * third + data[2 * third :])
    else:
        file.write_bytes(data[: len(data) // 2])
    house.index._inner = SqliteIndex(tmp_path / "index")
    with pytest.raises(Unavailable) as caught:
        await house.index.check(caller().tenant)
    assert caught.value.code == "corrupt_index"
    assert "interlock ingest" in caught.value.hint
    embedded = len(house.embedder.texts)
    report = await house.ingest()
    assert (report.restored, report.failed) == (60, ())
    assert len(house.embedder.texts) == embedded, "nothing is embedded again"
    for number in (0, 30, 59):
        assert f"n{number}.md" in {p.source for p in await house.search(f"wort{number}", mode="lexical")}
    await house.index.check(caller().tenant)


def source_of(tmp_path, **more):
    values = {"collection": "docs", "sources": [{"path": "documents", **more}], "permissions": []}
    return parse_spec(values, base=tmp_path, name="docs.yaml").sources[0]


def test_a_clock_that_was_set_back_stops_no_schedule_and_no_alarm(tmp_path):
    at = now()
    ahead = at + timedelta(days=400)
    source = source_of(tmp_path, schedule="1h", fresh_within="2h")
    state = SourceState(attempted_at=ahead, synced_at=ahead, full_at=ahead)
    assert is_due(source, state, at), "the next run must not wait for the clock to come round"
    assert status_of(source, state, collection="docs", documents=1, failed=0, held=0, at=at).stale is True
    unscheduled = source_of(tmp_path)
    assert not is_due(unscheduled, state, at)
    assert is_due(unscheduled, SourceState(attempted_at=ahead, synced_at=ahead, wanted_at=at), at), "a note of change"
    a_little = at + timedelta(seconds=20)
    state = SourceState(attempted_at=a_little, synced_at=a_little)
    assert not is_due(source, state, at), "machines differ by seconds"
    assert status_of(source, state, collection="docs", documents=1, failed=0, held=0, at=at).stale is False


async def test_a_run_after_the_clock_was_set_back_mirrors_and_is_known_as_run(house):
    house.write("a.md", REFUNDS)
    spec = house.spec(sources=[{"path": "documents", "name": "files", "schedule": "1h"}])
    await house.knowledge.ingest(OPERATOR, spec)
    ahead = now() + timedelta(days=400)
    # As a run leaves it while the clock is ahead.
    states = house.knowledge._sources
    await states.note("acme", "docs", "files", attempted_at=ahead, synced_at=ahead, full_at=ahead)
    assert await house.knowledge.due(OPERATOR, spec) == ["files"]
    house.write("a.md", REFUNDS.replace("14", "15"))
    report = await house.knowledge.ingest(OPERATOR, spec)
    assert report.changed == 1
    assert await house.knowledge.due(OPERATOR, spec) == []
    (found,) = await house.search("refunds")
    assert "15 days" in found.text
