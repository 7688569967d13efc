"""What the gateway talks about: targets, routes, and facts about models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["ModelProfile", "RouteSpec", "Target", "Tier"]

Tier = Literal["none", "small", "capable"]
"""Capability tier: `none` quotes, `small` follows one simple instruction, `capable` follows a whole answer prompt."""


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider."""

    provider: str
    model: str

    @classmethod
    def parse(cls, name: str) -> Target:
        """``provider/model``; a bare provider name stands for its only model.

        Raises: ValueError: empty provider or model.
        """
        provider, _, model = name.partition("/")
        if not provider or (not model and "/" in name):
            raise ValueError(f"a target is 'provider/model', not {name!r}")
        return cls(provider, model or provider)

    def __str__(self) -> str:
        return self.provider if self.provider == self.model else f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Facts about a model family, from `profiles.json`."""

    tier: Tier = "capable"
    context_tokens: int = 32_768
    max_output_tokens: int = 4_096
    tools: bool = True
    json_schema: bool = True
    images: bool = False
    system_role: bool = True
    output_token_field: str = "max_tokens"
    """Name of the limit on the OpenAI wire: newer models refuse `max_tokens`."""
    fixed_sampling: bool = False
    """True when the model refuses temperature and top_p (reasoning models)."""
    thinking: Literal["budget", "level", "adaptive"] = "budget"
    """How its API takes `Reasoning`: a number of tokens, a named level (Gemini 3), or its own choice (Claude 4.6)."""


class RouteSpec(BaseModel):
    """Component `route` of a release: which models may answer, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: list[str] = Field(min_length=1, description="'provider/model', best first; later ones are fallbacks")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    max_output_tokens: int = Field(default=512, ge=1, le=1_000_000)
    total_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    first_token_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    retries: int = Field(default=2, ge=0, le=10, description="tries after the first, per target, before a first token")

    @field_validator("targets")
    @classmethod
    def _parse_targets(cls, targets: list[str]) -> list[str]:
        for name in targets:
            Target.parse(name)
        return targets
