"""What rollouts talk about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interlock.core.ids import AppName, ReleaseId

__all__ = [
    "ACTIVE",
    "Arm",
    "Check",
    "Guardrail",
    "Measure",
    "Rollout",
    "RolloutSpec",
    "State",
    "Stop",
    "UnitOutcome",
]

State = Literal["shadow", "canary", "paused", "held", "holdout", "promoted", "rolled_back"]
"""In `shadow` the control serves everybody and the candidate answers copies. `paused` by a person or a broken
experiment, `held` because it cannot tell; both keep the split as it is. In `holdout` the candidate serves all but a
share that stays on the control to compare with.
"""
ACTIVE: frozenset[State] = frozenset({"shadow", "canary", "paused", "held", "holdout"})
"""States in which a channel serves two releases."""
Arm = Literal["control", "candidate"]
Measure = Literal["error", "declined", "blocked", "unsupported", "latency", "cost", "complaint"]
"""Of every one more is worse. All but latency and cost are shares in [0, 1]; those two are compared as logarithms."""
_RATIOS: frozenset[Measure] = frozenset({"latency", "cost"})


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Guardrail(_Spec):
    """A measure that must not get worse."""

    measure: Measure
    margin: float = Field(
        gt=0, lt=1, description="harm up to this is accepted: a difference of shares; of latency and cost a ratio"
    )
    tolerance: float = Field(default=0.0, ge=0, lt=1, description="harm proven beyond this rolls back")

    @model_validator(mode="after")
    def _ordered(self) -> Guardrail:
        if self.tolerance >= self.margin:
            raise ValueError("tolerance lies below margin")
        return self

    @property
    def is_ratio(self) -> bool:
        """Whether it is compared as a ratio."""
        return self.measure in _RATIOS


class Stop(_Spec):
    """Rolls back without statistics: for what must never be, however few have met it."""

    measure: Measure
    above: float = Field(
        gt=0, description="mean over the candidate's units; seconds or US dollars for latency and cost"
    )
    after: int = Field(default=20, ge=1, description="units of the candidate before it is looked at")


class ShadowSpec(_Spec):
    """Copies of requests to the candidate, before anybody is served by it."""

    share: float = Field(default=1.0, gt=0, le=1, description="of the requests")
    min_units: int = Field(default=50, ge=10, description="units that were copied before the canary begins")
    concurrency: int = Field(default=2, ge=1, le=64, description="copies at once, in each worker")
    max_per_hour: int = Field(default=1000, ge=1, description="in each worker")


class RolloutSpec(_Spec):
    """How a rollout goes. Every default works."""

    shadow: ShadowSpec | None = Field(default=None, description="begin with copies that nobody sees")
    steps: list[float] = Field(default=[1, 5, 10, 25, 50], min_length=1, max_length=20, description="per cent, rising")
    guardrails: list[Guardrail] = Field(
        default=[
            Guardrail(measure="error", margin=0.02),
            Guardrail(measure="declined", margin=0.05),
            Guardrail(measure="latency", margin=0.25),
        ],
        min_length=1,
        max_length=6,
    )
    stops: list[Stop] = Field(default=[Stop(measure="error", above=0.5)], max_length=10)
    alpha: float = Field(default=0.05, gt=0, le=0.2, description="of one false rollback, over all guardrails and looks")
    min_units: int = Field(default=50, ge=10, description="units an arm before a step is judged")
    min_step_s: float = Field(default=0.0, ge=0, description="seconds a step lasts at least")
    check_every_s: float = Field(default=60.0, ge=0.2, le=3600)
    max_days: float = Field(default=14.0, gt=0, le=90, description="after it, hold")
    holdout_percent: float = Field(default=0.0, ge=0, le=10, description="stays on the control after promotion")
    holdout_days: float = Field(default=7.0, gt=0, le=90)
    max_cost_usd: float | None = Field(default=None, gt=0, description="of the candidate's answers; pause above it")

    @model_validator(mode="after")
    def _rising(self) -> RolloutSpec:
        if any(not 0 < step <= 50 for step in self.steps) or sorted(set(self.steps)) != self.steps:
            raise ValueError("steps rise, from above 0 to 50 at most")
        named = [each.measure for each in self.guardrails]
        if len(set(named)) != len(named):
            raise ValueError("a measure has one guardrail")
        return self


class UnitOutcome(NamedTuple):
    """One unit of assignment in one arm: what it met, on average over its requests."""

    unit: str
    """Keyed hash: never a name."""
    arm: str
    first_ns: int
    """Its first request in this arm, Unix nanoseconds."""
    requests: int
    error: float | None
    """None where no request says anything of the release."""
    declined: float | None
    """None where no answer says how it came about."""
    blocked: float
    unsupported: float | None
    complaint: float | None
    log_latency: float | None
    log_cost: float | None
    latency_s: float | None
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Check:
    """One look at one measure, in its own unit: shares, or ratios less 1."""

    measure: Measure
    candidate: float
    control: float
    harm: float
    """Candidate worse than control by this."""
    low: float
    """The harm is above this, at every look at once, with probability 1 - alpha / guardrails."""
    high: float
    """The harm is below this, likewise with probability 1 - alpha."""
    margin: float
    units: tuple[int, int]
    """Of candidate and control."""
    verdict: Literal["harmful", "safe", "open"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as stored."""

    id: str
    app: AppName
    channel: str
    state: State
    control: ReleaseId
    candidate: ReleaseId
    spec: RolloutSpec
    seed: str
    step: int
    """Position in `spec.steps`; -1 in the shadow, before the first."""
    started_at: datetime
    step_at: datetime
    checked_at: datetime | None
    by: str
    reason: str
    """Of the last change."""
    checks: tuple[Check, ...] = ()
    """Of the last look."""
    version: int = 0

    @property
    def in_shadow(self) -> bool:
        """Whether the canary has not begun: the candidate answers copies alone, or did before it was paused."""
        return self.step < 0

    @property
    def percent(self) -> float:
        """Share of the units that the candidate serves."""
        if self.state == "holdout":
            return 100.0 - self.spec.holdout_percent
        if self.state == "promoted":
            return 100.0
        if self.in_shadow:
            return 0.0
        return self.spec.steps[self.step] if self.state in ACTIVE else 0.0
