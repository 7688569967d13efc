"""Cells of a table as fields of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.evals.formats._lines import read_json
from interlock.evals.types import Case

__all__ = ["fields_of"]

_STRUCTURED = frozenset(
    {
        "accept",
        "facts",
        "context",
        "evidence",
        "relevant",
        "calls",
        "state",
        "tags",
        "slices",
        "metrics",
        "metadata",
        "provenance",
        "variables",
    }
)
_MAPPINGS = frozenset({"slices", "metadata", "variables"})
_KNOWN = frozenset(field.alias or name for name, field in Case.model_fields.items())


def fields_of(row: Mapping[str, Any], place: str, number: int) -> dict[str, Any]:  # Any: cells, then fields
    """Fields from cells by their column's name. Raises: InvalidInput naming place and column.

    An empty cell is not given. Columns of lists and objects hold JSON; in ``tags`` commas do too. ``slices.NAME``,
    ``metadata.NAME`` and ``variables.NAME`` are one entry each; ``NAME:json`` is JSON whatever the field, e.g.
    ``expected:json``.
    """
    fields: dict[str, Any] = {}
    for column, cell in row.items():
        if cell is None or cell == "":
            continue
        name, colon, kind = column.partition(":")
        outer, dot, inner = name.partition(".")
        if (colon and kind != "json") or (outer if dot else name) not in _KNOWN or (dot and outer not in _MAPPINGS):
            raise InvalidInput(
                f"{place}: there is no field {column!r}", param=column, hint=f"metadata.{name} keeps what is your own"
            )
        value = cell
        if isinstance(cell, str) and (colon or (name in _STRUCTURED and not _is_plain_list(name, cell))):
            value = _json(cell, place, column)
        elif isinstance(cell, str) and name in _STRUCTURED:
            value = [each.strip() for each in cell.split(",") if each.strip()] if name == "tags" else [cell]
        if dot:
            fields.setdefault(outer, {})[inner] = str(value) if outer == "slices" else value
        else:
            fields[name] = value
    fields.setdefault("id", f"row-{number}")
    if not isinstance(fields["id"], str):
        fields["id"] = str(fields["id"])
    return fields


def _is_plain_list(name: str, cell: str) -> bool:
    return name in {"tags", "accept", "context"} and not cell.lstrip().startswith("[")


def _json(cell: str, place: str, column: str) -> Any:
    try:
        return read_json(cell)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place}: {column} is not JSON", param=column) from error
