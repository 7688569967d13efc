"""Items of a Langfuse dataset, as its API and exports give them: JSON (a list, or below `data`) or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.evals.formats._objects import expected_of, input_of, objects

__all__ = ["Langfuse", "plugin"]


class Langfuse:
    """See the module. Archived items are left out."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`."""
        for number, (place, item) in enumerate(objects(path, "data", "items"), start=1):
            if str(item.get("status", "")).upper() == "ARCHIVED":
                continue
            yield place, _fields(item, f"{place} of {path.name!r}", number)


def _fields(item: Mapping[str, Any], place: str, number: int) -> dict[str, Any]:
    if item.get("input") is None:
        raise InvalidInput(f"{place}: input is missing", param="input")
    expected = item.get("expectedOutput", item.get("expected_output"))
    metadata, given = item.get("metadata"), item["input"]
    rest = {f"input.{name}": each for name, each in given.items()} if isinstance(given, dict) and len(given) > 1 else {}
    kept = metadata if isinstance(metadata, dict) else {} if metadata is None else {"metadata": metadata}
    trace = item.get("sourceTraceId") or item.get("source_trace_id")
    return {
        "id": str(item.get("id") or f"item-{number}"),
        "input": input_of(given, place),
        "expected": expected_of(expected),
        "metadata": {**kept, **rest},
        "provenance": {"kind": "trace" if trace else "imported", "ref": str(trace or place)},
    }


plugin = Langfuse()
