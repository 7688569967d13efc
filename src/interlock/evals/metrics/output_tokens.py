"""Tokens that the target wrote."""

from __future__ import annotations

from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """A count."""
    if output.output_tokens is None:
        return Score(None, "the target does not say how many tokens it wrote")
    return Score(float(output.output_tokens))


plugin = Metric(NoOptions, "real", score, better="lower")
