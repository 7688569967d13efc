"""The answer is the reference, character for character; `normalise` forgives case, punctuation, articles, spaces."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._words import normalised
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """How strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalise: bool = Field(default=False, description="forgive case, punctuation, articles and spaces")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when the answer is one of the references, white space at its ends aside."""
    if not case.references:
        return Score(None, "the case has no reference text")
    form = normalised if options.normalise else str.strip
    return Score(float(form(output.text) in {form(each) for each in case.references}))


plugin = Metric(Options, "binary", score, source="SQuAD evaluation script, exact match (with `normalise`)")
