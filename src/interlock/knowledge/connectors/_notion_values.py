"""Values of Notion as text: rich text, and the properties that a page has as a row of a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.knowledge.connectors._markdown import plain
from interlock.knowledge.connectors._shelf import listed, named, words

__all__ = ["properties", "shown", "unmarked"]

_MOST_DEPTH = 3
_NAMED = frozenset({"select", "status", "created_by", "last_edited_by"})
_SEVERAL = frozenset({"multi_select", "people", "files"})
_MOST_VALUES = 200


def unmarked(rich: object) -> str:
    """Rich text without its marks."""
    return "".join(words(piece, "plain_text") for piece in listed(rich))


def shown(rich: object) -> str:
    """Rich text as Markdown that shows its signs."""
    return plain(unmarked(rich))


# Any below: JSON of a foreign service.
def properties(given: Mapping[str, Any]) -> list[str]:
    """A list item for each property with a value, in the order of the page. Relations are ids, which say nothing."""
    lines: list[str] = []
    for name, value in given.items():
        if isinstance(value, dict) and value.get("type") != "title" and (said := _value(value, 0)):
            lines.append(f"- {plain(' '.join(name.split()))}: {plain(' '.join(said.split()))}")
    return lines


def _value(given: dict[str, Any], depth: int) -> str:
    kind = words(given, "type")
    value = given.get(kind)
    if kind in {"rich_text", "title"}:
        return unmarked(value)
    if kind in _NAMED:
        return words(value, "name")
    if kind in _SEVERAL:
        return ", ".join(name for one in listed(value)[:_MOST_VALUES] if (name := words(one, "name")))
    if kind in {"checkbox", "boolean"}:
        return "yes" if value is True else "no"
    if kind == "date":
        return " to ".join(at for end in ("start", "end") if (at := words(value, end)))
    if kind == "unique_id":
        return "-".join(part for name in ("prefix", "number") if (part := words(value, name)))
    if kind == "verification":
        return words(value, "state")
    if kind in {"formula", "rollup"} and depth < _MOST_DEPTH:
        return _value(named(given, kind), depth + 1)
    if kind == "array" and depth < _MOST_DEPTH:
        return ", ".join(said for one in listed(value)[:_MOST_VALUES] if (said := _value(one, depth + 1)))
    return words(given, kind)
