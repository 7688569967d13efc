r"""Build the PDF and DOCX documents of the handbook from their text sources.

Every file in ``sources/`` is one document, written in a small part of Markdown: headings, paragraphs, bullet lists,
numbered lists, pipe tables and ``\pagebreak``. Its front matter names the target below ``documents/``.

The result is the same bytes on every run with the same versions of reportlab and python-docx: no clock, no random
identifiers. Run it after a change to a source and commit what it writes:

    python examples/handbook/build_documents.py            # write the files
    python examples/handbook/build_documents.py --check    # fail if a committed file differs from its source
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from docx import Document
from docx.shared import Pt
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import (
    ListFlowable,
    ListItem,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
DOCUMENTS = HERE / "documents"

COMPANY = "Northgate Signals Ltd"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)

_HEADING = re.compile(r"^(#{1,3}) (.+)$")
_NUMBERED = re.compile(r"^\d+\. ")


@dataclass
class Block:
    """One piece of a document: ``kind`` is heading, paragraph, bullets, numbers, table or pagebreak."""

    kind: str
    text: str = ""
    level: int = 0
    items: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Source:
    """A parsed source file: its front matter and its blocks in order."""

    meta: dict[str, str]
    blocks: list[Block]


def parse_source(text: str) -> Source:
    """Split front matter from body and the body into blocks."""
    _, front, body = text.split("---\n", 2)
    meta = {}
    for line in front.strip().splitlines():
        key, _, value = line.partition(":")
        meta[key.strip()] = value.strip().strip('"')
    return Source(meta=meta, blocks=list(_blocks(body)))


def _blocks(body: str) -> Iterator[Block]:
    for chunk in re.split(r"\n\s*\n", body.strip()):
        lines = [line.strip() for line in chunk.splitlines()]
        heading = _HEADING.match(lines[0])
        if heading:
            yield Block("heading", text=heading.group(2), level=len(heading.group(1)))
        elif lines[0] == r"\pagebreak":
            yield Block("pagebreak")
        elif lines[0].startswith("|"):
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            yield Block("table", rows=[cells[0], *cells[2:]])
        elif lines[0].startswith("- "):
            yield Block("bullets", items=[line[2:] for line in lines])
        elif _NUMBERED.match(lines[0]):
            yield Block("numbers", items=[_NUMBERED.sub("", line) for line in lines])
        else:
            yield Block("paragraph", text=" ".join(lines))


def build_pdf(source: Source) -> bytes:
    """Set the document on A4 pages with a running footer that carries the page number."""
    sheet = getSampleStyleSheet()
    body = ParagraphStyle("body", parent=sheet["BodyText"], fontName="Helvetica", fontSize=10, leading=14, spaceAfter=6)
    cell = ParagraphStyle("cell", parent=body, fontSize=8.5, leading=11, spaceAfter=0)
    head = ParagraphStyle("head", parent=cell, fontName="Helvetica-Bold")
    flow: list[Any] = []
    for block in source.blocks:
        flow.extend(_pdf_block(block, sheet, body, cell, head))

    def footer(canvas: Any, doc: Any) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 8)
        canvas.setFillColor(colors.HexColor("#555555"))
        canvas.drawString(20 * mm, 12 * mm, f"{COMPANY} | {source.meta['title']} | version {source.meta['version']}")
        canvas.drawRightString(A4[0] - 20 * mm, 12 * mm, f"Page {doc.page}")
        canvas.restoreState()

    buffer = io.BytesIO()
    template = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=18 * mm,
        bottomMargin=22 * mm,
        title=source.meta["title"],
        author=source.meta["owner"],
        subject=f"version {source.meta['version']}",
        invariant=1,
    )
    template.build(flow, onFirstPage=footer, onLaterPages=footer)
    return buffer.getvalue()


def _pdf_block(block: Block, sheet: Any, body: Any, cell: Any, head: Any) -> list[Any]:
    if block.kind == "heading":
        return [Paragraph(escape(block.text), sheet[f"Heading{block.level}"])]
    if block.kind == "pagebreak":
        return [PageBreak()]
    if block.kind in ("bullets", "numbers"):
        items = [ListItem(Paragraph(escape(item), body)) for item in block.items]
        kind = "bullet" if block.kind == "bullets" else "1"
        form = None if block.kind == "bullets" else "%s."
        start = {"start": "•"} if block.kind == "bullets" else {}
        return [
            ListFlowable(items, bulletType=kind, bulletFormat=form, leftIndent=14, bulletFontSize=9, **start),
            Spacer(1, 4),
        ]
    if block.kind == "table":
        data = [
            [Paragraph(escape(value), head if index == 0 else cell) for value in row]
            for index, row in enumerate(block.rows)
        ]
        table = Table(data, repeatRows=1, hAlign="LEFT", colWidths=_column_widths(block.rows, A4[0] - 40 * mm))
        table.setStyle(
            TableStyle(
                [
                    ("GRID", (0, 0), (-1, -1), 0.4, colors.HexColor("#999999")),
                    ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e8edf2")),
                    ("VALIGN", (0, 0), (-1, -1), "TOP"),
                    ("TOPPADDING", (0, 0), (-1, -1), 3),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
                ]
            )
        )
        return [table, Spacer(1, 8)]
    return [Paragraph(escape(block.text), body)]


def _column_widths(rows: list[list[str]], available: float) -> list[float]:
    """Share the width out by the longest cell of each column, so that most rows stay on one line."""
    longest = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    return [available * length / sum(longest) for length in longest]


def build_docx(source: Source) -> bytes:
    """Write a Word document with fixed properties and fixed times inside its zip container."""
    document: Any = Document()
    document.styles["Normal"].font.name = "Calibri"
    document.styles["Normal"].font.size = Pt(11)
    for block in source.blocks:
        if block.kind == "heading":
            document.add_heading(block.text, level=block.level)
        elif block.kind == "pagebreak":
            document.add_page_break()
        elif block.kind in ("bullets", "numbers"):
            style = "List Bullet" if block.kind == "bullets" else "List Number"
            for item in block.items:
                document.add_paragraph(item, style=style)
        elif block.kind == "table":
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
            for row in block.rows:
                for target, value in zip(table.add_row().cells, row, strict=True):
                    target.text = value
            for target in table.rows[0].cells:
                for run in target.paragraphs[0].runs:
                    run.bold = True
            document.add_paragraph("")
        else:
            document.add_paragraph(block.text)
    document.sections[0].footer.paragraphs[0].text = f"{COMPANY}, {source.meta['title']}"

    moment = datetime.fromisoformat(source.meta["effective"])
    properties = document.core_properties
    properties.title = source.meta["title"]
    properties.author = source.meta["owner"]
    properties.last_modified_by = source.meta["owner"]
    properties.comments = ""
    properties.version = source.meta["version"]
    properties.created = moment
    properties.modified = moment
    properties.last_printed = moment
    properties.revision = 1

    buffer = io.BytesIO()
    document.save(buffer)
    return _with_fixed_times(buffer.getvalue())


def _with_fixed_times(data: bytes) -> bytes:
    """Write a zip archive again with one time for all members and nothing taken from the operating system."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for name in sorted(old.namelist(), key=lambda entry: (entry != "[Content_Types].xml", entry)):
            member = zipfile.ZipInfo(name, date_time=ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            new.writestr(member, old.read(name))
    return result.getvalue()


def build_all() -> dict[Path, bytes]:
    """Build every document in memory: target path to content."""
    built = {}
    for path in sorted(SOURCES.glob("*.md")):
        source = parse_source(path.read_text(encoding="utf-8"))
        target = DOCUMENTS / source.meta["target"]
        built[target] = build_pdf(source) if target.suffix == ".pdf" else build_docx(source)
    return built


def main() -> int:
    """Write the documents, or compare them with what is there."""
    parser = argparse.ArgumentParser(description="Build the PDF and DOCX documents of the handbook.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs from its source")
    check = parser.parse_args().check
    different = 0
    for target, content in build_all().items():
        name = target.relative_to(DOCUMENTS).as_posix()
        if check:
            if not target.is_file() or target.read_bytes() != content:
                different += 1
                print(f"differs from its source: {name}")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            print(f"{len(content):7d} bytes  {name}")
    if different:
        print("Run build_documents.py and commit the files that it writes.", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
