"""ROUGE: word sequences that answer and reference have in common (1, 2, longest common), of the best reference."""

from __future__ import annotations

from typing import Literal

import regex
from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._library import library
from interlock.evals.metrics._references import NO_REFERENCE
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]

# Scripts without spaces are compared sign by sign.
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}]+")


class Options(BaseModel):
    """Which ROUGE."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = Field(
        default="rougeL", description="words, pairs of words, longest common sequence, the same by lines of a summary"
    )
    report: Literal["f", "precision", "recall"] = Field(default="f", description="what is given")
    stem: bool = Field(default=False, description="compare English word stems (Porter)")
    words: Literal["english", "any"] = Field(
        default="english",
        description="english: as rouge-score has it, which sees only a to z and digits; any: letters of every language",
    )


class _AnyWords:
    """Words of every language; passed to rouge-score in place of its own."""

    @staticmethod
    def tokenize(text: str) -> list[str]:
        """Lower case."""
        return [str(word) for word in _WORD.findall(text.casefold())]


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]."""
    if not case.references:
        return Score(None, NO_REFERENCE)
    scorer = library("rouge_score.rouge_scorer").RougeScorer(
        [options.kind], use_stemmer=options.stem, tokenizer=_AnyWords() if options.words == "any" else None
    )
    # The reference with the best F-score, as rouge-score has it.
    told = scorer.score_multi(case.references, output.text)[options.kind]
    value = {"f": told.fmeasure, "precision": told.precision, "recall": told.recall}[options.report]
    return Score(min(1.0, float(value)))


plugin = Metric(Options, "unit", score, libraries=("rouge_score",), source="Lin 2004; rouge-score (Google)")
