"""Filters as OpenAI's vector stores and file search write them, in our own form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.knowledge.filters import EVERYTHING, MOST_VALUES, Filter, read_filter

__all__ = ["store_filter"]

# Any in this module: JSON.
_MOST_DEPTH = 5
_TOO_MANY = f"a filter has at most {MOST_VALUES} values and comparisons"


def store_filter(given: Mapping[str, Any] | None, param: str) -> Filter:
    """A comparison, or several under ``and``; ``or`` where it is one key with a list of values.

    Args:
        given: as the caller wrote it.
        param: the field it stood in.

    Raises: InvalidInput.
    """
    if given is None:
        return EVERYTHING
    conditions: list[Filter] = []
    try:
        _gather(given, conditions, 0)
    except InvalidInput as error:
        # Named as the caller's dialect has it, not as our own filters do.
        raise InvalidInput(error.message, param=param, hint=error.hint) from error
    held = tuple(condition for each in conditions for condition in each.conditions)
    if len(held) > MOST_VALUES:
        raise InvalidInput(_TOO_MANY, param=param)
    return Filter(held)


def _gather(given: object, found: list[Filter], depth: int) -> None:
    """Conditions of a comparison or of an ``and``; an ``or`` only where it is a list of values."""
    if not isinstance(given, Mapping) or depth > _MOST_DEPTH:
        raise InvalidInput("a filter has `type`, and `key` with `value` or `filters`")
    kind, inner = given.get("type"), given.get("filters")
    if kind in {"and", "or"} and isinstance(inner, list):
        if len(inner) > MOST_VALUES:
            raise InvalidInput(_TOO_MANY)
        if kind == "and":
            for each in inner:
                _gather(each, found, depth + 1)
            return
        keys = {each.get("key") for each in inner if isinstance(each, Mapping) and each.get("type") == "eq"}
        if len(keys) == 1 and all(isinstance(each, Mapping) and each.get("type") == "eq" for each in inner):
            found.append(read_filter({str(keys.pop()): [each.get("value") for each in inner]}))
            return
        raise InvalidInput("`or` is taken over values of one key", hint="search once for each side")
    key, value = given.get("key"), given.get("value")
    if not isinstance(key, str) or not isinstance(kind, str):
        raise InvalidInput("a filter has `type`, and `key` with `value` or `filters`")
    if kind == "nin" and isinstance(value, list):
        if len(value) > MOST_VALUES:
            raise InvalidInput(_TOO_MANY)
        found.extend(read_filter({key: {"ne": each}}) for each in value)
    elif kind in {"eq", "ne", "gt", "gte", "lt", "lte", "in"}:
        found.append(read_filter({key: {kind: value}}))
    else:
        raise InvalidInput(f"a filter cannot be of the type {kind[:32]!r}")
