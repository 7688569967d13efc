"""A Parquet file with a column a field, nested ones as they are or as JSON text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from interlock.core.errors import InvalidInput
from interlock.evals.formats._cells import fields_of

__all__ = ["Parquet", "plugin"]

_ROWS = 1_000


class Parquet:
    """See the module."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`."""
        import duckdb

        if set("*?[") & set(str(path)):
            # The reader would take these for patterns and read other files too.
            raise InvalidInput(f"{path.name!r} has one of * ? [ in its path", param="cases.file", hint="rename it")
        quiet: dict[str, str | bool | int | float | list[str]] = {
            "threads": "1",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        with duckdb.connect(":memory:", config=quiet) as database:
            try:
                found = database.execute("SELECT * FROM read_parquet(?)", [str(path)])
                columns = [column[0] for column in found.description]
                number = 0
                while rows := found.fetchmany(_ROWS):
                    for row in rows:
                        number += 1
                        place = f"row {number}"
                        cells = {
                            name: _plain(cell, f"{place} of {path.name!r}", name)
                            for name, cell in zip(columns, row, strict=True)
                        }
                        yield place, fields_of(cells, f"{place} of {path.name!r}", number)
            except duckdb.Error as error:
                raise InvalidInput(f"{path.name!r} cannot be read as Parquet", param="cases.file") from error


def _plain(cell: Any, place: str, column: str) -> Any:
    """A cell as JSON has it."""
    if isinstance(cell, Mapping):
        return {str(name): _plain(each, place, column) for name, each in cell.items()}
    if isinstance(cell, (list, tuple)):
        return [_plain(each, place, column) for each in cell]
    if isinstance(cell, Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, (date, datetime, time)):
        return cell.isoformat()
    if isinstance(cell, UUID):
        return str(cell)
    if cell is None or isinstance(cell, (str, bool, int)) or (isinstance(cell, float) and math.isfinite(cell)):
        return cell
    raise InvalidInput(f"{place}: {column} holds a {type(cell).__name__}, which no field takes", param=column)


plugin = Parquet()
