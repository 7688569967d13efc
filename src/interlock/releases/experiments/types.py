"""What experiments talk about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.releases.rollouts.types import Guardrail, Measure, Stop

__all__ = [
    "SERVING",
    "AlphaSplit",
    "ArmCount",
    "ArmSpec",
    "Comparison",
    "Eligible",
    "Expected",
    "Experiment",
    "ExperimentSpec",
    "Forecast",
    "Plan",
    "PlannedArm",
    "Primary",
    "Report",
    "State",
    "Unit",
    "Verdict",
]

State = Literal["planned", "running", "decided", "broken", "stopped", "concluded"]
"""`decided` when its verdict is clear or its time is over: the split stays until people conclude. `broken` when units
do not fall to the arms as they should, `stopped` by harm or by a person: everybody is served by the channel's release.
"""
SERVING: frozenset[State] = frozenset({"running", "decided"})
"""States in which units are given to arms."""
Unit = Literal["auto", "user", "conversation"]
"""`auto`: the end user, else the conversation, else the calling key."""
Verdict = Literal["winner", "no_difference", "worse", "harmful", "inconclusive", "invalid"]
"""`no_difference`: surely within the margin. `worse`: every variant surely is. `invalid`: the assignment broke."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ArmSpec(_Spec):
    """One release under test."""

    name: Name
    release: str = Field(
        default="", max_length=80, description="id, or 8 digits of it; of the control what the channel points at"
    )
    share: float | None = Field(
        default=None, gt=0, le=100, description="weight beside the other arms; equal where no arm has one"
    )


class Primary(_Spec):
    """The one measure that decides."""

    measure: Measure | Literal["preference"] = Field(
        description="less of it is better; but `preference` (interleaved searches): whose passages are cited"
    )
    effect: float = Field(
        gt=0, lt=1, description="the smallest difference worth acting on: of shares; of latency and cost a ratio"
    )


class AlphaSplit(_Spec):
    """How often the experiment may be wrong, over all looks."""

    primary: float = Field(default=0.04, gt=0, le=0.2, description="a winner or loser that is none, over all variants")
    guardrails: float = Field(default=0.01, gt=0, le=0.2, description="harm that is none, over variants and guardrails")


class Eligible(_Spec):
    """Who takes part. Others are served by the channel's release and not counted."""

    tenants: list[TenantId] = Field(default=[], description="only in these; any without one")
    groups: list[str] = Field(default=[], max_length=50, description="only end users of one of these groups")


class Expected(_Spec):
    """What is known before, for the forecast. What is left out is taken from the last 14 days of the app."""

    units_per_day: float | None = Field(default=None, gt=0, description="units that come, of whatever arm")
    level: float | None = Field(default=None, gt=0, lt=1, description="the primary measure of the control, of a share")
    spread: float | None = Field(
        default=None, gt=0, description="standard deviation of a unit's value; of latency and cost of its logarithm"
    )


class ExperimentSpec(_Spec):
    """The file of an experiment."""

    name: Name
    hypothesis: str = Field(default="", max_length=1000, description="what is expected, and why")
    kind: Literal["ab", "interleave"] = Field(
        default="ab",
        description="`ab`: each unit has one arm; `interleave`: each has passages that the searches of both found",
    )
    app: str = Field(min_length=1, max_length=64)
    channel: Literal["stage", "prod"] = "prod"
    arms: list[ArmSpec] = Field(min_length=2, max_length=8, description="the first is the control")
    traffic: float = Field(default=100.0, gt=0, le=100, description="per cent of the eligible units that take part")
    unit: Unit = Field(default="auto", description="what is given to an arm, and what is judged")
    eligible: Eligible = Eligible()
    primary: Primary
    guardrails: list[Guardrail] = Field(default=[Guardrail(measure="error", margin=0.02)], max_length=6)
    stops: list[Stop] = Field(default=[Stop(measure="error", above=0.5)], max_length=10)
    alpha: AlphaSplit = AlphaSplit()
    power: float = Field(default=0.8, gt=0, lt=1, description="of finding the effect, for the forecast")
    min_units: int = Field(default=50, ge=25, description="units an arm before anything is judged")
    max_days: float = Field(default=28.0, gt=0, le=180, description="after it the verdict is what it is")
    check_every_s: float = Field(default=60.0, ge=0.2, le=3600)
    expected: Expected = Expected()

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, said: Any) -> Any:  # Any: before validation
        if _is_interleaved(said):
            # Everybody gets both arms: there is nothing to guard one against the other.
            return {"guardrails": [], "stops": [], **said}
        if isinstance(said, dict) and _decides(said.get("primary")) == "error":
            # The guardrail that is there by itself would be the primary measure once more.
            return {"guardrails": [], **said}
        return said

    @field_validator("guardrails")
    @classmethod
    def _distinct(cls, guardrails: list[Guardrail], known: ValidationInfo) -> list[Guardrail]:
        primary = known.data.get("primary")
        seen = {primary.measure} if primary is not None else set()
        for each in guardrails:
            if each.measure in seen:
                what = "the primary one" if primary is not None and each.measure == primary.measure else "guarded twice"
                raise ValueError(f"the measure {each.measure!r} is {what}: it is the primary one or has one guardrail")
            seen.add(each.measure)
        return guardrails

    @model_validator(mode="after")
    def _whole(self) -> ExperimentSpec:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError("each arm has a name of its own")
        if "shadow" in names:
            raise ValueError("'shadow' is the name of copies in rollouts: call the arm something else")
        if len({arm.share is None for arm in self.arms}) > 1:
            raise ValueError("either every arm has a share or none has")
        if any(not arm.release for arm in self.arms[1:]):
            raise ValueError("every arm but the control names its release")
        if (self.primary.measure == "preference") != (self.kind == "interleave"):
            raise ValueError("interleaved searches are judged by the measure 'preference', and nothing else is")
        if self.kind == "interleave" and (len(self.arms) != 2 or self.guardrails or self.stops):
            raise ValueError("two searches are interleaved, without guardrails and stops: everybody gets both")
        return self


def _decides(primary: object) -> object:
    """The primary measure, before validation or after."""
    return (
        primary.measure
        if isinstance(primary, Primary)
        else primary.get("measure")
        if isinstance(primary, dict)
        else None
    )


def _is_interleaved(said: object) -> bool:
    return isinstance(said, dict) and said.get("kind") == "interleave"


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """An arm with its whole release and its share of the units that take part."""

    name: str
    release: ReleaseId
    share: float
    """In (0, 1); all of them sum to 1."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the experiment takes, by what was known when it was planned."""

    spread: float
    """Standard deviation of a unit's value of the primary measure."""
    spread_from: str
    """Where that comes from."""
    units: int
    """Units of the smallest arm at which the planned effect is found with the planned power."""
    units_at_most: int
    """Units of the smallest arm at which there is a verdict whatever is true."""
    units_per_day: float | None
    days: float | None
    days_at_most: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided before the first unit. Nothing of it changes afterwards."""

    spec: ExperimentSpec
    arms: tuple[PlannedArm, ...]
    """The control first."""
    tightest_at: int
    """Units of two arms at which the bounds are narrowest."""
    forecast: Forecast
    digest: str
    """``sha256:`` of all of it but the forecast."""

    @property
    def control(self) -> PlannedArm:
        """What the others are compared with."""
        return self.arms[0]


@dataclass(frozen=True, slots=True)
class ArmCount:
    """How many units fell to an arm."""

    name: str
    units: int
    requests: int
    share: float
    """That was asked for."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of one variant beside the control, in its own unit: shares, or ratios less 1."""

    arm: str
    measure: Measure | Literal["preference"]
    role: Literal["primary", "guardrail", "exploratory"]
    """`exploratory` was not in the plan: it decides nothing."""
    value: float
    control: float
    difference: float
    """Of the variant less the control: below 0 is better, of `preference` above 0."""
    low: float
    high: float
    """The difference lies between them at all looks at once, with the probability that the plan gives this role."""
    margin: float | None
    p: float | None
    """Of the primary measure, adjusted by Holm over the variants; valid at all looks at once."""
    units: tuple[int, int]
    """Of the variant and the control."""
    verdict: Literal["better", "worse", "same", "safe", "harmful", "open", ""]


@dataclass(frozen=True, slots=True)
class Report:
    """What one look found."""

    verdict: Verdict
    settled: bool
    """More units would not be asked for."""
    reason: str
    winners: tuple[str, ...]
    """Best first; they were not compared with one another."""
    more_units: int
    """That the smallest arm would need at most for a clear answer; 0 where it is clear."""
    counts: tuple[ArmCount, ...]
    comparisons: tuple[Comparison, ...]
    left_out: int = 0
    """Units that were met in several arms."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment as stored."""

    id: str
    app: AppName
    channel: str
    state: State
    plan: Plan
    seed: str
    planned_at: datetime
    started_at: datetime | None
    checked_at: datetime | None
    by: str
    reason: str
    """Of the last change."""
    report: Report | None = None
    """Of the last look; of one that is decided, broken or over, the one that it rests on."""
    version: int = 0
    intact: bool = True
    """The stored plan has the digest that it was frozen with."""
