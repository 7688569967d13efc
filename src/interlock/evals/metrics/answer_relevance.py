"""Cosine of question and answer in the embedder's space: whether they are about the same thing.

A wrong answer on the topic scores as well as a right one, and the question said again scores best of all (look at the
floor `echo`); a short right answer ("42") scores low. Use it to see drift between releases, not to pass one.
"""

from __future__ import annotations

from interlock.evals.metrics._embedding import nearness
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


async def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]; negative cosines count as 0."""
    if instruments.embedder is None:
        return Score(None, "there is no embedder")
    if not case.question.strip():
        return Score(None, "the question is blank")
    if not output.text.strip():
        return Score(0.0, "the answer is empty")
    found = await nearness(instruments.embedder, case.question, output.text, kinds=("query", "passage"))
    return Score(found.value, found.note)


plugin = Metric(NoOptions, "unit", score, needs=frozenset({"embedder"}))
