"""chrF of one answer against all references, from 0 to 1: F-score of letter sequences, also good for rich grammars."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._library import library
from interlock.evals.metrics._references import NO_REFERENCE
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """As sacrebleu takes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    word_order: int = Field(default=0, ge=0, le=2, description="2 gives chrF++")
    lowercase: bool = Field(default=False, description="ignore case")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]: sacrebleu's sentence score over 100."""
    if not case.references:
        return Score(None, NO_REFERENCE)
    chrf = library("sacrebleu.metrics").CHRF(word_order=options.word_order, lowercase=options.lowercase)
    told = chrf.sentence_score(output.text, case.references).score / 100
    return Score(min(1.0, max(0.0, told)))


plugin = Metric(
    Options, "unit", score, libraries=("sacrebleu",), source="Popović 2015, 2017; sacrebleu, sentence score / 100"
)
