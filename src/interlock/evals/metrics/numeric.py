"""A number in the answer equals the expected one, within a tolerance."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]

_SIGNS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u202f": " "})


class Options(BaseModel):
    """Which number, and how near."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    absolute: float = Field(default=0.0, ge=0, description="may differ by so much")
    relative: float = Field(default=1e-6, ge=0, description="may differ by this share of the expected number")
    which: Literal["last", "first", "any"] = Field(default="last", description="of several numbers in the answer")
    decimal: Literal[".", ","] = Field(default=".", description="decimal sign; the other one parts thousands")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when it is. ``expected`` is a number, or a text whose last number counts."""
    wanted = _wanted(case.expected, options)
    if wanted is None:
        return Score(None, "the case expects no number")
    found = _numbers(output.text, options)
    if not found:
        return Score(0.0, "the answer has no number")
    asked = {"last": found[-1:], "first": found[:1], "any": found}[options.which]
    allowed = max(options.absolute, options.relative * abs(wanted))
    return Score(float(any(abs(each - wanted) <= allowed for each in asked)))


def _wanted(expected: JsonValue, options: Options) -> float | None:
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        try:
            number = float(expected)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    if isinstance(expected, str):
        found = _numbers(expected, options)
        return found[-1] if found else None
    return None


def _numbers(text: str, options: Options) -> list[float]:
    point, thousands = (r"\.", r"[,'’ ]") if options.decimal == "." else (",", r"[.'’ ]")
    pattern = (
        # A sign belongs to the number only where no word or number stands right before it: in 3-4 it is none.
        rf"(?:(?<![\w.,])[-+])?(?:[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+(?![0-9])|[0-9]+)(?:{point}[0-9]+)?"
        rf"(?:[eE][-+]?[0-9]{{1,4}})?"
    )
    found = []
    for match in re.finditer(pattern, text.translate(_SIGNS)):
        # Past this no float tells numbers apart, and the digits may go on for megabytes.
        if len(match[0]) > 400:
            continue
        plain = re.sub(thousands, "", match[0]).replace(options.decimal, ".")
        number = float(plain)
        if math.isfinite(number):
            found.append(number)
    return found


plugin = Metric(Options, "binary", score)
