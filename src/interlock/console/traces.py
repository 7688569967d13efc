"""Traces: a list to page through, and one request as a waterfall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import ANY_ROLE, Caller, page
from interlock.core.clock import now
from interlock.core.errors import InvalidInput
from interlock.core.trace import AttributeValue, Span
from interlock.http.callers import app_of
from interlock.stores.events.base import TraceFilter

__all__ = ["routes"]

_PAGE = 50
_WIDTH = 1000
_PERIODS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_STATES = ("ok", "error", "cancelled")


class Bar(NamedTuple):
    """One span of the waterfall."""

    span: Span
    depth: int
    start: float
    width: float
    """Of 1000, at least 2, so that a short step can still be seen."""
    duration_ms: float
    offset_ms: float
    attributes: Mapping[str, AttributeValue]


async def list_traces(request: Request, caller: Caller) -> Response:
    """``GET /traces?app=&status=&period=&before=``."""
    caller.ctx.require(*ANY_ROLE)
    parts = app_of(request).parts
    query = request.query_params
    app, status, period = query.get("app", ""), query.get("status", ""), query.get("period", "")
    if status and status not in _STATES:
        raise InvalidInput(f"status is one of {', '.join(_STATES)}", param="status")
    if period and period not in _PERIODS:
        raise InvalidInput(f"period is one of {', '.join(_PERIODS)}", param="period")
    where = TraceFilter(
        since=now() - _PERIODS[period] if period else None,
        app=app or None,
        status=status or None,
        before=query.get("before") or None,
        limit=_PAGE + 1,
    )
    rows = parts.observe.visible_rows(caller.ctx, await parts.observe.traces(caller.ctx, where))
    kept = {"app": app, "status": status, "period": period}
    older = (
        urlencode({**{k: v for k, v in kept.items() if v}, "before": rows[_PAGE - 1].cursor})
        if len(rows) > _PAGE
        else ""
    )
    newest = urlencode({k: v for k, v in kept.items() if v})
    return render(
        request,
        caller,
        "traces.html",
        traces=rows[:_PAGE],
        apps=[source.name for source in parts.releases.apps(caller.ctx)],
        states=_STATES,
        periods=list(_PERIODS),
        chosen=kept,
        older=older,
        newest=newest,
        paged=bool(query.get("before")),
        filtered=any(kept.values()),
    )


async def show(request: Request, caller: Caller) -> Response:
    """``GET /traces/{id}``."""
    caller.ctx.require(*ANY_ROLE)
    parts = app_of(request).parts
    spans = await parts.observe.trace(caller.ctx, request.path_params["id"])
    root = next((span for span in spans if span.parent_id is None), spans[0])
    counts = parts.observe.may_count(caller.ctx, spans)
    bars = list(waterfall(parts.observe.visible(caller.ctx, spans)))
    total_ms = max(bar.offset_ms + bar.duration_ms for bar in bars)
    return render(
        request,
        caller,
        "trace.html",
        root=root,
        bars=bars,
        total_ms=total_ms,
        ledger=await parts.cost.ledger(caller.ctx, trace_id=root.trace_id) if counts else [],
        calls=sum("gen_ai.operation.name" in span.attributes for span in spans),
    )


def waterfall(spans: Sequence[Span]) -> Iterator[Bar]:
    """Spans in the order of a tree, each with its place on the time axis.

    Args:
        spans: of one trace, as the caller may see them.
    """
    first = min(span.start_ns for span in spans)
    length = max(1, max(span.end_ns for span in spans) - first)
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda s: (s.start_ns, s.span_id)):
        # A parent that was lost must not hide its children.
        parent = span.parent_id if span.parent_id in known and span.parent_id != span.span_id else None
        children.setdefault(parent or "", []).append(span)
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    while waiting:
        span, depth = waiting.pop()
        width = max(2.0, (span.end_ns - span.start_ns) / length * _WIDTH)
        yield Bar(
            span,
            min(depth, 5),
            round(min((span.start_ns - first) / length * _WIDTH, _WIDTH - width), 1),
            round(width, 1),
            (span.end_ns - span.start_ns) / 1e6,
            (span.start_ns - first) / 1e6,
            {n: span.attributes[n] for n in sorted(span.attributes)},
        )
        waiting += [(child, depth + 1) for child in reversed(children.get(span.span_id, []))]


routes = [Route("/traces", page(list_traces)), Route("/traces/{id}", page(show))]
