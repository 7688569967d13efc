"""What monitoring talks about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from interlock.evals.suite import MetricUse

__all__ = ["Alert", "AlertKind", "CanarySpec", "Content", "MonitorSpec", "NightlySpec", "Sample"]

_Prompt = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CanarySpec(_Spec):
    """Fixed prompts that go to the app's model by themselves, so that a provider's silent change is seen."""

    prompts: list[_Prompt] = Field(min_length=1, max_length=50)
    every_minutes: float = Field(default=60, gt=0, le=7 * 24 * 60)
    metric: Literal["levenshtein", "similarity", "bertscore"] = Field(
        default="levenshtein", description="how near an answer is to the first one"
    )
    rounds: int = Field(
        default=5, ge=2, le=100, description="so many, and 20 answers, show how much they differ by themselves"
    )
    margin: float = Field(default=0.05, ge=0, le=0.5, description="a distance larger by this is tolerated")


class NightlySpec(_Spec):
    """A whole run of a suite, once a day."""

    suite: str = Field(min_length=1, description="beside the app's file, e.g. evals/golden.suite.yaml")
    at: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="03:00", description="UTC"
    )


class MonitorSpec(_Spec):
    """`monitor` of an app: how what people are answered is watched."""

    share: float = Field(
        default=0.0, ge=0, le=1, description="of the answers that are sampled; their text is then stored"
    )
    most_per_day: int = Field(default=500, ge=1, le=1_000_000)
    keep_days: float = Field(default=7.0, ge=0, le=365, description="text of a sample; 0: only until it is scored")
    metrics: list[MetricUse] = Field(default_factory=list, max_length=16, description="none may need a reference")
    judge: str | None = Field(default=None, description="route or provider/model that judges")
    budget_usd_per_day: float = Field(default=1.0, gt=0, description="of scoring; when it is spent, samples wait")
    every_minutes: float = Field(default=15.0, gt=0, le=24 * 60, description="how often samples are scored")
    reference: int = Field(default=200, ge=50, le=2_000, description="so many first samples say what is usual")
    window: int = Field(default=100, ge=20, le=1_000, description="so many questions are compared with them at a time")
    margin: float = Field(default=0.03, ge=0, le=0.5, description="a mean that is worse by this is tolerated")
    false_alarm_every: int = Field(
        default=10_000, ge=100, description="scores until a detector may alarm for nothing, on average"
    )
    canaries: CanarySpec | None = None
    nightly: list[NightlySpec] = Field(default_factory=list, max_length=20)

    @field_validator("metrics", mode="before")
    @classmethod
    def _short_forms(cls, given: object) -> object:
        """A name alone is a metric without options."""
        return (
            [{"metric": each} if isinstance(each, str) else each for each in given]
            if isinstance(given, list)
            else given
        )


@dataclass(frozen=True, slots=True)
class Content:
    """The text of a sample."""

    turns: Sequence[Mapping[str, str]]
    """``role`` and ``content``; the last is the question."""
    output: Mapping[str, Any]  # Any: an `Output` as JSON
    """What was answered, as evaluations have it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that was sampled."""

    id: str
    """Its trace."""
    app: str
    release: str
    at: datetime
    content: Content | None
    """None once it is past `keep_days`."""
    vector: Sequence[float] | None
    scores: Mapping[str, float] | None
    """By metric, those that apply; None until it is scored."""
    error: str = ""
    """Code of why it could not be scored."""
    cost_nano: int = 0
    """Of scoring."""
    documents: Sequence[str] = ()
    asker: str = ""


AlertKind = Literal["score_drift", "input_drift", "intent_drift", "canary", "model_name", "nightly"]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should look at."""

    id: str
    app: str
    kind: AlertKind
    subject: str
    """The metric, the suite, the canaries' model."""
    release: str
    at: datetime
    facts: Mapping[str, float | str | int]
    traces: Sequence[str] = field(default_factory=tuple)
    """What to open first."""
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
