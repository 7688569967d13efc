"""Structured values as text: keys become headings, facts lines, and lists of like records rows of a table."""

from __future__ import annotations

from typing import Any

from interlock.core.errors import TooLarge
from interlock.knowledge.loaders._building import TextBuilder, squeeze

__all__ = ["add_record", "add_value"]

_MAX_VALUES = 500_000
_MAX_DEPTH = 60
_MAX_COLUMNS = 100
_LONG = 300
"""A text of more characters is prose and no table cell."""
_NAMES = ("title", "name", "subject", "question", "label", "id", "key")


class _Count:
    def __init__(self, name: str) -> None:
        self._name = name
        self._values = 0

    def take(self, number: int) -> None:
        self._values += number
        if self._values > _MAX_VALUES:
            raise TooLarge(
                f"the file {self._name!r} has more than {_MAX_VALUES} values", param=self._name, hint="split it"
            )


# Any: JSON of any shape.
def add_value(builder: TextBuilder, value: Any, name: str) -> None:
    """Add a whole value.

    Args:
        builder: takes the blocks.
        value: what JSON gives: dict, list, str, int, float, bool, None.
        name: file path, for messages.

    Raises: TooLarge: more than 500,000 values.
    """
    _add(builder, value, "", 1, _Count(name))


def add_record(builder: TextBuilder, value: Any, number: int, name: str) -> None:
    """Add one of many values, called by its own name, else ``Record N``."""
    title = _name_of(value) or f"Record {number}"
    builder.heading(title[:200], 1)
    _add(builder, value, "", 2, _Count(name))


def _add(builder: TextBuilder, value: Any, key: str, level: int, count: _Count) -> None:
    if level > _MAX_DEPTH:
        return _line(builder, key, "…")
    if isinstance(value, dict):
        count.take(len(value))
        return _add_object(builder, value, level, count)
    if isinstance(value, list):
        count.take(len(value))
        return _add_list(builder, value, key, level, count)
    return _line(builder, key, _scalar(value))


def _add_object(builder: TextBuilder, value: dict[str, Any], level: int, count: _Count) -> None:
    """Facts first, so that they stand under the heading of their object and not of its last part."""
    for key, fact in value.items():
        if not isinstance(fact, (dict, list)):
            _line(builder, key, _scalar(fact))
    for key, part in value.items():
        if isinstance(part, (dict, list)) and part:
            if isinstance(part, list) and not any(isinstance(item, (dict, list)) for item in part):
                count.take(len(part))
                _line(builder, key, ", ".join(filter(None, map(_scalar, part))))
                continue
            builder.heading(key, min(level, 9))
            _add(builder, part, key, level + 1, count)


def _add_list(builder: TextBuilder, value: list[Any], key: str, level: int, count: _Count) -> None:
    columns = _columns(value)
    if columns:
        count.take(sum(map(len, value)))
        rows = [[_scalar(record.get(column)) for column in columns] for record in value]
        builder.table([columns, *rows], has_header=True)
        return
    for number, item in enumerate(value, start=1):
        if isinstance(item, (dict, list)):
            builder.heading((_name_of(item) or f"{key or 'Record'} {number}")[:200], min(level, 9))
            _add(builder, item, key, level + 1, count)
        else:
            _line(builder, "", _scalar(item))


def _columns(value: list[Any]) -> list[str]:
    """Column names when the list is a table: several flat records of short facts with mostly the same keys."""
    if len(value) < 2 or not all(isinstance(item, dict) and item for item in value):
        return []
    names: dict[str, int] = {}
    for record in value:
        for key, fact in record.items():
            if isinstance(fact, (dict, list)) or (isinstance(fact, str) and len(fact) > _LONG):
                return []
            names[key] = names.get(key, 0) + 1
        if len(names) > _MAX_COLUMNS:
            return []
    filled = sum(names.values()) / (len(names) * len(value))
    return list(names) if filled >= 0.5 else []


def _name_of(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    found = (value.get(key) for key in _NAMES)
    return next(
        (squeeze(_scalar(name)) for name in found if isinstance(name, (str, int)) and _scalar(name).strip()), ""
    )


def _line(builder: TextBuilder, key: str, text: str) -> None:
    if not text.strip():
        return
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    if len(text) > _LONG or len(paragraphs) > 1:
        # Prose keeps its paragraphs; its key stands before the first.
        for number, paragraph in enumerate(paragraphs):
            builder.add("paragraph", f"{key}: {paragraph}" if key and not number else paragraph)
        return
    builder.add("list", f"{squeeze(key)}: {squeeze(text)}" if key else squeeze(text))


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
