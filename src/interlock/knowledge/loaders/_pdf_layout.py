"""From positioned lines to paragraphs, headings and table rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from interlock.knowledge.loaders._building import (
    CELL_SEPARATOR,
    Rect,
    TextBuilder,
    labelled_row,
    squeeze,
)

__all__ = ["Glyph", "Line", "Row", "add_lines", "without_repeats"]

_COLUMN_GAP = 1.2
"""A gap of this many font sizes between two words starts a new cell."""
_PARAGRAPH_GAP = 1.45
"""Lines further apart than this many usual line steps belong to two paragraphs."""
_HEADING_SIZE = 1.12
_HEADING_LENGTH = 120
_MARGIN = 0.1
"""Share of the page at its top and at its bottom where running headers and footers stand."""
_REPEATED_SHARE = 0.6
_DIGITS = re.compile(r"\d+")
_BULLET = re.compile(r"(?:[•‣◦▪●–-]|\(?\d{1,3}[.)])\s+\S")
_BULLET_MARK = re.compile(r"[•‣◦▪●]\s+")
_SOFT_HYPHEN = "\xad"


class Glyph(NamedTuple):
    """Where a character stands, in PDF points from the bottom left corner, and its font size."""

    left: float
    right: float
    bottom: float
    top: float
    size: float


class Part:
    """What a line has on one line of the page. Grows with its characters; edges as those of a glyph."""

    def __init__(self, start: int, at: Glyph) -> None:
        self.start = start
        self.left, self.right, self.bottom, self.top = at.left, at.right, at.bottom, at.top

    def grow(self, at: Glyph) -> None:
        """Take in one more character."""
        self.left, self.right = min(self.left, at.left), max(self.right, at.right)
        self.bottom, self.top = min(self.bottom, at.bottom), max(self.top, at.top)


class Row:
    """A row of a ruled table, whose cells are known."""

    def __init__(self, columns: Sequence[str], cells: Sequence[str], rects: Sequence[Rect | None]) -> None:
        self.columns = columns
        """What its columns are called; empty for the row that says so, and when none does."""
        self.cells = [squeeze(cell) for cell in cells]
        self.rects = rects


class Line:
    """One line of a page with what its layout says. Mutable while its characters arrive."""

    def __init__(self, page: int, page_height: float, row: Row | None = None) -> None:
        self.page = page
        self.page_height = page_height
        self.text = ""
        self.left = 0.0
        self.right = 0.0
        self.bottom = 0.0
        self.top = 0.0
        self.size = 0.0
        self.cells = 1
        self.row = row
        self.places: list[tuple[int, int, Rect]] = []
        """(start, end, where) in `text`; two when a cut word has joined two lines of the page."""
        self.parts: list[Part] = []
        self._space = False
        self._cut = False

    def add(self, character: str, at: Glyph) -> None:
        """Append a visible character; a wide gap before it becomes a cell border."""
        if not self.text:
            self.left, self.bottom, self.top, self.size = at.left, at.bottom, at.top, at.size
        elif self._cut:
            self.text += "" if self.text[-1].islower() and character.islower() else "-"
        elif at.left - self.right > _COLUMN_GAP * max(at.size, 1.0):
            self.text += CELL_SEPARATOR
            self.cells += 1
        elif self._space:
            self.text += " "
        if not self.text or self._cut:
            self.parts.append(Part(len(self.text), at))
        self.parts[-1].grow(at)
        self.text += character
        self.right = max(self.right, at.right) if at.right > at.left else self.right
        self.size = max(self.size, at.size)
        self.bottom = min(self.bottom, at.bottom)
        self.top = max(self.top, at.top)
        self._space = self._cut = False

    def add_cut(self) -> None:
        """A word goes on in the next line of the page, which PDFium has joined to this one."""
        self._cut = bool(self.text)

    @property
    def rect(self) -> Rect | None:
        """Where it starts."""
        return self.places[0][2] if self.places else None

    @property
    def in_margin(self) -> bool:
        """Whether it stands at the top or the bottom of its page."""
        height = self.page_height
        return not _MARGIN * height < self.bottom < (1 - _MARGIN) * height

    def add_space(self) -> None:
        """A blank, kept only between two visible characters."""
        self._space = bool(self.text)


def without_repeats(pages: Sequence[list[Line]]) -> list[Line]:
    """Lines in reading order without running headers and footers.

    A line is one when it stands in the margin of its page, and on 60 % of the pages (two at least) the same line,
    numbers aside, stands at the same height.
    """
    counts = Counter(key for page in pages for key in {_edge_key(line) for line in page if _may_repeat(line)})
    needed = max(2.0, _REPEATED_SHARE * len(pages))
    repeated = {key for key, count in counts.items() if count >= needed}
    return [line for page in pages for line in page if not (_may_repeat(line) and _edge_key(line) in repeated)]


def _may_repeat(line: Line) -> bool:
    """Rows of a long table look alike, numbers aside, and reach into the margins."""
    return line.in_margin and line.row is None


def _edge_key(line: Line) -> tuple[str, int]:
    return _DIGITS.sub("#", line.text), round(line.bottom / 6)


def add_lines(builder: TextBuilder, lines: Sequence[Line]) -> None:
    """Group lines into blocks and add them."""
    if not lines:
        return
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[round(line.size, 1)] += len(line.text)
    body = sizes.most_common(1)[0][0] or 1.0
    levels = {size: level for level, size in enumerate(_heading_sizes(lines, body), start=1)}
    step = _usual_step(lines)
    group: list[Line] = []
    for line in lines:
        if group and (group[-1].row is not None or line.row is not None or not _continues(group, line, body, step)):
            _add_group(builder, group, body, levels)
            group = []
        group.append(line)
    _add_group(builder, group, body, levels)


def _heading_sizes(lines: Sequence[Line], body: float) -> list[float]:
    return sorted({round(ln.size, 1) for ln in lines if _is_heading(ln, body)}, reverse=True)[:4]


def _is_heading(line: Line, body: float) -> bool:
    return line.size >= _HEADING_SIZE * body and len(line.text) <= _HEADING_LENGTH and line.cells == 1


def _usual_step(lines: Sequence[Line]) -> float:
    steps = [
        a.bottom - b.bottom
        for a, b in pairwise(lines)
        if a.page == b.page and a.row is b.row is None and 0 < a.bottom - b.bottom < 4 * a.size
    ]
    return median(steps) if steps else 14.0


def _continues(group: Sequence[Line], line: Line, body: float, step: float) -> bool:
    """Whether `line` carries on the paragraph or the heading of `group`."""
    last = group[-1]
    if last.cells > 1 or line.cells > 1:
        return last.cells > 1 and line.cells > 1 and last.page == line.page
    if _is_heading(last, body) != _is_heading(line, body) or abs(last.size - line.size) > 0.15 * body:
        return False
    if _BULLET.match(line.text):
        return False
    if last.page != line.page:
        return last.text[-1:] not in ".!?:" and line.text[:1].islower()
    return -0.5 * last.size < last.bottom - line.bottom <= _PARAGRAPH_GAP * max(step, last.size)


def _add_group(builder: TextBuilder, group: Sequence[Line], body: float, levels: dict[float, int]) -> None:
    if not group:
        return
    first = group[0]
    if first.row is not None:
        _add_row(builder, first.row, first.page)
    elif first.cells > 1:
        rows = [line.text.split(CELL_SEPARATOR) for line in group]
        widths = {len(row) for row in rows}
        header = len(rows) > 1 and len(widths) == 1 and _is_label_row(rows[0])
        for number, (line, cells) in enumerate(zip(group, rows, strict=True)):
            text = squeeze(line.text)
            label = labelled_row(rows[0], cells) if header and number else ""
            builder.add("table_row", text, page=first.page, labelled=label, places=_moved(line.places, 0, len(text)))
    elif _is_heading(first, body):
        text, places = _joined(group)
        builder.heading(text, levels.get(round(first.size, 1), 4), page=first.page, places=places)
    else:
        text, places = _joined(group)
        mark = _BULLET_MARK.match(text)
        cut = mark.end() if mark else 0
        places = [(max(0, start - cut), end - cut, rect) for start, end, rect in places if end > cut]
        builder.add("list" if _BULLET.match(text) else "paragraph", text[cut:], page=first.page, places=places)


def _moved(places: Sequence[tuple[int, int, Rect]], by: int, end: int) -> list[tuple[int, int, Rect]]:
    moved = ((start + by, min(last + by, end), rect) for start, last, rect in places)
    return [place for place in moved if place[0] < place[1]]


def _add_row(builder: TextBuilder, row: Row, page: int) -> None:
    places: list[tuple[int, int, Rect]] = []
    at = 0
    for cell, rect in zip(row.cells, row.rects, strict=True):
        if cell and rect is not None:
            places.append((at, at + len(cell), rect))
        at += len(cell) + len(CELL_SEPARATOR)
    label = labelled_row(row.columns, row.cells) if row.columns else ""
    builder.add("table_row", CELL_SEPARATOR.join(row.cells), page=page, labelled=label, places=places)


def _is_label_row(cells: Sequence[str]) -> bool:
    return all(cell.strip() and not cell.strip()[0].isdigit() for cell in cells)


def _joined(group: Sequence[Line]) -> tuple[str, list[tuple[int, int, Rect]]]:
    """One text of several lines and where each of them stands; a word cut at a line end is made whole.

    ``compli-`` + ``ance`` becomes ``compliance``; ``well-`` + ``Known`` and ``2024-`` + ``25`` keep their hyphen. A
    hyphen between two lower-case letters at a line end is taken for a cut: right far more often than not.
    """
    text = ""
    places: list[tuple[int, int, Rect]] = []
    for line in group:
        following = squeeze(line.text)
        cut = len(text) > 1 and text[-1] == "-" and text[-2].islower() and following[:1].islower()
        if cut or (text and text[-1] == _SOFT_HYPHEN):
            text = text[:-1] + following
            if places:
                places[-1] = (places[-1][0], places[-1][1] - 1, places[-1][2])
        elif len(text) > 1 and text[-1] == "-" and text[-2].isalnum():
            text += following
        else:
            text = f"{text} {following}" if text else following
        places += _moved(line.places, len(text) - len(following), len(text))
    return text, places
