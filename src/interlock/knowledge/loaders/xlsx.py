"""Excel workbooks: each visible sheet is a heading and a page; its rows are searched with their column names."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._archives import OLE, check_archive
from interlock.knowledge.loaders._budget import more_time
from interlock.knowledge.loaders._building import TextBuilder, captioned, looks_like_header, plain_number, squeeze
from interlock.knowledge.loaders._xlsx_hidden import Hidden, hidden_in
from interlock.knowledge.types import LoadedDocument, PageNote

__all__ = ["XlsxLoader", "plugin"]

_EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_MAX_ROWS = 200_000
_MAX_COLUMNS = 500
_MAX_CELLS = 2_000_000
_MAX_CHARACTERS = 20_000
"""Of one cell."""
_CELLS_AT_ONCE = 20_000
_SECONDS_AT_ONCE = 2.0
"""Time asked for so many cells; they take about .6 s."""


class XlsxLoader:
    """Values as they were last computed; formulas, charts, comments, and hidden sheets, columns and rows are left out.

    What a filter or an outline folds away for the moment is read.
    """

    version = "xlsx/2"
    suffixes = frozenset({".xlsx", ".xlsm"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        if data.startswith(OLE):
            raise InvalidInput(
                f"the file {name!r} is encrypted or an old .xls",
                param=name,
                code="encrypted_document",
                hint="save it as .xlsx without password",
            )
        check_archive(data, name)
        book = _open(data, name)
        builder = TextBuilder(name, _EXCEL)
        total = 0
        cells = _Cells(name)
        notes: list[PageNote] = []
        try:
            sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            for number, sheet in enumerate(sheets, start=1):
                folded = hidden_in(book._archive, sheet._worksheet_path)  # the library does not tell when it streams
                rows = list(_rows(sheet, _MAX_ROWS - total, cells, folded))
                if folded.rows or folded.columns:
                    notes.append(PageNote(number, "hidden_text", 0.0))
                total += len(rows)
                if rows:
                    builder.heading(str(sheet.title), 1, page=number)
                    _add_tables(builder, rows, number)
            title = squeeze(str(book.properties.title or ""))
        except InvalidInput:
            raise
        except Exception as error:
            # A crafted sheet trips over the library in many ways.
            raise InvalidInput(f"the file {name!r} is damaged", param=name, code="damaged_document") from error
        finally:
            book.close()
        if builder.is_empty:
            raise InvalidInput(f"the file {name!r} has no filled cell", param=name, code="empty_document")
        return builder.build(title=title or _stem(name), pages=len(sheets), notes=notes)


def _stem(name: str) -> str:
    # The first heading is one sheet among several, so it does not name the book.
    return name.rpartition("/")[2].rpartition(".")[0]


# Any: openpyxl ships no types.
def _open(data: bytes, name: str) -> Any:
    from openpyxl import load_workbook

    try:
        return load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    except Exception as error:
        # KeyError, ValueError, BadZipFile: whatever a crafted package trips over first.
        raise InvalidInput(f"the file {name!r} is no Excel workbook", param=name, code="damaged_document") from error


class _Cells:
    """Counts cells, and asks for the time that many of them take."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._count = self._granted = 0

    def take(self, number: int) -> None:
        self._count += number
        if self._count > _MAX_CELLS:
            raise TooLarge(
                f"the workbook {self.name!r} has more than {_MAX_CELLS} cells", param=self.name, hint="split it"
            )
        if self._count > self._granted:
            self._granted += _CELLS_AT_ONCE
            more_time(_SECONDS_AT_ONCE)


def _rows(sheet: Any, room: int, counted: _Cells, hidden: Hidden) -> Iterator[list[str]]:
    """Rows with the empty ones as ``[]`` between filled ones, so that tables on one sheet stay apart."""
    # The stated size of a sheet is the writer's claim; without it rows are read as they come.
    sheet.reset_dimensions()
    count = 0
    blank = False
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if number in hidden.rows:
            continue
        cells = [_shown(cell) for column, cell in enumerate(row, start=1) if column not in hidden.columns]
        # A stray format in the last column fills its row with empty cells: they cost little, but not nothing.
        counted.take(max(len(cells) - cells.count(""), len(cells) // 20))
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            blank = count > 0
            continue
        if count >= room or len(cells) > _MAX_COLUMNS:
            raise TooLarge(
                f"the workbook {counted.name!r} has more than {_MAX_ROWS} rows or {_MAX_COLUMNS} columns",
                param=counted.name,
                hint="split it, or keep the columns people ask about",
            )
        if blank:
            yield []
        blank = False
        count += 1
        yield cells


def _shown(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return plain_number(value, str(cell.number_format or ""))
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time(0) else value.isoformat(" ", "minutes")
    if isinstance(value, (date, time, timedelta)):
        return str(value)
    return squeeze(str(value))[:_MAX_CHARACTERS]


def _add_tables(builder: TextBuilder, rows: list[list[str]], page: int) -> None:
    table: list[list[str]] = []
    for row in [*rows, []]:
        if row:
            table.append(row)
            continue
        if len(table) == 1 and len([cell for cell in table[0] if cell]) == 1:
            builder.add("paragraph", " ".join(filter(None, table[0])), page=page)
        elif table:
            _add_table(builder, table, page)
        table = []


def _add_table(builder: TextBuilder, table: list[list[str]], page: int) -> None:
    captions, rows = captioned(table)
    for caption in captions:
        builder.add("paragraph", caption, page=page)
    builder.table(rows, has_header=looks_like_header(rows), page=page)


plugin = XlsxLoader()
