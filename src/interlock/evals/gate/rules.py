"""What a gate asks for, as a suite's file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["GateSpec", "Rule", "RuleKind"]

RuleKind = Literal["threshold", "quantile", "not_worse", "better"]


class Rule(BaseModel):
    """One demand. Exactly one of: a threshold, a quantile's threshold, not worse than the baseline, better than it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Annotated[str, StringConstraints(min_length=1)] = Field(description="its name in the suite")
    at_least: float | None = Field(default=None, description="the mean is this or more")
    at_most: float | None = Field(default=None, description="the mean is this or less")
    quantile: float | None = Field(
        default=None, gt=0, lt=1, description="hold this share of the cases to the threshold instead of their mean"
    )
    margin: float | None = Field(default=None, gt=0, description="worse than the baseline by less than this")
    margin_ratio: float | None = Field(
        default=None, gt=0, lt=1, description="the same as a share of the baseline, for seconds, tokens and money"
    )
    improves: bool = Field(default=False, description="better than the baseline")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Rule:
        asked = [name for name in ("at_least", "at_most", "margin", "margin_ratio") if getattr(self, name) is not None]
        asked += ["improves"] if self.improves else []
        if len(asked) != 1:
            told = " and ".join(asked) or "none"
            raise ValueError(
                f"a rule has exactly one of at_least, at_most, margin, margin_ratio and improves; this has {told}"
            )
        if self.quantile is not None and asked[0] not in {"at_least", "at_most"}:
            raise ValueError("quantile goes with at_least or at_most")
        return self

    @property
    def kind(self) -> RuleKind:
        """Which of the four it is."""
        if self.improves:
            return "better"
        if self.margin is not None or self.margin_ratio is not None:
            return "not_worse"
        return "threshold" if self.quantile is None else "quantile"

    @property
    def needs_baseline(self) -> bool:
        """Whether it compares."""
        return self.kind in {"not_worse", "better"}

    def text(self) -> str:
        """For people: ``exact >= 0.8``."""
        name = self.metric if self.quantile is None else f"{self.quantile:.0%} of {self.metric}"
        if self.at_least is not None:
            return f"{name} >= {self.at_least:g}"
        if self.at_most is not None:
            return f"{name} <= {self.at_most:g}"
        if self.margin is not None:
            return f"{name} not worse than the baseline by {self.margin:g}"
        if self.margin_ratio is not None:
            return f"{name} not worse than the baseline by {self.margin_ratio:.0%}"
        return f"{name} better than the baseline"


class GateSpec(BaseModel):
    """The rules that decide, together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.05, gt=0, le=0.2, description="probability at most of passing what should not pass")
    rules: list[Rule] = Field(min_length=1, max_length=32)
    slices: list[str] = Field(default_factory=list, description="hold every value of these slices to the rules too")
    slices_must_pass: bool = Field(
        default=False, description="a slice without enough evidence keeps the gate from passing; else it is only told"
    )
