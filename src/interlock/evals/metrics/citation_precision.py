"""Share of what the answer cites that lies in the case's evidence: by citation, or by character."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._spans import characters, common, meets
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """What is counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["citation", "character"] = Field(
        default="citation", description="citations that touch evidence, or cited characters inside it (needs offsets)"
    )


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]; 0 when nothing is cited although there is evidence."""
    if not case.evidence:
        return Score(None, "the case names no evidence")
    if not output.citations:
        return Score(0.0, "nothing is cited")
    if options.by == "citation":
        right = sum(any(meets(each, citation) for each in case.evidence) for citation in output.citations)
        return Score(right / len(output.citations), f"{right} of {len(output.citations)} citations")
    wanted = characters(case.evidence)
    if wanted is None:
        return Score(None, "the case's evidence has no offsets")
    cited = characters(output.citations)
    if cited is None:
        return Score(0.0, "a citation has no offsets")
    total = sum(end - start for ranges in cited.values() for start, end in ranges)
    return Score(common(cited, wanted) / total)


plugin = Metric(Options, "unit", score)
