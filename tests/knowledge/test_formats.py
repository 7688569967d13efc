"""Office, mail, data and code formats: each runs the conformance suite, and reads as people would read it."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders import loaders
from interlock.testing.loaders import LoaderConformance, check_document

from . import format_samples as samples
from .samples import zip_file


def texts(document):
    return [document.text[block.span.start : block.span.end] for block in document.blocks]


def load(name, data, file_name):
    document = loaders.get(name).load(data, file_name)
    check_document(document)
    return document


def refusal(name, data, file_name):
    with pytest.raises(InvalidInput) as caught:
        load(name, data, file_name)
    assert caught.value.param == file_name
    return caught.value.code


class TestXlsx(LoaderConformance):
    name, file_name = "xlsx", "plans.xlsx"
    words = ("Plans", "Price list 2026", "Team | 29 | 15% | 2026-01-27 | yes", "Stores", "Köln | 4")

    def sample(self):
        return samples.xlsx_file()

    def test_sheets_are_pages_and_tables_on_one_sheet_stay_apart(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert texts(document) == [
            "Plans",
            "Price list 2026",
            "Plan | Price | Discount | From | Active",
            "Team | 29 | 15% | 2026-01-27 | yes",
            "Starter | 9.5 |  | 2026-02-01 08:30 | no",
            "Second | Table",
            "x | 3",
            "Stores",
            "City | Rooms",
            "Köln | 4",
        ]
        assert document.blocks[3].labelled == "Plan: Team | Price: 29 | Discount: 15% | From: 2026-01-27 | Active: yes"
        assert document.blocks[6].labelled == "Second: x | Table: 3"
        assert (document.pages, document.blocks[-1].page, document.blocks[-1].headings) == (2, 2, ("Stores",))
        assert "secret" not in document.text

    def test_many_rows_are_read_and_too_many_refused(self, monkeypatch):
        import openpyxl

        from interlock.knowledge.loaders import xlsx

        book = openpyxl.Workbook()
        for number in range(3000):
            book.active.append([f"row {number}", number, number])
        book.active["XFD1"] = " "  # a stray blank far to the right
        stream = io.BytesIO()
        book.save(stream)
        assert len(load("xlsx", stream.getvalue(), "a.xlsx").blocks) == 3001
        monkeypatch.setattr(xlsx, "_MAX_CELLS", 8000)
        with pytest.raises(TooLarge):
            load("xlsx", stream.getvalue(), "a.xlsx")

    def test_a_password_or_an_old_file_is_named(self):
        assert refusal("xlsx", samples.msg_file(), "a.xlsx") == "encrypted_document"


class TestPptx(LoaderConformance):
    name, file_name = "pptx", "deck.pptx"
    words = ("Rollout plan", "Start in May", "Costs", "Region | Budget", "North | 120", "without tax", "exchange rate")

    def sample(self):
        return samples.pptx_file()

    def test_slides_are_pages_read_from_top_to_bottom(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert [b.kind for b in document.blocks] == [
            "heading", "list", "list", "heading", "table_row", "table_row", "table_row", "paragraph", "paragraph",
        ]  # fmt: skip
        assert (document.pages, document.blocks[5].page) == (2, 2)
        assert document.blocks[5].labelled == "Region: North | Budget: 120"
        assert document.blocks[8].headings == ("Costs",)


class TestOdt(LoaderConformance):
    name, file_name = "odf", "leave.odt"
    words = (
        "Leave policy",
        "Staff get 30 days a year.",
        "Carry over",
        "Five days",
        "A | 30",
        "A boxed remark",
        "Closing",
    )

    def sample(self):
        return samples.odt_file()

    def test_structure_is_kept(self):
        document = self.loader.load(self.sample(), self.file_name)
        kinds = [
            "heading",
            "paragraph",
            "paragraph",
            "heading",
            "list",
            "table_row",
            "table_row",
            "table_row",
            "paragraph",
            "paragraph",
        ]
        assert [b.kind for b in document.blocks] == kinds
        assert document.blocks[6].labelled == "Grade: A | Days: 30"
        assert document.blocks[4].headings == ("Leave policy", "Carry over")
        assert (document.metadata, document.title) == ({"author": "Ada"}, "Leave policy")

    def test_sheets_and_slides_are_pages(self):
        sheets = load("odf", samples.ods_file(), "budget.ods")
        assert texts(sheets) == ["Budget", "Item | Cost", "Rent | 900", "Team", "Name | Role", "Ada | Lead"]
        assert (sheets.pages, sheets.blocks[-1].page, sheets.title) == (2, 2, "budget")
        slides = load("odf", samples.odp_file(), "vision.odp")
        assert texts(slides) == ["Vision", "Grow slowly.", "Slide 2", "No title here."]
        assert (slides.pages, slides.blocks[-1].page) == (2, 2)

    def test_encryption_and_entities_are_refused(self):
        locked = samples.odf_file("text", "<text:p>x</text:p>", manifest="<m><encryption-data/></m>")
        assert refusal("odf", locked, "a.odt") == "encrypted_document"
        bomb = b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
        assert refusal("odf", zip_file({"content.xml": bomb}), "a.odt") == "hostile_document"

    def test_repeated_rows_cannot_fill_the_memory(self):
        cell = "<table:table-cell><text:p>x</text:p></table:table-cell>"
        row = f'<table:table-row table:number-rows-repeated="1000000">{cell}'
        data = samples.odf_file(
            "spreadsheet", f'<table:table table:name="T">{(row + "</table:table-row>") * 3}</table:table>'
        )
        with pytest.raises(TooLarge):
            load("odf", data, "a.ods")


class TestEpub(LoaderConformance):
    name, file_name = "epub", "guide.epub"
    words = ("Chapter one", "It began in May.", "Chapter two", "An item")

    def sample(self):
        return samples.epub_file()

    def test_the_spine_gives_the_order_and_the_package_the_facts(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert document.title == "The Field Guide"
        assert document.metadata == {"author": "A. Author", "language": "en"}
        assert document.blocks[1].headings == ("Chapter one",)

    def test_a_page_outside_the_book_is_refused(self):
        assert refusal("epub", samples.epub_file({"../../../../etc/passwd": "x"}), "a.epub") == "hostile_document"

    def test_copy_protection_is_named(self):
        assert refusal("epub", samples.epub_file(rights=b"<e>adept</e>"), "a.epub") == "encrypted_document"


class TestRtf(LoaderConformance):
    name, file_name = "rtf", "safety.rtf"
    words = (
        "Fire safety",
        "The café opens at 8 – not before.",
        "Call the desk",
        "Привет",
        "Floor | Exit",
        "see the plan",
    )

    def sample(self):
        return samples.RTF

    def test_styles_lists_and_tables_are_told(self):
        document = self.loader.load(self.sample(), self.file_name)
        kinds = ["heading", "paragraph", "heading", "list", "paragraph", "table_row", "table_row", "paragraph"]
        assert [b.kind for b in document.blocks] == kinds
        assert document.title == "Safety rules"
        assert document.blocks[3].headings == ("Fire safety", "Contacts")
        assert document.blocks[6].labelled == "Floor: First | Exit: North"
        for unwanted in ("hidden", "Writer", "HYPERLINK", "Arial"):
            assert unwanted not in document.text


class TestEml(LoaderConformance):
    name, file_name = "eml", "invoice.eml"
    words = ("Invoice für May", "From: Ada Example", "due grüße.", "Please pay by Friday.", "Attachments: invoice.pdf")

    def sample(self):
        return samples.EML

    def test_people_date_and_attachments_are_facts(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert document.metadata == {
            "from": "Ada Example <ada@example.com>",
            "to": "Jörg <joerg@example.com>",
            "cc": "team@example.com",
            "date": "2026-05-12T09:30:00+02:00",
            "attachments": "invoice.pdf",
        }
        assert "quoted" not in document.text
        assert "HTML version" not in document.text

    def test_html_is_read_when_there_is_no_plain_text(self):
        document = load("eml", samples.HTML_EML, "order.eml")
        assert document.blocks[-1].labelled == "Item: Lamp | Count: 2"
        assert document.blocks[-1].headings == ("Order 17", "Thanks")
        assert "evil" not in document.text


class TestMbox(LoaderConformance):
    name, file_name = "mbox", "archive.mbox"
    words = ("Invoice für May", "due grüße", "Re: lunch", "See you at noon.", "From here it is", "From the desk of Bob")

    def sample(self):
        return samples.MBOX

    def test_every_message_is_a_section(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert [t for b, t in zip(document.blocks, texts(document), strict=True) if b.kind == "heading"] == [
            "Invoice für May",
            "Re: lunch",
        ]
        assert (document.title, document.metadata) == ("archive", {"messages": "2"})


class TestMsg(LoaderConformance):
    name, file_name = "msg", "plan.msg"
    words = ("Quarterly plan", "Ada Example <ada@example.com>", "the plan is ready.", "Attachments: plan.xlsx")

    def sample(self):
        return samples.msg_file()

    def test_people_and_date_are_facts(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert document.metadata == {
            "from": "Ada Example <ada@example.com>",
            "to": "Jörg; Team",
            "date": "2026-05-12T07:30:00+00:00",
            "attachments": "plan.xlsx",
        }

    def test_a_body_only_in_html_or_rtf_is_read(self):
        page = load("msg", samples.msg_file(body="", html="<p>Only <b>HTML</b> here.</p>"), "a.msg")
        assert "Only HTML here." in page.text
        rich = load("msg", samples.msg_file(body="", rtf=rb"{\rtf1\ansi Only rich text here.\par}"), "a.msg")
        assert "Only rich text here." in rich.text

    def test_compressed_rtf_is_the_one_of_the_specification(self):
        from interlock.knowledge.loaders.msg import _decompressed

        # The example of [MS-OXRTFCP] 3.1.1.
        packed = bytes.fromhex(
            "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
        )
        assert _decompressed(packed) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


class TestNotebook(LoaderConformance):
    name, file_name = "notebook", "churn.ipynb"
    words = ("Churn model", "We fit a model.", "print(score)", "0.91", "ValueError: no rows", "Result", "Good enough.")

    def sample(self):
        return samples.NOTEBOOK

    def test_cells_keep_their_kind(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert [b.kind for b in document.blocks[:4]] == ["heading", "paragraph", "code", "code"]
        assert document.blocks[-1].headings == ("Churn model", "Result")
        assert document.metadata == {"language": "python"}


class TestJson(LoaderConformance):
    name, file_name = "json", "catalogue.json"
    words = ("title: Service catalogue", "owner", "team: Platform", "tags: core, paid", "services", "api | 1 | true")

    def sample(self):
        return samples.JSON

    def test_records_are_rows_and_prose_stays_prose(self):
        document = self.loader.load(self.sample(), self.file_name)
        row = next(block for block in document.blocks if "batch" in block.labelled)
        assert (row.labelled, row.headings) == ("name: batch | tier: 3 | paged: false", ("services",))
        assert document.blocks[-1].headings == ("notes", "Upgrade")
        assert document.blocks[-1].kind == "paragraph"

    def test_lines_are_records(self):
        document = load("json", samples.JSONL, "faq.jsonl")
        assert document.blocks[2].labelled == "id: 2 | question: Trial? | answer: 30 days"

    def test_lines_are_told_without_a_suffix(self):
        assert load("json", samples.JSONL, "export").blocks[2].labelled.startswith("id: 2")

    def test_a_bad_line_is_named_by_its_number(self):
        with pytest.raises(InvalidInput, match="line 2"):
            load("json", b'{"a": 1}\n{"a": \n', "f.jsonl")

    def test_deep_nesting_ends(self):
        deep = json.loads("[" * 200 + "1" + "]" * 200)
        assert load("json", json.dumps({"a": deep}).encode(), "d.json").text
        assert refusal("json", b"[" * 100_000 + b"]" * 100_000, "d.json") == "damaged_document"


class TestXml(LoaderConformance):
    name, file_name = "xml", "manual.xml"
    words = ("Pump manual", "Start", "Open the red valve slowly.", "step: Press start", "Seal | 4", "Gasket | 7")

    def sample(self):
        return samples.XML

    def test_titles_are_headings_and_like_records_rows(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert document.blocks[2].headings == ("Pump manual", "Start")
        assert document.blocks[-1].labelled == "name: Gasket | price: 7"

    def test_entities_are_refused_and_depth_is_bounded(self):
        bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
        assert refusal("xml", bomb, "a.xml") == "hostile_document"
        with pytest.raises(TooLarge):
            load("xml", b"<a>" * 5000 + b"x" + b"</a>" * 5000, "a.xml")


PACKED = {
    "xlsx": ("a.xlsx", samples.xlsx_file),
    "pptx": ("a.pptx", samples.pptx_file),
    "odf": ("a.odt", samples.odt_file),
    "epub": ("a.epub", samples.epub_file),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_formats_refuse_bombs_paths_and_entities(name):
    file_name, sample = PACKED[name]
    with zipfile.ZipFile(io.BytesIO(sample())) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    bomb = zip_file(members | {"media/large.bin": b"0" * 50_000_000})
    assert refusal(name, bomb, file_name) == "archive_too_large"
    for outside in ("../../etc/cron.d/x", "/etc/passwd", "a/../../b", "C:/windows/x", "..\\x"):
        assert refusal(name, zip_file(members | {outside: b"x"}), file_name) == "hostile_document"
    entities = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
    part = next(member for member in members if member.endswith(".xml"))
    assert refusal(name, zip_file(members | {part: entities}), file_name) == "hostile_document"


def test_a_mail_of_endless_parts_is_refused():
    part = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    head = b'From: a@example.com\r\nDate: x\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    assert refusal("eml", head + part * 3000 + b"--b--\r\n", "a.eml") == "hostile_document"


def test_rich_text_nested_without_end_is_refused_and_raw_bytes_are_passed_over():
    assert refusal("rtf", b"{\\rtf1 " + b"{" * 20_000, "a.rtf") == "hostile_document"
    document = load("rtf", b"{\\rtf1 before {\\pict\\bin4 }}}}} after\\par}", "a.rtf")
    assert document.text == "before after"


class TestCode(LoaderConformance):
    name, file_name = "code", "reader.py"
    words = ("Reads things.", "# Why it is here.", "@final", "class Reader", "def load", "def main")

    def sample(self):
        return samples.PYTHON

    def test_blocks_are_symbols_with_their_comments_and_docstrings(self):
        document = self.loader.load(self.sample(), self.file_name)
        assert document.text == self.sample().decode()
        assert [b.headings for b in document.blocks] == [(), ("Reader",), ("Reader", "load"), ("main",)]
        assert texts(document)[1].startswith("# Why it is here.\n@final\nclass Reader")
        assert '"""Load a path."""' in texts(document)[2]

    @pytest.mark.parametrize(
        ("suffix", "source", "names"),
        [
            (".ts", "/** A */\nexport class A {\n  m() {}\n}\nexport const load = () => 1;\n", ["A", "A › m", "load"]),
            (".tsx", "function App() { return <b>x</b>; }\n", ["App"]),
            (".js", "export default function go() {}\nclass B { run() {} }\n", ["go", "B", "B › run"]),
            (".go", "package p\n\n// Do does.\nfunc (t *T) Do() error { return nil }\n", ["", "T › Do"]),
            (".rs", "/// Doc\nstruct S { a: i32 }\nimpl S { fn new() {} }\n", ["S", "S › new"]),
            (".java", "class A { void m() { } class In { void q() { } } }\n", ["A", "A › m", "A › In", "A › In › q"]),
            (".c", "#include <x.h>\n/* doc */\nstatic int *f(int a) { return 0; }\n", ["", "f"]),
            (".cpp", "namespace n { class A { void m() { } }; }\n", ["n", "n › A", "n › A › m"]),
            (".cs", "namespace N { class A { public void M() { } } }\n", ["N", "N › A", "N › A › M"]),
            (".rb", "module M\n  class A\n    def m; 1; end\n  end\nend\n", ["M", "M › A", "M › A › m"]),
            (".php", "<?php\nclass A { public function m() { return 1; } }\n", ["", "A", "A › m"]),
            (".sh", "set -e\n# doc\ngo() {\n  echo hi\n}\n", ["", "go"]),
            (".sql", "CREATE TABLE plans (id int);\nCREATE VIEW v AS SELECT 1;\n", ["plans", "v"]),
            (".kt", "class A { fun m(): Int { return 1 } }\n", ["A", "A › m"]),
            (".swift", "class A { func m() -> Int { return 1 } }\n", ["A", "A › m"]),
            (".scala", "object O { def x = 2 }\n", ["O", "O › x"]),
        ],
    )  # fmt: skip
    def test_symbols_of_every_language_are_found(self, suffix, source, names):
        document = load("code", source.encode(), f"f{suffix}")
        assert [" › ".join(b.headings) for b in document.blocks] == names

    def test_characters_outside_ascii_keep_the_offsets_right(self):
        document = load("code", 'a = "größer 漢字 🙂"\n\ndef später():\n    return 1\n'.encode(), "f.py")
        assert texts(document) == ['a = "größer 漢字 🙂"', "def später():\n    return 1"]
