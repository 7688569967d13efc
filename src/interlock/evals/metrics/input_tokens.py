"""Tokens that the target read."""

from __future__ import annotations

from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """A count."""
    if output.input_tokens is None:
        return Score(None, "the target does not say how many tokens it read")
    return Score(float(output.input_tokens))


plugin = Metric(NoOptions, "real", score, better="lower")
