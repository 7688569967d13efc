"""Tools are called in the order asked for: share of the steps that keep it; a skipped one does not."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._calls import NO_CALLS, required
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """How strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strict: bool = Field(default=False, description="0 unless every step is kept in order; other calls may lie between")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]: the longest common subsequence of names over the number of steps asked for."""
    if case.calls is None:
        return Score(None, NO_CALLS)
    wanted, made = [call.name for call in required(case)], [call.name for call in output.calls]
    if not wanted:
        return Score(None, "the case asks for no tool call")
    kept = _longest_common(wanted, made)
    value = float(kept == len(wanted)) if options.strict else kept / len(wanted)
    return Score(value, f"{kept} of {len(wanted)} steps in order")


def _longest_common(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for each in one:
        before = 0
        for at, name in enumerate(other, start=1):
            before, row[at] = row[at], before + 1 if name == each else max(row[at], row[at - 1])
    return row[-1]


plugin = Metric(Options, "unit", score)
