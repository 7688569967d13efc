"""Facts of documents out of their rows, fast: every search looks up those of all that it found.

Columns of JSON come as text, and each text is read once a look-up: most documents of a collection have the same
readers, languages and findings.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from interlock.knowledge.cleaning.store import facts_from
from interlock.knowledge.types import DocumentInfo, PageReview

__all__ = ["InfoReader"]

T = TypeVar("T")

_COLUMNS = tuple(field.name for field in fields(DocumentInfo))
_AS_TEXT = frozenset({"readers", "metadata", "languages", "review", "cleaning"})
_MOMENTS = frozenset({"ingested_at", "checked_at"})
_READERS, _METADATA, _LANGUAGES, _REVIEW, _CLEANING = (
    _COLUMNS.index(name) for name in ("readers", "metadata", "languages", "review", "cleaning")
)
_INGESTED, _CHECKED = _COLUMNS.index("ingested_at"), _COLUMNS.index("checked_at")


class InfoReader:
    """Reads rows of one look-up."""

    def __init__(self) -> None:
        # Any: what each column's texts say.
        self._said: dict[tuple[str, str], Any] = {}

    @staticmethod
    # Any: columns of several types.
    def columns(documents: sa.Table) -> list[sa.ColumnElement[Any]]:
        """What to select for `read`."""
        return [_column(documents, name) for name in _COLUMNS]

    # Any: SQLAlchemy's rows carry no column types.
    def read(self, row: Any) -> DocumentInfo:
        """One row of `columns`."""
        values = list(row)
        values[_READERS] = self._once("readers", values[_READERS], frozenset)
        values[_METADATA] = json.loads(values[_METADATA])
        values[_LANGUAGES] = self._once("languages", values[_LANGUAGES], tuple)
        values[_REVIEW] = self._once("review", values[_REVIEW], _reviews)
        values[_CLEANING] = self._once("cleaning", values[_CLEANING], facts_from)
        values[_INGESTED], values[_CHECKED] = _moment(values[_INGESTED]), _moment(values[_CHECKED])
        return DocumentInfo(*values)

    # Any: JSON.
    def _once(self, column: str, text: str, make: Callable[[Any], T]) -> T:
        key = (column, text)
        found: T | None = self._said.get(key)
        if found is None:
            found = self._said[key] = make(json.loads(text))
        return found


# Any: a column of any type.
def _column(documents: sa.Table, name: str) -> sa.ColumnElement[Any]:
    column = documents.c[name]
    if name in _AS_TEXT:
        return sa.cast(column, sa.Text).label(name)
    # As the driver gives it: two conversions a row are most of what a row takes.
    return sa.type_coerce(column, sa.types.NULLTYPE).label(name) if name in _MOMENTS else column


def _moment(stored: datetime | str | None) -> datetime | None:
    """What `UtcDateTime` makes of it."""
    if stored is None:
        return None
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# Any: JSON.
def _reviews(stored: Any) -> tuple[PageReview, ...]:
    return tuple(PageReview(page, score, tuple(reasons)) for page, score, reasons in stored)
