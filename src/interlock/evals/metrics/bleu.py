"""BLEU of one answer against all references, from 0 to 1; a corpus BLEU it is not, nor is its mean."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._library import library
from interlock.evals.metrics._references import NO_REFERENCE
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """As sacrebleu takes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenize: Literal["13a", "intl", "char", "zh", "none"] = Field(
        default="13a", description="how words are told apart; zh or char for languages without spaces"
    )
    max_order: int = Field(default=4, ge=1, le=9, description="longest word sequence that is counted")
    lowercase: bool = Field(default=False, description="ignore case")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]: sacrebleu's sentence score over 100, exponential smoothing, effective order."""
    if not case.references:
        return Score(None, NO_REFERENCE)
    bleu = library("sacrebleu.metrics").BLEU(
        lowercase=options.lowercase, tokenize=options.tokenize, max_ngram_order=options.max_order, effective_order=True
    )
    told = bleu.sentence_score(output.text, case.references).score / 100
    return Score(min(1.0, max(0.0, told)))


plugin = Metric(
    Options, "unit", score, libraries=("sacrebleu",), source="Papineni et al. 2002; sacrebleu, sentence score / 100"
)
