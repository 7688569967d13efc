"""Words that answer and reference share, as F1, after SQuAD's normalisation; of the best reference."""

from __future__ import annotations

from collections import Counter

from interlock.evals.metrics._references import best
from interlock.evals.metrics._words import normalised
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]."""
    return best(case, output, _f1)


def _f1(reference: str, text: str) -> float:
    wanted, given = normalised(reference).split(), normalised(text).split()
    if not wanted or not given:
        return float(wanted == given)
    common = (Counter(wanted) & Counter(given)).total()
    return 2 * common / (len(wanted) + len(given))


plugin = Metric(NoOptions, "unit", score, source="SQuAD evaluation script, F1")
