"""METEOR without WordNet: words matched as they are and by English stem, with a penalty for scattered matches.

Synonyms are left out, because WordNet would have to be downloaded: values lie at or below those of METEOR with it.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._library import library
from interlock.evals.metrics._references import best
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """Weights, as in Lavie and Agarwal 2007."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.9, gt=0, lt=1, description="weight of recall against precision")
    beta: float = Field(default=3.0, ge=0, description="how fast the penalty grows with scattered matches")
    gamma: float = Field(default=0.5, ge=0, le=1, description="largest penalty")


class _NoSynonyms:
    """In the place of WordNet."""

    @staticmethod
    def synsets(_: str) -> list[object]:
        """None of any word."""
        return []


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1], of the best reference."""
    single = library("nltk.translate.meteor_score").single_meteor_score
    return best(
        case,
        output,
        lambda reference, text: float(
            single(
                reference.split(),
                text.split(),
                wordnet=_NoSynonyms(),
                alpha=options.alpha,
                beta=options.beta,
                gamma=options.gamma,
            )
        ),
    )


plugin = Metric(
    Options, "unit", score, libraries=("nltk",), source="Lavie and Agarwal 2007; NLTK's METEOR with an empty WordNet"
)
