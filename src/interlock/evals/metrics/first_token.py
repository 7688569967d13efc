"""Seconds until the first piece of the answer was there."""

from __future__ import annotations

from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """Seconds."""
    if output.first_token_s is None:
        return Score(None, "the time to the first piece is not known")
    return Score(float(output.first_token_s))


plugin = Metric(NoOptions, "real", score, better="lower")
