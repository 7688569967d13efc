"""What evaluation talks about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from interlock.core.answers import Answer
from interlock.stats.intervals import Interval

__all__ = ["Case", "CaseOutcome", "Gold", "Judgement", "Kind", "Rate"]

Kind = Literal["single", "double", "unanswerable", "restricted"]


class Gold(BaseModel):
    """A place that holds the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    document: str
    quote: str = Field(min_length=1)
    page: int | None = None
    place: int | None = Field(default=None, description="gold of the same place says the same: one of them is enough")


class Case(BaseModel):
    """One line of a golden set."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: str = Field(min_length=1)
    kind: Kind
    question: str = Field(min_length=1)
    user: str = Field(alias="as", description="who asks")
    answerable: bool = Field(description="for this user")
    facts: list[list[str]] = Field(default_factory=list, description="each: accepted wordings of one required fact")
    gold: list[Gold] = Field(default_factory=list)
    allowed_as: str | None = Field(default=None, description="restricted: somebody who may read it")
    tags: list[str] = Field(default_factory=list)
    variables: dict[str, JsonValue] = Field(default_factory=dict, description="values for the prompt of the app")

    @model_validator(mode="after")
    def _consistent(self) -> Case:
        if self.answerable and not self.gold:
            raise ValueError(f"case {self.id!r} is answerable but names no gold")
        return self


class Judgement(NamedTuple):
    """What an answer got right."""

    declined: bool
    cited_any: bool
    """A citation overlaps a gold quote."""
    cited_all: bool
    """A citation overlaps gold of every place."""
    facts: bool
    """Every required fact stands in the answer, in one of its wordings."""
    leaked: bool
    """A passage, a citation or a quote comes from a document this user may not read."""


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """One case after its run."""

    case: Case
    answer: Answer | None
    """None when the app failed."""
    judgement: Judgement
    first_quote_s: float | None
    """Seconds to the first quote, None when there was none."""
    seconds: float
    cost_nano: int | None
    trace_id: str
    error: str = ""


class Rate(NamedTuple):
    """A proportion with its 95 % interval."""

    name: str
    successes: int
    trials: int
    interval: Interval

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.successes / self.trials
