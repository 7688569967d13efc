"""US dollars that the answer cost."""

from __future__ import annotations

from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """US dollars."""
    if output.cost_nano is None:
        return Score(None, "the answer's cost is not known")
    return Score(output.cost_nano / 1e9)


plugin = Metric(NoOptions, "real", score, better="lower")
