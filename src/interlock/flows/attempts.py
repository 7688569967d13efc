"""One call of an endpoint beyond chat, by the first target of a route that can: admitted, charged, traced, audited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import Usage
from interlock.core.trace import Span
from interlock.cost.service import Bill
from interlock.flows.parts import Parts
from interlock.gateway.service import Served
from interlock.gateway.types import Target
from interlock.governance.service import Record

__all__ = ["Line", "Operation", "first_target", "line", "provider_for"]

T = TypeVar("T")
P = TypeVar("P")


class Line(NamedTuple):
    """One open request."""

    ctx: Context
    span: Span
    record: Record
    bill: Bill


class Operation(NamedTuple):
    """What is asked for, in the words of traces, the audit log and errors."""

    name: str
    """OpenTelemetry's: ``rerank``, ``moderation``, ``speech``."""
    action: str
    """Audit action: ``rerank.create``."""


@asynccontextmanager
async def line(
    parts: Parts, ctx: Context, operation: Operation, model: str, tags: Mapping[str, str] | None = None
) -> AsyncIterator[Line]:
    """Span, audit line and bill around one request; the bill is settled first."""
    ctx.notices.model = model
    with parts.gateway.hold(), parts.observe.span(ctx, operation.name) as (span, inner):
        async with parts.governance.record(inner, None, action=operation.action) as record:
            record.subject = model[:256]
            bill: Bill | None = None
            try:
                async with parts.cost.reserve(inner, None, tags=dict(tags or {})) as bill:
                    yield Line(inner, span, record, bill)
            finally:
                if bill is not None:
                    _stamp(parts, bill, span, record)


def _stamp(parts: Parts, bill: Bill, span: Span, record: Record) -> None:
    cost = parts.cost.quote(bill)
    span.set(
        {
            "gen_ai.response.model": ", ".join(f"{provider}/{name}" for provider, name in bill.lines) or None,
            "gen_ai.usage.input_tokens": bill.usage.input_tokens,
            "interlock.cost.nano_usd": None if cost is None else cost.nano,
            "interlock.cost.unpriced": cost is None or None,
        }
    )
    record.set(cost="unpriced") if cost is None else record.set(cost_nano_usd=cost.nano)


def provider_for(parts: Parts, target: Target, port: type[P], operation: Operation) -> P:
    """The target's provider as a `port`. Raises: InvalidInput when it has no such endpoint."""
    provider = parts.gateway.provider(target.provider)
    if not isinstance(provider, port):
        raise InvalidInput(
            f"the provider {target.provider!r} has no {operation.name} endpoint",
            param="model",
            code="unsupported_operation",
            hint="see what each provider offers: docs/reference/http.md",
        )
    return provider


async def first_target(
    parts: Parts,
    opened: Line,
    model: str,
    port: type[P],
    operation: Operation,
    *,
    estimate: Usage,
    call: Callable[[Context, P, str], Awaitable[tuple[T, Usage]]],
    served: Served | None = None,
) -> tuple[T, Target]:
    """What `call` gives for the first target of `model`'s route that serves, charged with the usage it gives.

    Args:
        served: filled in as the call proceeds.

    Raises: the last target's error.
    """
    served = served or Served()
    route = parts.gateway.route(model)
    ctx = opened.ctx.with_deadline(Deadline.after(route.total_timeout_s))
    last: InterlockError | None = None
    for target in parts.gateway.order(opened.ctx, route, pressure=opened.bill.pressure(), served=served):
        provider = provider_for(parts, target, port, operation)
        try:
            async with parts.gateway.attempt(ctx, target, opened.bill, estimate, what=operation.name) as attempt:
                result, usage = await call(attempt.ctx, provider, target.model)
                attempt.charge(usage)
            served.answered(target)
            return result, target
        except InvalidInput as error:
            served.failed(target, error)
            raise
        except InterlockError as error:
            served.failed(target, error)
            last = error
    assert last is not None, "a route has a target"
    raise last
