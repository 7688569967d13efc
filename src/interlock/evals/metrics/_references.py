"""Compare with every reference, and take the best."""

from __future__ import annotations

from collections.abc import Callable

from interlock.evals.types import Case, Output, Score

__all__ = ["NO_REFERENCE", "best"]

NO_REFERENCE = "the case has no reference text"


def best(case: Case, output: Output, value: Callable[[str, str], float]) -> Score:
    """The highest of `value`, a function of reference and answer in [0, 1]; no score without a reference."""
    if not case.references:
        return Score(None, NO_REFERENCE)
    highest = max(value(reference, output.text) for reference in case.references)
    # Floating point may end a hair outside.
    return Score(min(1.0, max(0.0, float(highest))))
