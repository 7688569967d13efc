"""PDF: pages, headings by font size, tables by rules or gaps, scans recognised, running headers and footers dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import Rect, TextBuilder
from interlock.knowledge.loaders._ocr import Recognised, can_recognise, missing_extra, recognise
from interlock.knowledge.loaders._pdf_hidden import hidden_objects
from interlock.knowledge.loaders._pdf_layout import Glyph, Line, Part, add_lines, without_repeats
from interlock.knowledge.loaders._pdf_tables import TableReader
from interlock.knowledge.types import LoadedDocument, PageNote, PageSize

if TYPE_CHECKING:
    import pypdfium2 as pdfium

__all__ = ["PdfLoader", "plugin"]

_PDFIUM_HYPHENS = frozenset({2, 0xFFFE})
"""What PDFium gives for a hyphen at a line end."""
_MAX_PAGES = 5_000
_MAX_PAGE_CHARACTERS = 400_000
_MAX_SCANS = 200
"""Pages of one file that are recognised; the others are noted as unread."""
_FEW_LETTERS = 10
"""A page of fewer letters (a page number, a stamp) beside a picture is a scan."""
_DRAWN_TEXT = 200
"""Segments of paths that may be letters drawn as outlines."""
_RULES = 8
"""Segments of paths that can make a table of two columns and two rows."""
_MAX_SEGMENTS = 20_000
"""A map or a plan: looking for tables in it would take minutes."""
_SCALE = 2.0
"""Pixels per point for recognition: 144 dots per inch."""
_MAX_PIXELS = 12_000_000
_STEPS = 100
"""Device units per point, as PDFium gives whole ones."""


class _Page(NamedTuple):
    """What one page holds."""

    lines: list[Line]
    size: PageSize
    has_rules: bool
    """Enough drawn lines for a table."""
    is_scan: bool
    """A picture or drawing without letters."""
    hides: bool
    """Text of it was left out, because nobody sees it."""


class PdfLoader:
    """Text by PDFium, tables of pages with rules by pdfplumber, pages without letters by text recognition.

    Without the extra `ocr` such pages are noted as unread; a file of nothing else asks for it.
    """

    suffixes = frozenset({".pdf"})
    isolated = True

    @property
    def version(self) -> str:
        """Text recognition, once installed, reads scans anew."""
        return "pdf/3+ocr" if can_recognise() else "pdf/3"

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        document = _open(data, name)
        try:
            if len(document) > _MAX_PAGES:
                raise TooLarge(f"the file {name!r} has more than {_MAX_PAGES} pages", param=name, hint="split it")
            pages, sizes, notes = _read(document, data, name)
            title = str(document.get_metadata_dict().get("Title") or "")
        finally:
            document.close()
        builder = TextBuilder(name, "application/pdf")
        add_lines(builder, without_repeats(pages))
        if builder.is_empty and any(note.reason == "no_text" for note in notes):
            if not can_recognise():
                raise missing_extra(f"the file {name!r}, a scan,")
            raise InvalidInput(f"in the file {name!r} no text can be recognised", param=name, code="empty_document")
        if builder.is_empty:
            raise InvalidInput(f"the file {name!r} has no text", param=name, code="empty_document")
        built = builder.build(pages=len(pages), page_sizes=sizes, notes=notes)
        return built if built.blocks[0].kind == "heading" or not title.strip() else _named(built, title)


def _read(
    document: pdfium.PdfDocument, data: bytes, name: str
) -> tuple[list[list[Line]], list[PageSize], list[PageNote]]:
    """Lines, size and notes of every page."""
    pages: list[list[Line]] = []
    sizes: list[PageSize] = []
    notes: list[PageNote] = []
    recognised = 0
    with TableReader(data) as tables:
        for number in range(1, len(document) + 1):
            page = _page(document, number, name)
            lines = page.lines
            if page.hides:
                notes.append(PageNote(number, "hidden_text", 0.0))
            if page.is_scan:
                wanted = can_recognise() and recognised < _MAX_SCANS
                recognised += wanted
                found = _recognised(document, number) if wanted else Recognised([], 0.0)
                lines = found.lines or lines
                note = PageNote(number, "text_recognised" if found.lines else "no_text", found.confidence)
                notes.append(note)
            elif page.has_rules:
                lines = tables.replace(lines, number)
            pages.append(lines)
            sizes.append(page.size)
    return pages, sizes, notes


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


def _page(document: pdfium.PdfDocument, number: int, name: str) -> _Page:
    import pypdfium2 as pdfium

    try:
        page = document[number - 1]
    except pdfium.PdfiumError as error:
        raise InvalidInput(f"page {number} of {name!r} is damaged", param=name, code="damaged_document") from error
    try:
        text = page.get_textpage()
        try:
            hidden = hidden_objects(page, text)
            lines = _read_page(text, number, page.get_height(), hidden)
        finally:
            text.close()
        for line in lines:
            ends = [part.start for part in line.parts[1:]] + [len(line.text)]
            line.places = [
                (part.start, end, _shown(page, part, number)) for part, end in zip(line.parts, ends, strict=True)
            ]
        paper = Rect(number, 0.0, 0.0, page.get_width(), page.get_height())
        inside = [line for line in lines if any(_meets(place, paper) for _, _, place in line.places)]
        segments, pictures = _drawn(page)
        letters = sum(character.isalnum() for line in inside for character in line.text)
        return _Page(
            inside,
            PageSize(round(page.get_width(), 1), round(page.get_height(), 1)),
            has_rules=_RULES <= segments < _MAX_SEGMENTS,
            is_scan=letters < _FEW_LETTERS and (pictures > 0 or segments >= _DRAWN_TEXT),
            hides=bool(hidden) or len(inside) < len(lines),
        )
    finally:
        page.close()


def _meets(one: Rect, other: Rect) -> bool:
    return one.left < other.right and one.right > other.left and one.top < other.bottom and one.bottom > other.top


def _drawn(page: pdfium.PdfPage) -> tuple[int, int]:
    """Segments of drawn paths and number of pictures, as far as they matter."""
    from pypdfium2 import raw

    segments = pictures = 0
    for item in page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_IMAGE], max_depth=4):
        if item.type == raw.FPDF_PAGEOBJ_IMAGE:
            pictures += 1
        else:
            segments += max(0, raw.FPDFPath_CountSegments(item.raw))
        if segments >= _MAX_SEGMENTS:
            break
    return segments, pictures


def _shown(page: pdfium.PdfPage, part: Part, number: int) -> Rect:
    """Where a line is seen: the page's crop box and rotation are allowed for."""
    import ctypes

    from pypdfium2 import raw

    width, height = page.get_width(), page.get_height()
    xs: list[float] = []
    ys: list[float] = []
    x, y = ctypes.c_int(), ctypes.c_int()
    for left, top in ((part.left, part.top), (part.right, part.bottom)):
        raw.FPDF_PageToDevice(page, 0, 0, int(width * _STEPS), int(height * _STEPS), 0, left, top, x, y)
        xs.append(x.value / _STEPS)
        ys.append(y.value / _STEPS)
    return Rect(number, min(xs), min(ys), max(xs), max(ys))


def _recognised(document: pdfium.PdfDocument, number: int) -> Recognised:
    page = document[number - 1]
    try:
        area = max(1.0, page.get_width() * page.get_height())
        scale = min(_SCALE, (_MAX_PIXELS / area) ** 0.5)
        bitmap = page.render(scale=scale)
        try:
            image = bitmap.to_numpy()[:, :, :3].copy()
        finally:
            bitmap.close()
    finally:
        page.close()
    return recognise(image, number, scale=scale)


def _read_page(text: pdfium.PdfTextPage, number: int, height: float, hidden: frozenset[int]) -> list[Line]:
    """Lines, without the text of objects at the addresses in `hidden`."""
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
        if hidden and ctypes.cast(raw.FPDFText_GetTextObject(text, index), ctypes.c_void_p).value in hidden:
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
        line.add(character, Glyph(left.value, right.value, bottom.value, top.value, size))
    if line.text.strip():
        lines.append(line)
    return lines


plugin = PdfLoader()
