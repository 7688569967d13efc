"""What this part talks about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

from interlock.core.ids import ReleaseId, TenantId, TraceId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.limits import LimitRule

__all__ = ["CostSettings", "LedgerEntry", "Outcome", "PriceOverride", "Spend"]

Outcome = Literal["ok", "error", "blocked", "cancelled", "orphaned", "shadow"]
"""How the request ended. `orphaned`: its worker died in mid-call, and the reservation's estimate stands until it is
reconciled. `shadow`: a copy of a request, sent to a second target, whose answer nobody got."""


class PriceOverride(BaseModel):
    """A price of your own: a negotiated one, or that of a model nobody lists."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input_per_million: str = Field(pattern=r"^\d+(\.\d+)?$", description="US dollars per million input tokens")
    output_per_million: str = Field(pattern=r"^\d+(\.\d+)?$", description="US dollars per million output tokens")
    cached_per_million: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+)?$",
        description="US dollars; empty: cached input costs as much as other input",
    )


class CostSettings(BaseModel):
    """Section `cost`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    limits: list[LimitRule] = Field(default_factory=list, description="limits and budgets; see docs/how-to/limits.md")
    wait_for_ledger: bool = Field(
        default=False, description="commit the ledger row before the last byte of an answer, not just after"
    )
    journal_fsync: bool = Field(
        default=False, description="the spending journal also survives loss of power; milliseconds a call"
    )

    @field_validator("limits")
    @classmethod
    def _named_once(cls, limits: list[LimitRule]) -> list[LimitRule]:
        names = [rule.name for rule in limits]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules are named {twice!r}")
        return limits

    batch_discount: dict[str, Annotated[str, Field(pattern=r"^(0(\.\d+)?|1(\.0+)?)$")]] = Field(
        default_factory=dict,
        description="'provider/model' or 'provider/*' to the part of the price that its batch API takes off, 0 to 1; "
        "without an entry what the provider announces, 0.5",
    )
    prices: dict[str, PriceOverride] = Field(
        default_factory=dict, description="'provider/model' or 'provider/*' to its price"
    )


class LedgerEntry(msgspec.Struct, frozen=True):
    """One settled call."""

    id: str
    tenant: TenantId
    at: datetime
    principal: str
    end_user: str
    app: str
    release: ReleaseId | None
    trace_id: TraceId
    provider: str
    model: str
    usage: Usage
    cost: Money | None
    """None when unpriced."""
    price: str
    """Which price applied: ``genai-prices:openai/gpt-4o``, ``override:local/*``, or ``unpriced``; with `` batch -50%``
    behind it when the provider's batch API answered, at that discount."""
    outcome: Outcome
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Labels that the caller sent."""


class Spend(NamedTuple):
    """Sum over ledger rows."""

    key: str
    calls: int
    unpriced_calls: int
    input_tokens: int
    output_tokens: int
    cost: Money
