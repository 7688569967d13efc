"""What the gateway talks about: targets, routes, and facts about models."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from interlock.core.patterns import check_pattern
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.structured.settings import StructuredSpec

__all__ = [
    "Approval",
    "Cascade",
    "Considered",
    "Decision",
    "Degradation",
    "ModelProfile",
    "Requirements",
    "RouteSpec",
    "Shadow",
    "Strategy",
    "Target",
    "Tier",
]

Tier = Literal["none", "small", "capable"]
"""Capability tier: `none` quotes, `small` follows one simple instruction, `capable` follows a whole answer prompt."""
Strategy = Literal["fallback", "weighted", "cost", "latency", "cascade"]
Degradation = Literal["smaller", "cache", "extractive", "refuse"]
"""When no target can answer: targets of last resort; a kept answer past its time; quotes instead of a model's words
(apps with documents); an honest refusal with a time to come back."""


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
    """Facts about a model family, from `profiles.json` and ``gateway.providers.NAME.profiles``. What is not known of a
    model is left to its provider: it is taken for able, and its context for long enough.
    """

    tier: Tier = "capable"
    context_tokens: int = 0
    """0 when it is not known: no request is turned away for its length then."""
    max_output_tokens: int = 4_096
    tools: bool = True
    json_schema: bool = True
    images: bool = True
    system_role: bool = True
    output_token_field: str = "max_tokens"
    """Name of the limit on the OpenAI wire: newer models refuse `max_tokens`."""
    fixed_sampling: bool = False
    """True when the model refuses temperature and top_p (reasoning models)."""
    thinking: Literal["budget", "level", "adaptive"] = "budget"
    """How its API takes `Reasoning`: a number of tokens, a named level (Gemini 3), or its own choice (Claude 4.6)."""
    prompt_cache_tokens: int = 0
    """Shortest prompt prefix that its provider keeps when it is marked; 0 when there are no marks."""
    prompt_cache_tools: bool = True
    """False when tools cannot carry a mark."""


class ModelFacts(BaseModel):
    """What an operator says of models whose facts Interlock does not know, or knows otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tier: Tier | None = Field(
        default=None, description="'small' models write claim by claim from documents; 'none' only quotes"
    )
    context_tokens: int | None = Field(default=None, ge=0, description="longest prompt and answer; 0 sets no limit")
    max_output_tokens: int | None = Field(
        default=None, ge=1, description="longest answer: reserved when a request names no limit"
    )
    tools: bool | None = Field(default=None, description="whether it calls tools")
    json_schema: bool | None = Field(default=None, description="whether its provider holds answers to a JSON Schema")
    images: bool | None = Field(default=None, description="whether it reads images and files")
    system_role: bool | None = Field(default=None, description="whether it takes a system message")
    output_token_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None, description="name of the limit on OpenAI's wire"
    )
    fixed_sampling: bool | None = Field(default=None, description="whether it refuses temperature and top_p")


class Approval(BaseModel):
    """What the provider register says about a target: a fact of contracts and law, not of the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    uses: list[str] = Field(
        default_factory=lambda: ["*"],
        description="risk classes it is approved for, as 'public', 'internal'; '*' is all",
    )
    regions: list[str] = Field(default_factory=list, description="where it processes data, as 'eu', 'us-east'")
    retention_days: int | None = Field(default=None, ge=0, description="how long the provider keeps content")
    trains_on_data: bool | None = Field(default=None, description="whether the provider may train on content")
    deprecated_on: date | None = Field(default=None, description="from this day on it is not used any more")
    note: str = Field(default="", description="for people: the contract, who approved it")


class Requirements(BaseModel):
    """What every target of a route must meet; one that does not is passed over, however cheap or fast it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    regions: list[str] = Field(default_factory=list, description="the target must process in one of these, only")
    use: str | None = Field(default=None, description="risk class of the app: the target must be approved for it")
    max_retention_days: int | None = Field(
        default=None, ge=0, description="the provider may keep content for at most so many days"
    )
    no_training: bool = Field(default=False, description="the provider must not train on content")
    tools: bool = Field(default=False, description="the model must be able to call tools")
    images: bool = Field(default=False, description="the model must read images and files")
    json_schema: bool = Field(default=False, description="the provider must hold the model to a JSON Schema")
    min_context_tokens: int = Field(default=0, ge=0, description="smallest context window, in tokens")
    max_price_per_million: str | None = Field(
        default=None, pattern=r"^\d+(\.\d+)?$", description="US dollars for a million input and a million output tokens"
    )


class Shadow(BaseModel):
    """A second target that gets a copy of some requests; its answers are measured and thrown away."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    target: str = Field(description="'provider/model' that gets the copies")
    share: float = Field(default=1.0, gt=0, le=1, description="share of the requests that is copied")
    concurrency: int = Field(default=2, ge=1, le=64, description="copies at once; further ones are not sent")
    max_per_hour: int = Field(default=600, ge=1, description="copies an hour and worker; further ones are not sent")
    timeout_s: float = Field(default=60.0, gt=0, le=600, description="longest time of a copy, in seconds")
    charge: bool = Field(
        default=False, description="admit copies under the tenant's limits and write them to its ledger as `shadow`"
    )

    @field_validator("target")
    @classmethod
    def _is_target(cls, target: str) -> str:
        Target.parse(target)
        return target


class Cascade(BaseModel):
    """When an earlier target's answer is good enough; otherwise the next one answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    min_chars: int = Field(default=1, ge=0, description="a shorter answer, in characters, is escalated")
    finished: bool = Field(default=True, description="the answer must not have been cut off or filtered")
    satisfies_schema: bool = Field(default=True, description="a requested JSON Schema must hold")
    reject: list[str] = Field(default_factory=list, description="regular expressions that must not be found in it")

    @field_validator("reject")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        return [check_pattern(pattern) for pattern in patterns]


# Any: options of a hook in `post`, which the hook itself reads.
class RouteSpec(BaseModel):
    """Component `route` of a release: which models may answer, in which order, under which conditions."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    targets: list[str] = Field(min_length=1, description="'provider/model', best first; later ones are fallbacks")
    strategy: Strategy = Field(
        default="fallback",
        description="fallback: in order; weighted: by share; cost: cheapest first; latency: the faster of two drawn;"
        " cascade: in order until an answer passes `cascade`",
    )
    weights: dict[str, float] = Field(default_factory=dict, description="share of each target for `weighted`")
    require: Requirements = Requirements()
    sticky: Literal["none", "conversation", "user"] = Field(
        default="none",
        description="what keeps its target under `weighted` and `latency`; a call without a"
        " conversation's id is drawn anew, one without a user keeps its key's target",
    )
    cascade: Cascade = Cascade()
    shadow: Shadow | None = Field(default=None, description="send copies of requests to another target")
    downgrade_at: float | None = Field(
        default=None, gt=0, le=1, description="share of a money budget from which the cheapest target goes first"
    )
    degrade: list[Degradation] = Field(
        default_factory=list, description="what to do when no target can answer, in order"
    )
    smaller: list[str] = Field(default_factory=list, description="targets of last resort, for `degrade: [smaller]`")
    refuse_retry_after_s: float = Field(
        default=30.0, gt=0, le=86_400, description="when a refused caller may come back, for `degrade: [refuse]`"
    )
    cache: CacheSpec | None = Field(default=None, description="keep answers; nothing is kept without it")
    prompt_cache: bool = Field(
        default=True, description="mark the stable start of long prompts, where the provider keeps marked ones"
    )
    structured: StructuredSpec = StructuredSpec()
    post: list[str | dict[str, Any]] = Field(
        default_factory=list,
        description="rewriting of every answer's text, in order: trim, strip_code_fence, json_only, max_chars,"
        " regex_replace; the answer is held back until it is whole",
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="where the caller sets none")
    top_p: float | None = Field(default=None, gt=0, le=1, description="where the caller sets none")
    seed: int | None = Field(default=None, description="where the caller sets none")
    max_output_tokens: int | None = Field(
        default=None, ge=1, le=1_000_000, description="a caller that asks for more gets this; empty: what it asks for"
    )
    total_timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="longest time of a request with all its tries and waits, in seconds"
    )
    try_timeout_s: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="longest time of one try to its last token, in seconds; empty: the total",
    )
    first_token_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="longest wait of one try for its first token, in seconds; targets that follow keep their share of"
        " the total",
    )
    retries: int = Field(default=2, ge=0, le=10, description="tries after the first, per target, before a first token")
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="who goes first where calls wait for a turn at a provider"
    )

    def limit(self, asked: int | None) -> int | None:
        """Output tokens to ask a target for; None leaves it to the target."""
        if asked is None or self.max_output_tokens is None:
            return self.max_output_tokens if asked is None else asked
        return min(asked, self.max_output_tokens)

    @field_validator("targets", "smaller")
    @classmethod
    def _parse_targets(cls, targets: list[str]) -> list[str]:
        for name in targets:
            Target.parse(name)
        return targets

    @model_validator(mode="after")
    def _fits(self) -> RouteSpec:
        unknown = [name for name in self.weights if name not in self.targets]
        if unknown:
            raise ValueError(f"weights names {unknown[0]!r}, which is no target of the route")
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("a weight is not negative")
        if self.weights and not any(self.weights.get(name, 1.0) > 0 for name in self.targets):
            raise ValueError("at least one target needs a weight above 0")
        if "smaller" in self.degrade and not self.smaller:
            raise ValueError("degrade: [smaller] needs targets under `smaller`")
        if "cache" in self.degrade and (self.cache is None or not self.cache.stale_s):
            raise ValueError("degrade: [cache] needs `cache` with a stale_s above 0")
        return self


@dataclass(frozen=True, slots=True)
class Considered:
    """One target of a route and what became of it."""

    target: str
    verdict: Literal["planned", "served", "failed", "refused"]
    code: str = ""
    """Why not, for machines: ``region``, ``use``, ``breaker_open``, ``rate_limit_exceeded`` …"""
    reason: str = ""
    """Why not, for people."""


@dataclass(slots=True)
class Decision:
    """How a request was routed: the order that was planned, and what happened to each target."""

    strategy: Strategy = "fallback"
    considered: list[Considered] = field(default_factory=list)
    """In the order in which it was decided."""

    def header(self, *, failed: bool = False) -> str:
        """For ``X-Interlock-Route``: the target that serves, then why each of the others does not.

        Args:
            failed: the call failed in the end, so that whoever began to serve it did not.
        """
        served = [row.target for row in self.considered if row.verdict == "served" and not failed]
        others = [f"{row.target}={row.code}" for row in self.considered if row.verdict in {"failed", "refused"}]
        return "; ".join([*(served[-1:] or ["none"]), *others])
