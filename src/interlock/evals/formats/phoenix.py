"""Examples of a Phoenix dataset: its CSV export (`input_…`, `output_…`, `metadata_…`) or the API's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.evals.formats._objects import expected_of, input_of, objects
from interlock.evals.formats._tables import csv_rows

__all__ = ["Phoenix", "plugin"]

_PARTS = ("input", "output", "metadata")


class Phoenix:
    """See the module. Of several inputs the one that is called question, input, query or prompt is asked."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`."""
        rows = _from_csv(path) if path.suffix.lower() == ".csv" else objects(path, "data", "examples")
        for number, (place, example) in enumerate(rows, start=1):
            yield place, _fields(example, f"{place} of {path.name!r}", number)


def _from_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, row in csv_rows(path):
        example: dict[str, Any] = {
            "id": row.get("example_id") or row.get("id"),
            "input": {},
            "output": {},
            "metadata": {},
        }
        for column, cell in row.items():
            part, _, name = column.partition("_")
            if part in _PARTS and name and cell:
                example[part][name] = cell
        yield place, example


def _fields(example: Mapping[str, Any], place: str, number: int) -> dict[str, Any]:
    given = example.get("input")
    if not given:
        raise InvalidInput(f"{place}: input is missing", param="input")
    metadata = example.get("metadata") or {}
    rest = {f"input.{name}": each for name, each in given.items()} if isinstance(given, dict) and len(given) > 1 else {}
    return {
        "id": str(example.get("id") or example.get("example_id") or f"example-{number}"),
        "input": input_of(given, place),
        "expected": expected_of(example.get("output") or None),
        "metadata": {**metadata, **rest} if isinstance(metadata, dict) else {"metadata": metadata, **rest},
        "provenance": {"kind": "imported", "ref": place},
    }


plugin = Phoenix()
