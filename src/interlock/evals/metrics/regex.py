"""A regular expression matches somewhere in the answer, or (`absent`) nowhere; slow patterns are given up on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from interlock.core.errors import Misconfigured
from interlock.core.patterns import aside, check_pattern, found_in
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """Which pattern."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: Annotated[str, AfterValidator(check_pattern)] | None = Field(
        default=None, description="as the library `regex` reads it; (?i) at its beginning ignores case"
    )
    absent: bool = Field(default=False, description="it must match nowhere")


async def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when it does as asked. A pattern that takes longer than 0.1 s on an answer is an error, not a miss."""
    pattern = options.pattern
    if pattern is None:
        return Score(None, "neither the suite nor the case gives a pattern")
    try:
        matches = await aside(lambda: found_in(pattern, output.text))
    except Misconfigured as error:
        return Score(None, error.message, error=error.code)
    return Score(float(matches != options.absent), "" if matches != options.absent else "matches" if matches else "")


plugin = Metric(Options, "binary", score)
