"""Share of the tool calls made that nobody asked for: detours, repeats, needless steps."""

from __future__ import annotations

from interlock.evals.metrics._calls import NO_CALLS, allowed
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]; 0 when nothing is called."""
    if case.calls is None:
        return Score(None, NO_CALLS)
    made = len(output.calls)
    extra = made - allowed(case, output.calls)
    return Score(extra / made if made else 0.0, f"{extra} of {made} calls" if extra else "")


plugin = Metric(NoOptions, "unit", score, better="lower")
