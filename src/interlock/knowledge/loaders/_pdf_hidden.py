"""Which text of a PDF page nobody sees: written with no ink, in the colour of what is behind it, covered, or too small.

The letters that recognition put behind a scan are seen: as the picture in front of them.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pypdfium2 as pdfium

__all__ = ["hidden_objects"]

# Any in this module: numpy arrays of pixels.
_LIGHT = 200
"""Of 255: text of at least this lightness may stand on white paper."""
_CLEAR = 20
"""Of 255: ink of less is not seen."""
_SMALLEST = 1.5
"""Points; what is smaller nobody reads."""
_LEAST_FILL = 4.0
"""Points: what is lower or narrower is a line, and covers nothing."""
_SAME = 10
"""Difference of two pixels, of 255, that nobody sees."""
_SCALE = 2.0
"""Pixels per point."""
_MAX_PIXELS = 8_000_000
_DEPTH = 15
_MAX_CHARACTERS = 400_000


def hidden_objects(page: pdfium.PdfPage, text: pdfium.PdfTextPage) -> frozenset[int]:
    """Addresses of the text objects of a page that nobody sees. A page that hides nothing by its looks costs little."""
    if not _may_hide(page):
        return frozenset()
    boxes, sizes = _boxes(text)
    if not boxes:
        return frozenset()
    pixels, scale = _rendered(page)
    return frozenset(
        address
        for address, box in boxes.items()
        if sizes[address] < _SMALLEST or _is_blank(pixels, _on_paper(page, box, scale))
    )


def _may_hide(page: pdfium.PdfPage) -> bool:
    """Whether text has no ink, light ink or no size, or something filled may cover it."""
    from pypdfium2 import raw

    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    size = ctypes.c_float()
    matrix = raw.FS_MATRIX()
    for item in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT, raw.FPDF_PAGEOBJ_PATH], max_depth=_DEPTH):
        if item.type == raw.FPDF_PAGEOBJ_PATH:
            if _covers(item):
                return True
            continue
        mode = raw.FPDFTextObj_GetTextRenderMode(item.raw)
        if mode in {raw.FPDF_TEXTRENDERMODE_INVISIBLE, raw.FPDF_TEXTRENDERMODE_CLIP}:
            return True
        if raw.FPDFPageObj_GetFillColor(item.raw, red, green, blue, alpha) and (
            alpha.value < _CLEAR or min(red.value, green.value, blue.value) >= _LIGHT
        ):
            return True
        if raw.FPDFTextObj_GetFontSize(item.raw, size) and raw.FPDFPageObj_GetMatrix(item.raw, matrix):
            stretched = (matrix.c**2 + matrix.d**2) ** 0.5
            if abs(size.value) * stretched < _SMALLEST:
                return True
    return False


def _covers(item: pdfium.PdfObject) -> bool:
    from pypdfium2 import raw

    fill, stroke = ctypes.c_int(), ctypes.c_int()
    if not raw.FPDFPath_GetDrawMode(item.raw, fill, stroke) or not fill.value:
        return False
    edges = [ctypes.c_float() for _ in range(4)]
    if not raw.FPDFPageObj_GetBounds(item.raw, *edges):
        return False
    left, bottom, right, top = (edge.value for edge in edges)
    return right - left >= _LEAST_FILL and top - bottom >= _LEAST_FILL


_Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in the page's own points."""


def _boxes(text: pdfium.PdfTextPage) -> tuple[dict[int, _Box], dict[int, float]]:
    """By the address of a text object: the box around its letters, and its size in points."""
    from pypdfium2 import raw

    boxes: dict[int, _Box] = {}
    sizes: dict[int, float] = {}
    edges = [ctypes.c_double() for _ in range(4)]
    matrix = raw.FS_MATRIX()
    for index in range(min(text.count_chars(), _MAX_CHARACTERS)):
        if raw.FPDFText_GetUnicode(text, index) <= 32 or raw.FPDFText_IsGenerated(text, index) == 1:
            continue
        address = ctypes.cast(raw.FPDFText_GetTextObject(text, index), ctypes.c_void_p).value
        if address is None or not raw.FPDFText_GetCharBox(text, index, *edges):
            continue
        left, right, bottom, top = (edge.value for edge in edges)
        if address in boxes:
            known = boxes[address]
            boxes[address] = (min(left, known[0]), min(bottom, known[1]), max(right, known[2]), max(top, known[3]))
            continue
        boxes[address] = (left, bottom, right, top)
        raw.FPDFText_GetMatrix(text, index, matrix)
        sizes[address] = raw.FPDFText_GetFontSize(text, index) * (matrix.c**2 + matrix.d**2) ** 0.5
    return boxes, sizes


def _rendered(page: pdfium.PdfPage) -> tuple[Any, float]:
    area = max(1.0, page.get_width() * page.get_height())
    scale = min(_SCALE, (_MAX_PIXELS / area) ** 0.5)
    bitmap = page.render(scale=scale, grayscale=False)
    try:
        return bitmap.to_numpy()[:, :, :3].copy(), scale
    finally:
        bitmap.close()


def _on_paper(page: pdfium.PdfPage, box: _Box, scale: float) -> tuple[int, int, int, int]:
    """The same in pixels from the top left corner of the page as it is shown."""
    from pypdfium2 import raw

    width, height = int(page.get_width() * scale), int(page.get_height() * scale)
    xs: list[int] = []
    ys: list[int] = []
    x, y = ctypes.c_int(), ctypes.c_int()
    for left, top in ((box[0], box[3]), (box[2], box[1])):
        raw.FPDF_PageToDevice(page, 0, 0, width, height, 0, left, top, x, y)
        xs.append(x.value)
        ys.append(y.value)
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def _is_blank(pixels: Any, place: tuple[int, int, int, int]) -> bool:
    """Whether nothing can be told apart there; so it is outside of the page."""
    left, top, right, bottom = place
    seen = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if seen.size == 0:
        return True
    # Nearly all text shows in the middle of its box already.
    return not _differs(seen[len(seen) // 2]) and not _differs(seen.reshape(-1, 3))


def _differs(pixels: Any) -> bool:
    """Whether some of `pixels` (n, 3) can be told from others."""
    return bool((pixels.max(axis=0).astype(int) - pixels.min(axis=0).astype(int)).max() >= _SAME)
