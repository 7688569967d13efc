"""Lines of a text file, bounded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput

__all__ = ["NoValue", "json_lines", "read_json"]

MOST_LINE_BYTES = 4 << 20


class NoValue(ValueError):
    """Text that Python's reader takes for JSON, and that names no one value; says why."""


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises: NoValue; ValueError: it is no JSON; RecursionError: it is too deep."""
    value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise NoValue("a text has half of a surrogate pair") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NoValue(f"the key {twice!r} is there twice")
    return made


def _no_number(said: str) -> Any:
    raise NoValue(f"{said} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NoValue("a number is too large")
    return value


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: whatever the line holds
    """Where a line stands, and the object on it. Empty lines are left out.

    Raises: InvalidInput: a line is too long, no UTF-8, no JSON, or no object.
    """
    with path.open("rb") as lines:
        for number in range(1, 1 << 40):
            raw = lines.readline(MOST_LINE_BYTES + 1)
            if not raw:
                return
            place = f"line {number}"
            if len(raw) > MOST_LINE_BYTES:
                raise InvalidInput(f"{place} of {path.name!r} is longer than {MOST_LINE_BYTES >> 20} MiB", param=place)
            if not raw.strip():
                continue
            try:
                value = read_json(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise InvalidInput(f"{place} of {path.name!r} is not UTF-8", param=place) from error
            except NoValue as error:
                raise InvalidInput(f"{place} of {path.name!r} is not JSON: {error}", param=place) from error
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{place} of {path.name!r} is not JSON", param=place) from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{place} of {path.name!r} is no JSON object", param=place)
            yield place, value
