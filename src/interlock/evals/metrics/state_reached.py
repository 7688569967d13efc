"""The world after the run holds the state that the case asks for; what the case does not name may be anything."""

from __future__ import annotations

from interlock.evals.metrics._subset import holds
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """1 when it does: all or nothing, because half a booking is none."""
    if case.state is None:
        return Score(None, "the case asks for no state")
    return Score(float(holds(output.state, case.state)))


plugin = Metric(NoOptions, "binary", score, source="final-state check as in Yao et al. 2024 (tau-bench)")
