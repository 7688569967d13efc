"""What this part talks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from interlock.core.ids import ReleaseId, TenantId, TraceId
from interlock.core.messages import Usage
from interlock.core.money import Money

__all__ = ["CostSettings", "LedgerEntry", "Outcome", "PriceOverride", "Spend"]

Outcome = Literal["ok", "error", "blocked", "cancelled"]


class PriceOverride(BaseModel):
    """A price of your own: a negotiated one, or that of a model nobody lists."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_per_million: str = Field(pattern=r"^\d+(\.\d+)?$", description="US dollars per million input tokens")
    output_per_million: str = Field(pattern=r"^\d+(\.\d+)?$", description="US dollars per million output tokens")
    cached_per_million: str | None = Field(default=None, pattern=r"^\d+(\.\d+)?$")


class CostSettings(BaseModel):
    """Section `cost`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prices: dict[str, PriceOverride] = Field(
        default_factory=dict, description="'provider/model' or 'provider/*' to its price"
    )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
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
    """Which price applied: ``genai-prices:openai/gpt-4o``, ``override:local/*``, or ``unpriced``."""
    outcome: Outcome


class Spend(NamedTuple):
    """Sum over ledger rows."""

    key: str
    calls: int
    unpriced_calls: int
    input_tokens: int
    output_tokens: int
    cost: Money
