"""Metadata filters: which documents a search may look at, as conditions on what is known of them.

A filter narrows what rights allow; it never widens it. Both legs apply it before their top rows are taken.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from interlock.core.errors import InvalidInput
from interlock.knowledge.sources import matches
from interlock.knowledge.types import DocumentInfo

__all__ = [
    "EVERYTHING",
    "MOST_VALUES",
    "OPERATORS",
    "Condition",
    "Filter",
    "parse_filter",
    "read_filter",
    "unknown_fields",
]

MOST_CONDITIONS = 20
MOST_VALUES = 200
_MOST_CHARACTERS = 1000

Value: TypeAlias = str | int | float | bool

_OWN: Mapping[str, Callable[[DocumentInfo], tuple[str, ...]]] = {
    "document.source": lambda info: (info.source,),
    "document.title": lambda info: (info.title,),
    "document.media_type": lambda info: (info.media_type,),
    "document.language": lambda info: info.languages,
    "document.ingested_at": lambda info: (info.ingested_at.isoformat(),) if info.ingested_at else (),
}
"""What every document has, beside the metadata of its source and of itself."""

_MOST_NAMED = 50
_CONDITION = re.compile(r"(?P<field>[^=<>!~]*)(?P<sign>[=<>!~]+)(?P<value>.*)", re.DOTALL)
_SIGNS = {"!=": "ne", ">=": "gte", "<=": "lte", "~": "matches", "=": "eq", ">": "gt", "<": "lt"}
OPERATORS = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "contains", "matches", "exists")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. A document without the field meets ``ne`` and ``exists: false`` only."""

    field: str
    operator: str
    value: Value | tuple[Value, ...]
    _several: _Several = dataclasses.field(init=False, compare=False, repr=False)
    """The value of ``in``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_several", _several(self.value if isinstance(self.value, tuple) else ()))

    def holds(self, info: DocumentInfo) -> bool:
        """Whether a document meets it."""
        found = _values(info, self.field)
        if self.operator == "exists":
            return bool(found) is self.value
        if self.operator == "ne":
            return not any(_same(each, self.value) for each in found)
        return any(self._meets(each) for each in found)

    def _meets(self, found: str) -> bool:
        value = self.value
        match self.operator:
            case "in":
                return _is_among(found, self._several)
            case "contains":
                return str(value).casefold() in found.casefold()
            case "matches":
                return matches(str(value), found)
            case "eq":
                return _same(found, value)
            case _:
                return _ORDER[self.operator](_compare(found, value))


# A comparison of unlike values is false, whichever way it is asked.
_ORDER: Mapping[str, Callable[[int | None], bool]] = {
    "gt": lambda order: order is not None and order > 0,
    "gte": lambda order: order is not None and order >= 0,
    "lt": lambda order: order is not None and order < 0,
    "lte": lambda order: order is not None and order <= 0,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold; none at all holds for every document."""

    conditions: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def holds(self, info: DocumentInfo) -> bool:
        """Whether a document may be searched."""
        return all(condition.holds(info) for condition in self.conditions)


EVERYTHING = Filter()


def read_filter(given: Mapping[str, object]) -> Filter:
    """A filter as the API takes it.

    ``{"status": "current", "year": {"gte": 2023}, "team": ["red", "blue"]}``: a plain value must be equal, a list holds
    one that is, and an object names operators. Fields are metadata names, or ``document.source``, ``.title``,
    ``.media_type``, ``.language`` and ``.ingested_at``. Numbers compare as numbers and ISO 8601 dates as dates;
    everything else as text, without regard to case.

    Raises: InvalidInput: `param` names the field.
    """
    conditions: list[Condition] = []
    for field, value in given.items():
        if not field or len(field) > 200:
            raise InvalidInput("a filter names a field of 1 to 200 characters", param="filter")
        if field.startswith("document.") and field not in _OWN:
            raise InvalidInput(
                f"the filter names {field!r}, which documents do not have",
                param=f"filter.{field}",
                hint=f"known: {', '.join(_OWN)}",
            )
        if isinstance(value, Mapping):
            if not value:
                raise InvalidInput(f"the filter on {field!r} says nothing", param=f"filter.{field}")
            conditions += [_condition(field, str(operator), each) for operator, each in value.items()]
        else:
            conditions.append(_condition(field, "in" if isinstance(value, list | tuple) else "eq", value))
    if len(conditions) > MOST_CONDITIONS:
        raise InvalidInput(f"a filter has at most {MOST_CONDITIONS} conditions", param="filter")
    return Filter(tuple(conditions))


def parse_filter(conditions: Sequence[str]) -> Filter:
    """A filter as the command line takes it: ``status=current``, ``year>=2023``, ``team=red,blue``, ``status!=draft``.

    Raises: InvalidInput.
    """
    given: dict[str, dict[str, object]] = {}
    for text in conditions:
        field, sign, value = _parts(text)
        operator = _SIGNS[sign]
        several = operator == "eq" and "," in value
        parsed: object = value.split(",") if several else value
        given.setdefault(field, {})["in" if several else operator] = parsed
    return read_filter(given)


def _parts(text: str) -> tuple[str, str, str]:
    """Field, sign and value. Raises: InvalidInput: names the part that is wrong, or missing."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise _no_condition(text, "it has no comparison")
    field, sign, value = found["field"].strip(), found["sign"], found["value"].strip()
    if sign not in _SIGNS:
        raise _no_condition(text, f"{sign!r} is no comparison")
    if not field:
        raise _no_condition(text, f"there is no field before {sign!r}")
    if not value:
        raise _no_condition(text, f"there is no value after {sign!r}")
    return field, sign, value


def _no_condition(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{text!r} is no condition: {why}", param="filter", hint="write FIELD=VALUE, or with !=, >, >=, <, <=, ~"
    )


def unknown_fields(wanted: Filter, readable: Sequence[DocumentInfo]) -> str:
    """What to tell somebody whose filter names a field that no document has which they may read; empty otherwise.

    Args:
        readable: documents of the collection that the asker may read, and no others: their fields are named.
    """
    if not readable:
        return ""
    missing = [c.field for c in wanted.conditions if not any(_values(info, c.field) for info in readable)]
    if not missing:
        return ""
    fields = sorted({field for info in readable for field in info.metadata})[:_MOST_NAMED]
    named = " or ".join(repr(field) for field in dict.fromkeys(missing))
    return f"no document you may read has a field {named}; fields: {', '.join([*fields, *_OWN])}"


def _condition(field: str, operator: str, value: object) -> Condition:
    param = f"filter.{field}"
    if operator not in OPERATORS:
        raise InvalidInput(
            f"the filter on {field!r} uses the unknown operator {operator!r}",
            param=param,
            hint=f"known: {', '.join(OPERATORS)}",
        )
    if operator == "exists":
        if not isinstance(value, bool):
            raise InvalidInput(f"`exists` on {field!r} is true or false", param=param)
        return Condition(field, operator, value)
    if operator == "in":
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_VALUES:
            raise InvalidInput(f"`in` on {field!r} takes a list of 1 to {MOST_VALUES} values", param=param)
        return Condition(field, operator, tuple(_plain(each, param) for each in value))
    return Condition(field, operator, _plain(value, param))


def _plain(value: object, param: str) -> Value:
    if isinstance(value, str | int | float) and len(str(value)) <= _MOST_CHARACTERS and not _is_nan(value):
        return value
    raise InvalidInput(
        f"{param} takes text of at most {_MOST_CHARACTERS} characters, a number, true or false", param=param
    )


def _is_nan(value: Value) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _values(info: DocumentInfo, field: str) -> Sequence[str]:
    own = _OWN.get(field)
    if own is not None:
        return own(info)
    value = info.metadata.get(field)
    return () if value is None else (value,)


class _Read(NamedTuple):
    """A text as it is compared."""

    number: float | None
    moment: datetime | None
    folded: str


class _Several(NamedTuple):
    """The values of a list, as they are looked up: a list of 200 takes as long as one of two."""

    numbers: frozenset[float]
    moments: frozenset[datetime]
    folded: frozenset[str]


@lru_cache(maxsize=20_000)
def _read(text: str) -> _Read:
    # Documents of a collection say the same few things over and over.
    return _Read(_number(text), _moment(text), text.strip().casefold())


def _several(values: tuple[Value, ...]) -> _Several:
    read = [_read(str(each)) for each in values if isinstance(each, str | bool)]
    numbers = {_number(each) for each in values}
    return _Several(
        frozenset(number for number in numbers if number is not None),
        frozenset(one.moment for one in read if one.moment is not None),
        frozenset(one.folded for one in read),
    )


def _is_among(found: str, several: _Several) -> bool:
    read = _read(found)
    return read.number in several.numbers or read.moment in several.moments or read.folded in several.folded


def _same(found: str, value: Value | tuple[Value, ...]) -> bool:
    if isinstance(value, tuple):
        return False
    if isinstance(value, bool):
        return found.strip().casefold() == str(value).casefold()
    order = _compare(found, value)
    return order == 0


def _compare(found: str, value: Value | tuple[Value, ...]) -> int | None:
    """-1, 0 or 1; None when the two cannot be compared."""
    if isinstance(value, tuple):
        return None
    left = _read(found)
    right = _read(value) if isinstance(value, str) else _Read(_number(value), None, "")
    if left.number is not None and right.number is not None:
        return (left.number > right.number) - (left.number < right.number)
    if isinstance(value, int | float):
        return None
    if left.moment is not None and right.moment is not None:
        return (left.moment > right.moment) - (left.moment < right.moment)
    return (left.folded > right.folded) - (left.folded < right.folded)


def _number(value: Value) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _moment(text: str) -> datetime | None:
    """An ISO 8601 date or time; without a zone it is UTC."""
    text = text.strip()
    try:
        if len(text) == 10:
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
