"""Share of the fields of the expected JSON that the answer's JSON has right, each compared as the options say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._json import json_in
from interlock.evals.metrics._subset import holds
from interlock.evals.metrics._words import normalised
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]

_Compare = Literal["exact", "text", "number", "set", "ignore"]
_NOTHING = object()


class Options(BaseModel):
    """How fields are compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    compare: dict[str, _Compare] = Field(
        default_factory=dict,
        description="by path (`address.city`, `items.0.price`, `items.*.price`): exact (default), text (case and "
        "punctuation aside), number (see tolerance), set (a list in any order), ignore",
    )
    tolerance: float = Field(default=1e-6, ge=0, description="share by which a number may differ")
    extra_is_wrong: bool = Field(default=False, description="a field that is not expected counts as a wrong one")
    fenced: bool = Field(default=True, description="a code block in the answer is as good as the answer")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]; 0 for an answer that is no JSON."""
    if not isinstance(case.expected, (dict, list)) or not case.expected:
        return Score(None, "the case expects no JSON object or list")
    parsed = json_in(output.text, fenced=options.fenced)
    if not parsed.found:
        return Score(0.0, "no JSON")
    fields = [(path, value) for path, value in _leaves(case.expected, (), options) if _how(path, options) != "ignore"]
    if not fields:
        return Score(None, "every expected field is ignored")
    wrong = [
        path for path, value in fields if not _agrees(_at(parsed.value, path), value, _how(path, options), options)
    ]
    extra = 0
    if options.extra_is_wrong:
        known = {path for path, _ in fields}
        given = (path for path, _ in _leaves(parsed.value, (), options))
        extra = sum(path not in known and _how(path, options) != "ignore" for path in given)
    # Names of expected fields are the suite's own words.
    told = ", ".join(".".join(path) for path in wrong[:5])
    reason = "; ".join([*([f"wrong: {told}"] if wrong else []), *([f"{extra} not expected"] if extra else [])])
    return Score((len(fields) - len(wrong)) / (len(fields) + extra), reason)


_Path = tuple[str, ...]


def _leaves(value: Any, path: _Path, options: Options) -> Iterator[tuple[_Path, Any]]:  # Any: JSON values
    whole = path and _how(path, options) in {"set", "ignore"}
    if isinstance(value, Mapping) and value and not whole:
        for name, each in value.items():
            yield from _leaves(each, (*path, str(name)), options)
    elif isinstance(value, list) and value and not whole:
        for number, each in enumerate(value):
            yield from _leaves(each, (*path, str(number)), options)
    else:
        yield path, value


def _how(path: _Path, options: Options) -> _Compare:
    exact = options.compare.get(".".join(path))
    return exact or options.compare.get(".".join("*" if step.isdecimal() else step for step in path), "exact")


def _at(value: Any, path: _Path) -> Any:
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _NOTHING
    return value


def _agrees(given: Any, wanted: Any, how: _Compare, options: Options) -> bool:
    if given is _NOTHING:
        return False
    if how == "text":
        return normalised(str(given)) == normalised(str(wanted))
    if how == "number":
        try:
            return math.isclose(float(given), float(wanted), rel_tol=options.tolerance)
        except (TypeError, ValueError, OverflowError):
            return False
    if how == "set" and isinstance(given, list) and isinstance(wanted, list):
        left = list(given)
        for each in wanted:
            match = next((at for at, other in enumerate(left) if _same(other, each)), None)
            if match is None:
                return False
            del left[match]
        return not left
    return _same(given, wanted)


def _same(given: Any, wanted: Any) -> bool:
    return holds(given, wanted) and holds(wanted, given)


plugin = Metric(Options, "unit", score)
