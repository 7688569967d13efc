"""Whether one JSON value holds another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["holds"]


def holds(given: Any, wanted: Any) -> bool:  # Any: JSON values
    """Objects may have more keys than asked for; lists agree place by place; numbers to nine digits.

    >>> holds({"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"c": 2.0}]})
    True
    """
    if isinstance(wanted, Mapping):
        return isinstance(given, Mapping) and all(
            name in given and holds(given[name], each) for name, each in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return (
            isinstance(given, Sequence)
            and not isinstance(given, str)
            and len(given) == len(wanted)
            and all(map(holds, given, wanted))
        )
    if _is_number(wanted) and _is_number(given):
        return given == wanted or math.isclose(given, wanted, rel_tol=1e-9)
    return type(given) is type(wanted) and bool(given == wanted)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
