"""Small files of the office, mail and data formats, made when a test asks for them."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, date, datetime
from functools import cache

from .compound import compound_file
from .samples import zip_file


@cache
def xlsx_file():
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Plans"
    for row in [
        ["Price list 2026"],
        ["Plan", "Price", "Discount", "From", "Active"],
        ["Team", 29.0, 0.15, date(2026, 1, 27), True],
        ["Starter", 9.5, None, datetime.fromisoformat("2026-02-01 08:30"), False],
    ]:
        sheet.append(row)
    sheet["C3"].number_format = "0%"
    sheet["A7"] = "Second"
    sheet["B7"] = "Table"
    sheet["A8"] = "x"
    sheet["B8"] = 3
    other = book.create_sheet("Stores")
    other.append(["City", "Rooms"])
    other.append(["Köln", 4])
    hidden = book.create_sheet("Hidden")
    hidden.append(["secret"])
    hidden.sheet_state = "hidden"
    return _saved(book)


def _saved(document):
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


@cache
def pptx_file():
    import pptx
    from pptx.util import Inches

    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Rollout plan"
    first.placeholders[1].text = "Start in May\nThree regions"
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Costs"
    low = second.shapes.add_textbox(Inches(1), Inches(5), Inches(4), Inches(1))
    low.text_frame.text = "All prices without tax."
    table = second.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for row, cells in enumerate([("Region", "Budget"), ("North", "120"), ("South", "80")]):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    second.notes_slide.notes_text_frame.text = "Mention the exchange rate."
    return _saved(deck)


_ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:meta="urn:oasis:names:tc:opendocument:xmlns:meta:1.0"'
)


def odf_file(kind, body, manifest="<manifest/>", styles=""):
    content = (
        f"<office:document-content {_ODF}>{styles}<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    )
    meta = f"<office:document-meta {_ODF}><office:meta><dc:creator>Ada</dc:creator></office:meta>"
    return zip_file(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}".encode(),
            "content.xml": f"{content}</office:document-content>".encode(),
            "meta.xml": f"{meta}</office:document-meta>".encode(),
            "META-INF/manifest.xml": manifest.encode(),
        }
    )


def table_xml(name, rows):
    lines = "".join(
        "<table:table-row>"
        + "".join(f"<table:table-cell><text:p>{cell}</text:p></table:table-cell>" for cell in row)
        + '<table:table-cell table:number-columns-repeated="16000"/></table:table-row>'
        for row in rows
    )
    rest = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row>'
    return f'<table:table table:name="{name}">{lines}{rest}</table:table>'


@cache
def odt_file():
    return odf_file(
        "text",
        '<text:h text:outline-level="1">Leave policy</text:h><text:p>Staff get<text:s text:c="2"/>30 days'
        "<text:note><text:note-body><text:p>A footnote</text:p></text:note-body></text:note> a year.</text:p>"
        '<text:h text:outline-level="2">Carry over</text:h><text:list><text:list-item><text:p>Five days</text:p>'
        "</text:list-item></text:list>" + table_xml("T", [["Grade", "Days"], ["A", "30"], ["B", "28"]]) + "<text:p>"
        "Closing <draw:frame><draw:text-box><text:p>A boxed remark.</text:p></draw:text-box></draw:frame>words."
        "</text:p>",
    )


@cache
def ods_file():
    return odf_file(
        "spreadsheet",
        table_xml("Budget", [["Item", "Cost"], ["Rent", "900"]])
        + table_xml("Team", [["Name", "Role"], ["Ada", "Lead"]]),
    )


@cache
def odp_file():
    def frame(kind, text):
        box = f"<draw:text-box><text:p>{text}</text:p></draw:text-box>"
        return f'<draw:frame presentation:class="{kind}">{box}</draw:frame>'

    return odf_file(
        "presentation",
        f'<draw:page draw:name="page1">{frame("title", "Vision")}{frame("outline", "Grow slowly.")}</draw:page>'
        f'<draw:page draw:name="page2">{frame("outline", "No title here.")}</draw:page>',
    )


def epub_file(pages=None, rights=None):
    pages = pages or {
        "text/one.xhtml": "<html><body><h1>Chapter one</h1><p>It began in May.</p></body></html>",
        "text/two.xhtml": "<html><body><h1>Chapter two</h1><ul><li>An item</li></ul></body></html>",
    }
    items = "".join(
        f'<item id="i{n}" href="{path}" media-type="application/xhtml+xml"/>' for n, path in enumerate(pages)
    )
    refs = "".join(f'<itemref idref="i{n}"/>' for n in range(len(pages)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>The Field Guide</dc:title><dc:creator>A. Author</dc:creator><dc:language>en</dc:language></metadata>"
        f"<manifest>{items}</manifest><spine>{refs}</spine></package>"
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    members = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": container.encode(),
        "OEBPS/book.opf": package.encode(),
        **{f"OEBPS/{path}": page.encode() for path, page in pages.items()},
    }
    if rights:
        members["META-INF/encryption.xml"] = rights
    return zip_file(members)


RTF = rb"""{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fnil\fcharset0 Arial;}{\f1\fnil\fcharset204 Arial Cyr;}}
{\stylesheet{\s0 Normal;}{\s1\outlinelevel0 heading 1;}{\s2 heading 2;}}
{\info{\title Safety rules}{\author Ops}}{\*\generator Writer;}
\pard\s1 Fire safety\par
\pard Keep doors closed. The caf\'e9 opens at 8 \u8211- not before.{\v hidden words}\par
\pard\s2 Contacts\par
\pard{\pntext\'b7\tab}\ls1 Call the desk\par
\pard {\f1 \'cf\'f0\'e8\'e2\'e5\'f2}\par
\trowd\cellx1000\cellx2000\pard\intbl Floor\cell Exit\cell\row
\trowd\cellx1000\cellx2000\pard\intbl First\cell North\cell\row
\pard After the table {\field{\*\fldinst HYPERLINK "http://x"}{\fldrslt see the plan}}.\par
}"""

EML = b"""From: Ada Example <ada@example.com>\r
To: =?utf-8?q?J=C3=B6rg?= <joerg@example.com>\r
Cc: team@example.com\r
Subject: =?utf-8?q?Invoice_f=C3=BCr_May?=\r
Date: Tue, 12 May 2026 09:30:00 +0200\r
Message-ID: <1@example.com>\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary="b"\r
\r
--b\r
Content-Type: multipart/alternative; boundary="c"\r
\r
--c\r
Content-Type: text/plain; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
The invoice for May is due gr=FC=DFe.\r
\r
> quoted from before\r
\r
Please pay by Friday.\r
--c\r
Content-Type: text/html; charset=utf-8\r
\r
<p>HTML version</p>\r
--c--\r
--b\r
Content-Type: application/pdf; name="invoice.pdf"\r
Content-Disposition: attachment; filename="invoice.pdf"\r
Content-Transfer-Encoding: base64\r
\r
JVBERi0=\r
--b--\r
"""

HTML_EML = b"""From: shop@example.com\r
To: ada@example.com\r
Subject: Order 17\r
Date: Tue, 12 May 2026 09:30:00 +0000\r
Content-Type: text/html; charset=utf-8\r
\r
<html><body><h1>Thanks</h1><table><tr><th>Item</th><th>Count</th></tr><tr><td>Lamp</td><td>2</td></tr></table>
<script>evil()</script></body></html>\r
"""

MBOX = (
    b"From ada@example.com Tue May 12 09:30:00 2026\n" + EML.replace(b"\r\n", b"\n") + b"\n"
    b"From bob@example.com Wed May 13 10:00:00 2026\n"
    b"From: bob@example.com\nTo: ada@example.com\nSubject: Re: lunch\nDate: Wed, 13 May 2026 10:00:00 +0000\n\n"
    b"See you at noon.\n\nFrom here it is a short walk.\n>From the desk of Bob\n\n"
)


def msg_file(*, body="Dear team,\n\nthe plan is ready.", html="", rtf=b""):
    def wide(text):
        return text.encode("utf-16-le")

    stamp = int((datetime(2026, 5, 12, 7, 30, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds() * 10**7)
    streams = {
        "__properties_version1.0": bytes(32) + struct.pack("<HHIQ", 0x0040, 0x0E06, 6, stamp),
        "__substg1.0_0037001F": wide("Quarterly plan"),
        "__substg1.0_0C1A001F": wide("Ada Example"),
        "__substg1.0_0C1F001F": wide("ada@example.com"),
        "__substg1.0_0E04001F": wide("Jörg; Team"),
        "__attach_version1.0_#00000000/__substg1.0_3707001F": wide("plan.xlsx"),
        "__attach_version1.0_#00000000/__substg1.0_37010102": b"PK" * 3000,
    }
    if body:
        streams["__substg1.0_1000001F"] = wide(body)
    if html:
        streams["__substg1.0_10130102"] = html.encode()
    if rtf:
        streams["__substg1.0_10090102"] = struct.pack("<IIII", len(rtf) + 12, len(rtf), 0x414C454D, 0) + rtf
    return compound_file(streams)


NOTEBOOK = json.dumps(
    {
        "nbformat": 4,
        "metadata": {"kernelspec": {"language": "python"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# Churn model\n", "\n", "We fit a **model**."]},
            {
                "cell_type": "code",
                "source": "print(score)",
                "outputs": [
                    {"output_type": "stream", "text": ["0.91\n"]},
                    {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}},
                    {"output_type": "error", "ename": "ValueError", "evalue": "no rows", "traceback": ["x" * 9]},
                ],
            },
            {"cell_type": "markdown", "source": "## Result\n\nGood enough."},
        ],
    }
).encode()

JSON = json.dumps(
    {
        "title": "Service catalogue",
        "owner": {"team": "Platform", "mail": "platform@example.com"},
        "tags": ["core", "paid"],
        "services": [{"name": "api", "tier": 1, "paged": True}, {"name": "batch", "tier": 3, "paged": False}],
        "notes": [{"title": "Upgrade", "text": "Long words. " * 40}],
    }
).encode()

JSONL = b"""{"id": 1, "question": "Refund?", "answer": "Within 14 days"}

{"id": 2, "question": "Trial?", "answer": "30 days"}
"""

XML = b"""<?xml version="1.0" encoding="utf-8"?>
<!-- a comment --><manual><title>Pump manual</title>
<chapter><title>Start</title><para>Open the <b>red</b> valve slowly.</para><step>Press start</step></chapter>
<parts><part><name>Seal</name><price>4</price></part><part><name>Gasket</name><price>7</price></part></parts>
</manual>"""

PYTHON = b'''"""Reads things."""
import os

LIMIT = 3


# Why it is here.
@final
class Reader(Base):
    """Reads one thing."""

    size = 1

    def load(self, path):
        """Load a path."""
        return os.read(path)


def main():
    return Reader()
'''
