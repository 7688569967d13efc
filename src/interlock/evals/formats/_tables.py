"""Rows of CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from interlock.core.errors import InvalidInput
from interlock.evals.formats._lines import MOST_LINE_BYTES

__all__ = ["csv_rows"]


def csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a row begins, and its cells by column. Empty rows are left out.

    Raises: InvalidInput: no UTF-8, no header, a column that is there twice, a row with more cells than the header.
    """
    # The module's own bound (128 Ki) is shorter than many a context.
    csv.field_size_limit(MOST_LINE_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline(MOST_LINE_BYTES)
            file.seek(0)
            parted = max(",;\t", key=head.count)
            rows = csv.reader(file, delimiter=parted, strict=True)
            columns = [column.strip() for column in next(rows, [])]
            if not any(columns):
                raise InvalidInput(f"{path.name!r} has no header", param="line 1", hint="id,input,expected")
            twice = next((column for column in columns if columns.count(column) > 1), None)
            if twice is not None:
                raise InvalidInput(f"line 1 of {path.name!r}: the column {twice!r} is there twice", param="line 1")
            began = rows.line_num + 1
            for row in rows:
                place, began = f"line {began}", rows.line_num + 1
                if len(row) > len(columns):
                    raise InvalidInput(
                        f"{place} of {path.name!r} has {len(row)} cells, the header {len(columns)}", param=place
                    )
                if any(cell.strip() for cell in row):
                    yield place, dict(zip(columns, row, strict=False))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name!r} is not UTF-8", param="cases.file") from error
    except csv.Error as error:
        raise InvalidInput(f"{path.name!r} is no CSV: line {rows.line_num}: {error}", param="cases.file") from error
