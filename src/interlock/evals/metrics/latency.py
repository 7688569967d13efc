"""Seconds until the whole answer was there."""

from __future__ import annotations

from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """Seconds."""
    return Score(output.latency_s) if output.latency_s is not None else Score(None, "the target's time is not known")


plugin = Metric(NoOptions, "real", score, better="lower")
