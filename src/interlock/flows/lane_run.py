"""What all steps of a batch's lanes share: the batch, its lines, and each line as a provider's batch API takes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from interlock.core.context import Context
from interlock.core.errors import InterlockError, Unavailable
from interlock.core.ids import TenantId, TraceId
from interlock.flows.batch_line import LineCall, call_of, refused
from interlock.flows.batch_lines import ENDPOINTS, AskedLine
from interlock.flows.chat import has_knowledge
from interlock.flows.parts import Parts
from interlock.flows.pipelines.types import pipeline_of
from interlock.flows.prompting import for_app
from interlock.gateway.handing import Prepared, prepare
from interlock.gateway.kept import Batch
from interlock.gateway.kept_lanes import KeptLanes
from interlock.gateway.types import RouteSpec, Target

__all__ = ["LaneLimits", "LaneRun", "Ready", "Running", "is_ours", "may_go"]

_LEAST_WINDOW_S = 86_400.0
_OURS = {"unavailable", "contention", "database_busy", "kv_unavailable", "ledger_unavailable", "stopping"}


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """From the settings of the gateway."""

    poll_s: float
    store_responses: bool
    home: TenantId


class Running(Protocol):
    """The run of the batch, as far as lanes need it."""

    batch: Batch

    @property
    def stopped(self) -> str:
        """Why no more lines are begun; empty while they are."""

    async def pause(self, model: str, seconds: float) -> None:
        """Wait: a line of this model met a limit."""

    async def stored(self, write: Callable[[], Awaitable[None]]) -> None:
        """Store something, waiting for a database that is away."""


class Ready(NamedTuple):
    """A line that a provider's batch API can take."""

    call: LineCall
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class LaneRun:
    """One run of one batch, as its lanes see it."""

    parts: Parts
    ctx: Context
    """Of the batch's maker."""
    running: Running
    limits: LaneLimits
    lines: Mapping[int, AskedLine]
    store: KeptLanes

    @property
    def batch(self) -> Batch:
        """As it is now."""
        return self.running.batch

    async def refuse(self, line: AskedLine, error: InterlockError) -> None:
        """Write that a line has no answer, and why."""
        result = refused(self.batch, line, error)
        await self.running.stored(partial(self.parts.kept.keep_line, self.batch, result))

    async def ready(self, line: AskedLine, trace: TraceId, *, target: Target | None = None) -> Ready | str:
        """A line as a provider's batch API takes it, or why it must be an ordinary call.

        Args:
            target: the line was handed to it before: it is only decoded again, and goes nowhere else.

        Raises: what an ordinary call would raise before it is sent.
        """
        parts = self.parts
        call = await call_of(parts, self.ctx, self.batch, line, trace=trace, may_store=self.limits.store_responses)
        request, options = call.asked.request, call.asked.options
        if options.get("previous") or options.get("conversation"):
            # It belongs between others that are being made.
            return "conversation"
        if call.release is None:
            route = parts.gateway.route(request.model)
        else:
            if has_knowledge(call.release):
                return "documents"
            if pipeline_of(call.release) is not None:
                return "pipeline"
            if request.only:
                return "refused"
            route = RouteSpec.model_validate(call.release.components["route"], extra="ignore")
            if target is None:
                await parts.guardrails.check_input(call.ctx, call.release, request.last_user_text)
            request = await for_app(parts, call.ctx, request, call.release)
        pressure = parts.cost.open(call.ctx, call.release, tags=request.tags).pressure()
        prepared = prepare(parts.gateway, call.ctx, request, route, pressure=pressure, target=target)
        return prepared if isinstance(prepared, str) else Ready(call, prepared)


def is_ours(error: InterlockError) -> bool:
    """True when our own database or ledger is away: the whole batch waits, and no provider is at fault."""
    return isinstance(error, Unavailable) and error.code in _OURS


def may_go(batch: Batch) -> str:
    """Why no line of a batch may go to a provider's batch API; empty when they may."""
    if batch.lane == "ordinary":
        return "asked_for"
    if not ENDPOINTS[batch.endpoint]:
        return "endpoint"
    # Created and closed are stored to the microsecond; the difference is the window.
    if (batch.ends_at - batch.created_at).total_seconds() < _LEAST_WINDOW_S - 1:
        return "window"
    return ""
