"""JSON out of an answer."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

__all__ = ["Parsed", "json_in"]

_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\r?\n(.*?)```", re.DOTALL)


class Parsed(NamedTuple):
    """What was read; `value` means something only where it was `found`."""

    found: bool
    value: Any = None  # Any: a JSON value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def json_in(text: str, *, fenced: bool) -> Parsed:
    """The whole text as JSON; with `fenced` also the first code block of it that is. NaN and Infinity are no JSON."""
    for candidate in [text, *(_FENCE.findall(text) if fenced else ())]:
        try:
            return Parsed(True, json.loads(candidate, parse_constant=_refuse))
        except (ValueError, RecursionError):
            continue
    return Parsed(False)
