"""Share of the case's facts that stand in the answer, in one of their wordings."""

from __future__ import annotations

from interlock.evals.metrics._words import plain
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]."""
    if not case.facts:
        return Score(None, "the case names no facts")
    text = plain(output.text)
    missing = [
        number
        for number, wordings in enumerate(case.facts, start=1)
        if not any(plain(wording) in text for wording in wordings)
    ]
    reason = f"missing: fact {', '.join(map(str, missing))}" if missing else ""
    return Score(1 - len(missing) / len(case.facts), reason)


plugin = Metric(NoOptions, "unit", score)
