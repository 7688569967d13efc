"""What was retrieved, as a ranking of documents, against a case's judgements."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.ports import Instruments, Metric
from interlock.evals.ranking import Measure
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "ranking_metric"]


class Options(BaseModel):
    """How deep to look."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int = Field(default=10, ge=1, le=10_000, description="only the first so many documents count")


def ranking_metric(measure: Measure, source: str) -> Metric[Options]:
    """The metric of one measure. Of several passages of a document the first gives its place.

    A target that reports nothing it found gets 0: what is left out is not passed.
    """

    def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
        if not any(grade > 0 for grade in case.relevant.values()):
            return Score(None, "the case names no relevant documents")
        ranking = list(dict.fromkeys(found.source for found in output.found))
        value = measure(ranking, case.relevant, options.k)
        return Score(min(1.0, value), "" if ranking else "the target reports nothing that it found")

    return Metric(Options, "unit", score, source=source)
