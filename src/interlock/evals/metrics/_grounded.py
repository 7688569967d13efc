"""Claims of an answer held against texts: what groundedness and hallucination both count."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._claims import Against, Checked, check_claims, claims, grounds
from interlock.evals.ports import Instruments
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "grounded"]


class Options(BaseModel):
    """What claims are held against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    against: Against = Field(
        default="all",
        description="the case's context, what the target found, quotes of its citations; all: the first two",
    )


async def grounded(case: Case, output: Output, options: Options, instruments: Instruments) -> Checked | Score:
    """The count, or why there is none."""
    if instruments.check_claim is None:
        return Score(None, "there is no checker of claims")
    if output.declined:
        return Score(None, "the answer declines")
    if not output.text.strip() and not output.calls:
        # Not as "does not apply": a gate would pass what says nothing.
        return Score(None, "the answer is empty", error="empty_answer")
    stated = claims(output.text)
    if not stated:
        return Score(None, "the answer makes no claims")
    texts = grounds(case, output, options.against)
    if not texts and options.against == "context":
        return Score(None, "the case has no context")
    return await check_claims(instruments.check_claim, stated, texts) if texts else Checked(0, len(stated))
