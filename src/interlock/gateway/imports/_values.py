"""Values of LiteLLM's `config.yaml`, narrowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

__all__ = ["decimal", "fallbacks", "items", "number", "over", "per_million", "rows"]

# Any in this module: YAML that somebody else wrote.


def rows(value: object) -> Iterator[tuple[str, list[str]]]:
    """Group and the groups that follow it, of a list of mappings."""
    for row in value if isinstance(value, list) else ():
        for group, names in row.items() if isinstance(row, dict) else ():
            yield str(group), [str(name) for name in items(names)]


def fallbacks(section: Mapping[str, Any]) -> dict[str, list[str]]:
    """Group to the groups that follow it; ``*`` for those that name none."""
    found: dict[str, list[str]] = {}
    for group, names in rows(section.get("fallbacks")):
        known = found.setdefault(group, [])
        known += [name for name in names if name not in known]
    default = items(section.get("default_fallbacks"))
    if default:
        found.setdefault("*", [str(name) for name in default])
    return found


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e15 else None


def decimal(value: object) -> str | None:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return f"{round(amount, 9).normalize():f}" if amount.is_finite() and 0 <= amount < 10**9 else None


def per_million(value: object) -> str:
    try:
        amount = Decimal(str(value)) * 1_000_000
    except InvalidOperation:
        return "0"
    return f"{round(amount, 9).normalize():f}" if amount.is_finite() and 0 <= amount < 10**9 else "0"


def over(value: object) -> dict[str, str] | None:
    """A budget's duration as a period or a window; None when there is no such length."""
    if value is None:
        return {"period": "total"}
    text = str(value).strip().lower()
    named = {
        "1mo": "month",
        "30d": "month",
        "31d": "month",
        "1d": "day",
        "24h": "day",
        "1h": "hour",
        "7d": "week",
        "1w": "week",
    }
    if text in named:
        return {"period": named[text]}
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        return None
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
    return {"window": text} if 1 <= seconds <= 7 * 86_400 else None
