"""The observe part's door: where spans go in, where traces come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from interlock.core.context import Context, OpenSpan, Role
from interlock.core.errors import NotFound
from interlock.core.release import Release
from interlock.core.trace import Span, SpanSink
from interlock.observe.exporters.openlineage import OpenLineageSink
from interlock.stores.events.base import Events, SeriesPoint, TraceFilter, TraceRow

__all__ = ["OF_DOCUMENTS", "OVERSIGHT", "Observe"]

OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)


OF_DOCUMENTS = frozenset(
    {
        "passages", "dense_hits", "lexical_hits", "added", "changed", "unchanged", "deleted", "failed",
        "embedding_tokens", "interlock.passages", "interlock.evidence", "interlock.conflicts", "interlock.checked",
        "interlock.refused", "interlock.sentences", "interlock.answer.citations", "interlock.answer.sentences",
        "interlock.answer.answerability", "interlock.answerability", "interlock.answer.decline_reason",
        "interlock.contradictions", "interlock.answer.claims", "interlock.answer.unsupported",
        "interlock.answer.removed", "interlock.answer.contradictions",
    }
)  # fmt: skip
"""Attributes that count what another person may read: only their asker and overseers see them."""


class Observe:
    """Implements :class:`interlock.core.trace.SpanSink` by fanning out to the events store and exporters."""

    def __init__(
        self, events: Events, exporters: Sequence[SpanSink] = (), lineage: OpenLineageSink | None = None
    ) -> None:
        self._events = events
        self.lineage = lineage
        """Where run events go besides; None without an address."""
        self._sinks: tuple[SpanSink, ...] = (events, *exporters)

    def emit(self, span: Span) -> None:
        """Take one finished span."""
        for sink in self._sinks:
            sink.emit(span)

    async def tidy(self) -> None:
        """Merge what was written, and remove what is past `observe.retention_days`."""
        await self._events.tidy()

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

    @staticmethod
    def visible(ctx: Context, spans: Sequence[Span]) -> list[Span]:
        """The spans as this caller may see them: what counts documents is kept from all but the asker and overseers."""
        root = next((span for span in spans if span.parent_id is None), spans[0])
        if root.attributes.get("interlock.principal") == ctx.principal.id or ctx.principal.has(*OVERSIGHT):
            return list(spans)
        return [
            replace(span, attributes={name: v for name, v in span.attributes.items() if not _counts_documents(name)})
            for span in spans
        ]

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


def _counts_documents(name: str) -> bool:
    return name in OF_DOCUMENTS or name.startswith("interlock.refused.")
