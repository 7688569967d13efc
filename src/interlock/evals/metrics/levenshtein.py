"""Likeness of answer and reference letter by letter: one less the edit distance over the longer one's length."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._library import library
from interlock.evals.metrics._references import best
from interlock.evals.metrics._words import normalised
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """What is compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalise: bool = Field(default=False, description="forgive case, punctuation, articles and spaces")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1], of the nearest reference."""
    form = normalised if options.normalise else str.strip
    similarity = library("rapidfuzz.distance").Levenshtein.normalized_similarity
    return best(case, output, lambda reference, text: float(similarity(form(text), form(reference))))


plugin = Metric(Options, "unit", score, libraries=("rapidfuzz",), source="RapidFuzz, normalized_similarity")
