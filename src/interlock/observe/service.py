"""The observe part's door: where spans go in, where traces come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from interlock.core.context import Context, OpenSpan
from interlock.core.errors import NotFound
from interlock.core.release import Release
from interlock.core.trace import Span, SpanSink
from interlock.stores.events.base import Events, SeriesPoint, TraceFilter, TraceRow

__all__ = ["Observe"]


class Observe:
    """Implements :class:`interlock.core.trace.SpanSink` by fanning out to the events store and exporters."""

    def __init__(self, events: Events, exporters: Sequence[SpanSink] = ()) -> None:
        self._events = events
        self._sinks: tuple[SpanSink, ...] = (events, *exporters)

    def emit(self, span: Span) -> None:
        """Take one finished span."""
        for sink in self._sinks:
            sink.emit(span)

    @property
    def dropped(self) -> int:
        """Spans lost to a full buffer since start."""
        return self._events.dropped

    @contextmanager
    def span(self, ctx: Context, name: str, release: Release | None = None) -> Iterator[OpenSpan]:
        """The root span of a request: carries who and which release, for every list and sum."""
        with ctx.span(name) as open_span:
            open_span.span.set(
                {
                    "interlock.principal": ctx.principal.id,
                    "interlock.request": ctx.request_id,
                    "interlock.app": release.app if release else None,
                    "interlock.release": release.id if release else None,
                    "interlock.channel": release.channel if release else None,
                    "interlock.on_behalf_of": ctx.end_user is not None,
                }
            )
            yield open_span

    async def traces(self, ctx: Context, where: TraceFilter) -> list[TraceRow]:
        """Traces of the caller's tenant, newest first."""
        await self._events.flush()
        return await self._events.traces(ctx.tenant, where)

    async def trace(self, ctx: Context, trace_id: str) -> list[Span]:
        """All spans of one trace by start time. Raises: NotFound."""
        await self._events.flush()
        spans = await self._events.trace(ctx.tenant, trace_id)
        if not spans:
            raise NotFound(f"no trace {trace_id[:32]!r}", param="trace", hint="interlock traces")
        return spans

    async def series(
        self,
        ctx: Context,
        *,
        since: datetime,
        until: datetime,
        buckets: int,
        app: str | None = None,
        name: str | None = None,
    ) -> Sequence[SeriesPoint]:
        """Requests, errors, latency, cost, tokens and declined answers over time.

        Args:
            name: only root spans of this name, e.g. ``chat``, so that an ingest does not count as a slow request.
        """
        await self._events.flush()
        return await self._events.series(ctx.tenant, since=since, until=until, buckets=buckets, app=app, name=name)
