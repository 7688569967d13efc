"""Cosine of answer and reference in the embedder's space, of the nearest reference.

It sees topic and wording. A negation or another number changes it little: it proves no answer right.
"""

from __future__ import annotations

from interlock.evals.metrics._embedding import nearness
from interlock.evals.metrics._references import NO_REFERENCE
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


async def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]; negative cosines count as 0."""
    references = [each for each in case.references if each.strip()]
    if not references:
        return Score(None, NO_REFERENCE)
    if instruments.embedder is None:
        return Score(None, "there is no embedder")
    if not output.text.strip():
        return Score(0.0, "the answer is empty")
    found = [
        await nearness(instruments.embedder, reference, output.text, kinds=("passage", "passage"))
        for reference in references
    ]
    nearest = max(found)
    return Score(nearest.value, nearest.note)


plugin = Metric(NoOptions, "unit", score, needs=frozenset({"embedder"}), source="Reimers and Gurevych 2019")
