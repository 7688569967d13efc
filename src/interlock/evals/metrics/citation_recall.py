"""Share of the case's evidence that the answer cites: by place, or by character."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._spans import characters, common, meets, places
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """What is counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["place", "character"] = Field(
        default="place", description="places that a citation touches, or characters of evidence (needs offsets)"
    )


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]. Of evidence that names the same place one is enough."""
    if not case.evidence:
        return Score(None, "the case names no evidence")
    if options.by == "place":
        asked = places(case.evidence)
        met = sum(any(meets(each, citation) for each in place for citation in output.citations) for place in asked)
        return Score(met / len(asked), f"{met} of {len(asked)} places")
    wanted = characters(case.evidence)
    if wanted is None:
        return Score(None, "the case's evidence has no offsets")
    cited = characters([each for each in output.citations if each.start is not None and each.end is not None])
    total = sum(end - start for ranges in wanted.values() for start, end in ranges)
    return Score(common(wanted, cited or {}) / total)


plugin = Metric(Options, "unit", score)
