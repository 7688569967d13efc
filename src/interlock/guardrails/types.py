"""The component `guardrails` of a release, and what a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from interlock.core.passages import Span
from interlock.core.patterns import check_pattern

__all__ = ["Action", "Finding", "GuardrailSpec", "Rule", "Verdict"]

Action = Literal["allow", "flag", "redact", "block"]
Point = Literal["input", "passages", "output"]


class Rule(BaseModel):
    """One line of a policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    detector: str = Field(description="plug-in: patterns, secrets, injection, pii")
    at: list[Point] = Field(min_length=1)
    action: Action = "flag"
    patterns: list[str] = Field(default_factory=list, max_length=200, description="regular expressions of `patterns`")
    message: str = Field(default="", max_length=500, description="what a blocked caller is told")

    @field_validator("patterns")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        return [check_pattern(pattern) for pattern in patterns]


class GuardrailSpec(BaseModel):
    """The policy of an app."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_input_chars: int = Field(default=16_000, ge=1, le=1_000_000)
    rules: list[Rule] = Field(default_factory=list, max_length=100)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector saw. Carries no text: spans point into what was checked."""

    span: Span
    label: str
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says about one text."""

    action: Action
    rule: str = ""
    """The first rule that says so."""
    message: str = ""
    findings: tuple[Finding, ...] = ()
    """Of all rules that say so; they may overlap."""
