"""Word documents: headings, paragraphs, lists, tables and charts in document order."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._archives import OLE, check_archive
from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._charts import add_chart, chart_ids
from interlock.knowledge.loaders._docx_shown import as_shown, has_unseen
from interlock.knowledge.types import LoadedDocument, PageNote

if TYPE_CHECKING:
    from docx.table import Table
    from docx.text.paragraph import Paragraph

__all__ = ["DocxLoader", "plugin"]

_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_MAX_DEPTH = 20
"""Of tables in cells of tables."""
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


class DocxLoader:
    """Text of the body with its notes and boxes; headers, footers, comments, hidden and deleted text are left out."""

    version = "docx/5"
    suffixes = frozenset({".docx"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        if data.startswith(OLE):
            raise InvalidInput(f"the file {name!r} is encrypted or an old .doc", param=name, code="encrypted_document")
        check_archive(data, name)
        document = _open(data, name)
        try:
            as_shown(document)
            notes = [PageNote(0, "hidden_text", 0.0)] if has_unseen(document) else []
        except Exception as error:
            # A crafted package trips over lxml in many ways.
            raise InvalidInput(f"the file {name!r} is damaged", param=name, code="damaged_document") from error
        builder = TextBuilder(name, _WORD)
        for item in document.iter_inner_content():
            if hasattr(item, "rows"):
                _add_table(builder, item)
            else:
                _add_paragraph(builder, item)
            _add_charts(builder, document, item._element, name)
        properties = document.core_properties
        facts = {"author": properties.author, "subject": properties.subject, "category": properties.category}
        metadata = {key: squeeze(str(value))[:1000] for key, value in facts.items() if value}
        return builder.build(metadata=metadata, notes=notes)


# Any: python-docx ships no types.
def _open(data: bytes, name: str) -> Any:
    from docx import Document

    try:
        return Document(io.BytesIO(data))
    except Exception as error:
        # lxml, KeyError, ValueError: whatever a crafted package trips over first.
        raise InvalidInput(f"the file {name!r} is no Word document", param=name, code="damaged_document") from error


def _add_paragraph(builder: TextBuilder, paragraph: Paragraph) -> None:
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    text = squeeze(paragraph.text)
    if found := _HEADING.match(style):
        builder.heading(text, int(found.group(1)) + 1)
    elif style.lower() == "title":
        builder.heading(text, 1)
    elif style.lower().startswith("list") or _is_numbered(paragraph):
        builder.add("list", text)
    else:
        builder.add("paragraph", text)


# Any: python-docx and lxml ship no types.
def _add_charts(builder: TextBuilder, document: Any, element: Any, name: str) -> None:
    parts = document.part.related_parts
    for number in chart_ids(element):
        # A note's relations are its own part's: what is not found here is no chart of the text.
        if number in parts and "chart" in parts[number].content_type:
            add_chart(builder, parts[number].blob, name)


def _is_numbered(paragraph: Paragraph) -> bool:
    properties = paragraph._p.pPr  # python-docx has no public way to ask for numbering
    return properties is not None and properties.numPr is not None


def _add_table(builder: TextBuilder, table: Table, depth: int = 0) -> None:
    """The rows; tables that stand in cells follow as tables of their own."""
    rows: list[list[str]] = []
    inner: list[Table] = []
    for row in table.rows:
        cells: list[str] = []
        previous: object = None
        for cell in row.cells:
            element = cell._tc  # merged cells repeat the same element
            if element is not previous:
                cells.append(squeeze(cell.text))
                inner += cell.tables
            previous = element
        if any(cells):
            rows.append(cells)
    widths = {len(row) for row in rows}
    builder.table(rows, has_header=len(rows) > 1 and len(widths) == 1 and len(rows[0]) > 1 and all(rows[0]))
    if depth < _MAX_DEPTH:
        for found in inner:
            _add_table(builder, found, depth + 1)


plugin = DocxLoader()
