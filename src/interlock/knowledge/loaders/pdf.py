"""PDF by PDFium: pages, headings by font size, table rows by gaps, repeated headers and footers dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._pdf_layout import Line, add_lines, without_repeats
from interlock.knowledge.types import LoadedDocument

if TYPE_CHECKING:
    import pypdfium2 as pdfium

__all__ = ["PdfLoader", "plugin"]

_PDFIUM_HYPHENS = frozenset({2, 0xFFFE})
"""What PDFium gives for a hyphen at a line end."""
_MAX_PAGES = 5_000
_MAX_PAGE_CHARACTERS = 400_000


class PdfLoader:
    """Reads the text layer in the document's own order; a scan without one is an error, not an empty document."""

    version = "pdf/1"
    suffixes = frozenset({".pdf"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        document = _open(data, name)
        try:
            if len(document) > _MAX_PAGES:
                raise TooLarge(f"the file {name!r} has more than {_MAX_PAGES} pages", param=name, hint="split it")
            pages = [_lines(document, number, name) for number in range(len(document))]
            title = str(document.get_metadata_dict().get("Title") or "")
        finally:
            document.close()
        builder = TextBuilder(name, "application/pdf")
        add_lines(builder, without_repeats(pages))
        if builder.is_empty:
            raise InvalidInput(
                f"the file {name!r} has no text layer (a scan?)",
                param=name,
                code="empty_document",
                hint="run text recognition on it first",
            )
        built = builder.build(pages=len(pages))
        return built if built.blocks[0].kind == "heading" or not title.strip() else _named(built, title)


def _named(document: LoadedDocument, title: str) -> LoadedDocument:
    from dataclasses import replace

    return replace(document, title=" ".join(title.split())[:300])


def _open(data: bytes, name: str) -> pdfium.PdfDocument:
    import pypdfium2 as pdfium

    if b"%PDF-" not in data[:1024]:
        raise InvalidInput(f"the file {name!r} is no PDF", param=name, code="damaged_document")
    try:
        return pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise InvalidInput(
                f"the file {name!r} is encrypted",
                param=name,
                code="encrypted_document",
                hint="save it without password",
            ) from error
        raise InvalidInput(f"the file {name!r} is damaged", param=name, code="damaged_document") from error


def _lines(document: pdfium.PdfDocument, number: int, name: str) -> list[Line]:
    import pypdfium2 as pdfium

    try:
        page = document[number]
    except pdfium.PdfiumError as error:
        raise InvalidInput(f"page {number + 1} of {name!r} is damaged", param=name, code="damaged_document") from error
    try:
        text = page.get_textpage()
        try:
            return _read_page(text, number + 1, page.get_height())
        finally:
            text.close()
    finally:
        page.close()


def _read_page(text: pdfium.PdfTextPage, number: int, height: float) -> list[Line]:
    import ctypes

    from pypdfium2 import raw

    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    lines: list[Line] = []
    line = Line(number, height)
    for index in range(min(text.count_chars(), _MAX_PAGE_CHARACTERS)):
        code = raw.FPDFText_GetUnicode(text, index)
        if code in {10, 13}:
            if line.text.strip():
                lines.append(line)
            line = Line(number, height)
            continue
        if code in _PDFIUM_HYPHENS:
            line.add_cut()
            continue
        character = chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else ""
        if code <= 32 or raw.FPDFText_IsGenerated(text, index) == 1:
            line.add_space()
            continue
        raw.FPDFText_GetCharBox(text, index, left, right, bottom, top)
        size = raw.FPDFText_GetFontSize(text, index)
        line.add(character, left.value, right.value, bottom.value, size)
    if line.text.strip():
        lines.append(line)
    return lines


plugin = PdfLoader()
