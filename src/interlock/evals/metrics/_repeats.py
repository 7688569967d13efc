"""Which repeats of a case pass."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.types import Score

__all__ = ["Options", "passed", "too_few"]


class Options(BaseModel):
    """Of which metric, and what passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str = Field(min_length=1, description="the other metric's name in the suite")
    k: int = Field(ge=1, le=100, description="tries; the suite's repeats are as many or more")
    at_least: float = Field(default=1.0, description="a value passes from here on")
    at_most: float | None = Field(default=None, description="instead: a value passes up to here")


def passed(values: Sequence[float], options: Options) -> int:
    """How many pass."""
    if options.at_most is not None:
        return sum(value <= options.at_most for value in values)
    return sum(value >= options.at_least for value in values)


def too_few(values: Sequence[float], options: Options) -> Score | None:
    """An error where there are fewer repeats than tries: nothing is known then, and no gate passes."""
    if len(values) >= options.k:
        return None
    return Score(None, f"{options.k} tries need as many repeats; there are {len(values)}", error="too_few_repeats")
