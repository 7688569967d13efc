"""Spans: wide, immutable rows, written in batches and read by scans. Money never depends on this store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from interlock.core.ids import TenantId, TraceId
from interlock.core.trace import Span

__all__ = ["Events", "OpinionRow", "PreferenceRow", "PromptRow", "SeriesPoint", "TraceFilter", "TraceRow", "UnitRow"]


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which traces to list; newest first."""

    since: datetime | None = None
    until: datetime | None = None
    app: str | None = None
    release: str | None = None
    status: str | None = None
    """``ok``, ``error`` or ``cancelled`` of the root span."""
    min_duration_ms: float | None = None
    before: str | None = None
    """`TraceRow.cursor` of the last row seen: the next page starts after it."""
    limit: int = 50


class TraceRow(NamedTuple):
    """One trace, by its root span."""

    trace_id: TraceId
    name: str
    start_ns: int
    duration_ms: float
    status: str
    error: str
    app: str
    release: str
    model: str
    cost_nano: int | None
    """Nano-dollars from the root span's `interlock.cost.nano_usd`; None when unpriced."""
    input_tokens: int
    output_tokens: int
    spans: int
    cursor: str


class SeriesPoint(NamedTuple):
    """One bucket of the root spans of a tenant."""

    start_ns: int
    requests: int
    errors: int
    p50_ms: float
    p95_ms: float
    cost_nano: int
    input_tokens: int
    output_tokens: int
    answers: int = 0
    """Root spans that say how an answer came about."""
    declined: int = 0
    """Those of them that declined."""


class UnitRow(NamedTuple):
    """What one unit of assignment met in one arm of a rollout, over its root spans. Means are over requests."""

    unit: str
    arm: str
    first_ns: int
    requests: int
    error: float | None
    """Share that ended in an error, of the requests whose end says something of the release; None without one. A block
    is counted by itself, a refusal for the sake of a limit or of a resting target is not counted."""
    declined: float | None
    """Share of the answers that say how they came about; None without one."""
    blocked: float
    unsupported: float | None
    """Share of the claims, over all of its answers; None without a claim."""
    log_latency: float | None
    """Mean of the logarithm of seconds, over requests that ended well."""
    log_cost: float | None
    """Mean of the logarithm of nano-dollars, over priced requests that cost something."""
    latency_s: float | None
    cost_nano: int


class PromptRow(NamedTuple):
    """What requests under one version of a prompt met, over their root spans."""

    digest: str
    first_ns: int
    last_ns: int
    requests: int
    judged: int
    """Those whose end says something of the prompt: as of `UnitRow.error`."""
    failed: int
    """Of these."""
    blocked: int
    answers: int
    """That say how they came about."""
    declined: int
    """Of these."""
    priced: int
    cost_nano: float | None
    """Mean of the priced ones; None without one."""
    cost_spread: float | None
    """Their standard deviation; None below two."""
    timed: int
    """That ended well."""
    seconds: float | None
    seconds_spread: float | None


class PreferenceRow(NamedTuple):
    """Whose passages the answers to one unit cited, over its root spans that say so."""

    unit: str
    requests: int
    control: float
    """Share of the requests in which more passages of the control alone were cited."""
    variant: float
    """Likewise of the variant; in the rest nobody won."""


class OpinionRow(NamedTuple):
    """What one unit has said of the answers that one arm gave it."""

    unit: str
    arm: str
    requests: int
    """That anything was said of."""
    complaints: int
    """Of them those whose last word was a complaint."""


class Events(Protocol):
    """One span store."""

    def emit(self, span: Span) -> None:
        """Buffer one finished span; never blocks, never raises; drops and counts when the buffer is full."""

    async def flush(self) -> None:
        """Return once everything emitted before this call can be read by any process."""

    async def traces(self, tenant: TenantId, where: TraceFilter) -> list[TraceRow]:
        """Traces whose root span matches, newest first."""

    async def trace(self, tenant: TenantId, trace_id: str) -> list[Span]:
        """All spans of a trace by start time; empty when unknown. `trace_id` may be a unique prefix of 8+ digits."""

    async def series(
        self,
        tenant: TenantId,
        *,
        since: datetime,
        until: datetime,
        buckets: int,
        app: str | None = None,
        name: str | None = None,
    ) -> Sequence[SeriesPoint]:
        """`buckets` equal slices of root spans (of one `name`, of one `app`), oldest first, empty ones as zeros."""

    async def units(self, tenant: TenantId, rollout: str, *, since: datetime) -> Sequence[UnitRow]:
        """Root spans of a rollout since a time, one row a unit and arm."""

    async def prompts(
        self, tenant: TenantId, digests: Sequence[str], *, since: datetime, apps: Sequence[str] = ()
    ) -> Sequence[PromptRow]:
        """Root spans under these versions of a prompt since a time, of these apps (of all without any): a row each."""

    async def preferences(self, tenant: TenantId, rollout: str, *, since: datetime) -> Sequence[PreferenceRow]:
        """Root spans of an experiment that interleaves, since a time, one row a unit."""

    async def opinions(self, tenant: TenantId, rollout: str, *, since: datetime) -> Sequence[OpinionRow]:
        """What people said of answers of a rollout or experiment, since a time, one row a unit and arm."""

    async def compact(self) -> int:
        """Merge small segments and drop those past retention; how many files went."""

    async def tidy(self) -> None:
        """As `compact`, but only when there is something to do, and without burdening this process."""

    @property
    def dropped(self) -> int:
        """Spans lost to a full buffer since start: shown by health and doctor."""

    async def close(self) -> None:
        """Flush, then let go of resources."""
