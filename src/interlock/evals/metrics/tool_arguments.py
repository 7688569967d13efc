"""Share of the tool calls asked for that are made with the right arguments; arguments not named are not compared."""

from __future__ import annotations

from interlock.evals.metrics._calls import NO_CALLS, matched, required
from interlock.evals.metrics._subset import holds
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1], each call made counting for one that was asked for."""
    if case.calls is None:
        return Score(None, NO_CALLS)
    wanted = required(case)
    if not wanted:
        return Score(None, "the case asks for no tool call")
    right = matched(
        wanted, output.calls, lambda asked, call: asked.name == call.name and holds(call.arguments, asked.arguments)
    )
    return Score(right / len(wanted), f"{right} of {len(wanted)} calls")


plugin = Metric(NoOptions, "unit", score)
