"""Samples of OpenAI's evals: lines with `input` (messages or a text) and `ideal` (one answer or several).

A conversation that ends with a system message, as many of these have it, asks by it: it becomes the user's turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.evals.formats._lines import json_lines
from interlock.evals.formats._objects import input_of

__all__ = ["OpenAIEvals", "plugin"]


class OpenAIEvals:
    """See the module. Other fields than `id`, `input` (or `messages`) and `ideal` are kept as metadata."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`."""
        for number, (place, row) in enumerate(json_lines(path), start=1):
            yield place, _fields(row, f"{place} of {path.name!r}", number)


def _fields(row: Mapping[str, Any], place: str, number: int) -> dict[str, Any]:
    asked = "input" if "input" in row else "messages"
    if asked not in row:
        raise InvalidInput(f"{place}: input is missing", param="input")
    given = input_of(row[asked], place, asked)
    if isinstance(given, list) and given and given[-1]["role"] == "system":
        given = [*given[:-1], {**given[-1], "role": "user"}]
    fields: dict[str, Any] = {
        "id": str(row.get("id") or f"sample-{number}"),
        "input": given,
        "provenance": {"kind": "imported", "ref": place},
    }
    ideal = row.get("ideal")
    if isinstance(ideal, list):
        if not all(isinstance(each, str) for each in ideal):
            raise InvalidInput(f"{place}: ideal is a text or a list of texts", param="ideal")
        fields |= {"expected": ideal[0], "accept": ideal[1:]} if ideal else {}
    elif ideal is not None:
        fields["expected"] = ideal
    rest = {name: each for name, each in row.items() if name not in {"id", "input", "messages", "ideal"}}
    return {**fields, "metadata": rest} if rest else fields


plugin = OpenAIEvals()
