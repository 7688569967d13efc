"""Ruled tables of a PDF page, by pdfplumber; only pages that are worth its time are shown to it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.knowledge.loaders._budget import more_time
from interlock.knowledge.loaders._building import CELL_SEPARATOR, Rect, squeeze
from interlock.knowledge.loaders._pdf_layout import Line, Row

if TYPE_CHECKING:
    from pdfplumber.pdf import PDF

__all__ = ["MAX_TABLE_PAGES", "TableReader"]

MAX_TABLE_PAGES = 300
"""Pages whose rules are looked at; on the others tables are told by gaps, as everywhere without rules."""
_PAGE_SECONDS = 2.0
_FILLED = 0.34
_MAX_CELLS = 20_000
_SAME_COLUMN = 3.0
"""Points that a column may move when its table goes on over the page."""
_NUMBER = re.compile(r"[-+(]?[$€£]?\s?\d[\d.,\s]*[%)]?$")
_YEAR = re.compile(r"(?:FY\s?)?(?:19|20)\d\d$")
_CUT_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_MAX_NAME = 80


class _Table(NamedTuple):
    box: tuple[float, float, float, float]
    """Left, top, right, bottom."""
    rows: list[list[str]]
    rects: list[list[Rect | None]]


class TableReader:
    """Puts table rows in the place of the lines they were read as. Use with ``with``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._file: PDF | None = None
        self._pages = 0
        self._columns: list[str] = []
        """Of the table that ended the page before."""
        self._edges: list[float] = []
        self._open_page = 0

    def __enter__(self) -> TableReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def replace(self, lines: list[Line], page: int) -> list[Line]:
        """The lines of a page, its ruled tables as rows. A table that goes on keeps the names of its columns."""
        if self._pages >= MAX_TABLE_PAGES:
            return lines
        self._pages += 1
        more_time(_PAGE_SECONDS)
        tables: list[_Table] = []
        # What the library cannot read is still read without it.
        with suppress(Exception):
            tables = self._tables(page)
        for table in tables:
            lines = self._put(lines, table, page)
        body = [line for line in lines if not line.in_margin]
        if not body or body[-1].row is None:
            self._open_page = 0
        return lines

    def _tables(self, page: int) -> list[_Table]:
        if self._file is None:
            import pdfplumber

            self._file = pdfplumber.open(io.BytesIO(self._data))
        sheet = self._file.pages[page - 1]
        try:
            found = [_table(table, sheet, page) for table in sheet.find_tables()]
        finally:
            sheet.close()
        kept = [table for table in found if table is not None]
        return sorted(kept, key=lambda table: (table.box[1], table.box[0]))

    def _put(self, lines: list[Line], table: _Table, page: int) -> list[Line]:
        inside = [line for line in lines if line.row is None and _is_inside(line.rect, table.box)]
        if not inside:
            return lines
        place = lines.index(inside[0])
        before = [line for line in lines[:place] if not line.in_margin]
        edges = [rect.left for rect in table.rects[0] if rect is not None]
        goes_on = (
            self._open_page == page - 1
            and not before
            and len(edges) == len(self._edges)
            and all(abs(a - b) <= _SAME_COLUMN for a, b in zip(edges, self._edges, strict=True))
        )
        rows, rects = table.rows, table.rects
        columns: list[str] = []
        if goes_on and self._columns:
            columns = self._columns
            if rows[0] == columns:
                rows, rects = rows[1:], rects[1:]  # the heading row again, on top of the next page
        made: list[Line] = []
        for number, (cells, places) in enumerate(zip(rows, rects, strict=True)):
            named = columns if columns else rows[0] if number and _names_columns(rows[0]) else []
            made.append(_row_line(Row(named, cells, places), inside[0], page))
        self._columns = columns or (rows[0] if rows and _names_columns(rows[0]) else [])
        self._edges, self._open_page = edges, page
        taken = set(map(id, inside))
        return [*lines[:place], *made, *(line for line in lines[place:] if id(line) not in taken)]


def _row_line(row: Row, sample: Line, page: int) -> Line:
    line = Line(page, sample.page_height, row)
    line.text = CELL_SEPARATOR.join(row.cells)
    line.size, line.cells = sample.size, max(2, len(row.cells))
    shown = [rect for rect in row.rects if rect is not None]
    if shown:
        line.bottom = sample.page_height - max(rect.bottom for rect in shown)
        line.top = sample.page_height - min(rect.top for rect in shown)
    return line


def _is_inside(rect: Rect | None, box: tuple[float, float, float, float]) -> bool:
    if rect is None:
        return False
    middle = (rect.top + rect.bottom) / 2
    # A line that was read across two tables, or a table and text beside it, belongs where it starts.
    return box[1] <= middle <= box[3] and box[0] - 1 <= rect.left <= box[2]


# Any: pdfplumber's tables and pages are loosely typed.
def _table(found: Any, sheet: Any, page: int) -> _Table | None:
    """None for what is no table: a frame, a chart, an empty form."""
    if len(found.rows) < 2 or len(found.cells) > _MAX_CELLS:
        return None
    left, top = float(sheet.cropbox[0]), float(sheet.cropbox[1])
    texts = [[squeeze(_CUT_WORD.sub("", cell or "")) for cell in row] for row in found.extract()]
    width = max(map(len, texts), default=0)
    filled = sum(bool(cell) for row in texts for cell in row)
    if width < 2 or filled < _FILLED * width * len(texts):
        return None
    rows: list[list[str]] = []
    rects: list[list[Rect | None]] = []
    for row, cells in zip(texts, found.rows, strict=True):
        if any(row):
            rows.append(row)
            rects.append([_rect(cell, page, left, top) for cell in cells.cells])
    x0, y0, x1, y1 = found.bbox
    return _Table((x0 - left, y0 - top, x1 - left, y1 - top), rows, rects) if len(rows) > 1 else None


def _rect(cell: Any, page: int, left: float, top: float) -> Rect | None:
    if cell is None:
        return None
    x0, y0, x1, y1 = (float(edge) for edge in cell)
    return Rect(page, x0 - left, y0 - top, x1 - left, y1 - top)


def _names_columns(head: Sequence[str]) -> bool:
    """Whether a row reads like names of columns; the first may be empty, and years are names."""
    named = [cell for cell in head if cell]
    if len(named) < max(1, len(head) - 1) or len(set(named)) != len(named):
        return False
    return all(len(cell) <= _MAX_NAME and (not _NUMBER.match(cell) or _YEAR.match(cell)) for cell in named)
