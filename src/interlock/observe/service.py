"""The observe part's door: where spans go in, where traces come out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Literal

from interlock.core.context import Context, OpenSpan, Role
from interlock.core.errors import NotFound
from interlock.core.ids import TenantId
from interlock.core.release import Release
from interlock.core.trace import AttributeValue, Span, SpanSink
from interlock.observe.exporters.openlineage import OpenLineageSink
from interlock.stores.events.base import (
    Events,
    OpinionRow,
    PreferenceRow,
    PromptRow,
    SeriesPoint,
    TraceFilter,
    TraceRow,
    UnitRow,
)

__all__ = ["OVERSIGHT", "Observe", "Rating"]

Rating = Literal["up", "down"]

OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)


_NUMBERS = ("gen_ai.", "http.", "interlock.cost.", "interlock.shadow.")
"""Beginnings of names whose numbers are of models, money and time; every other number may count documents."""
_TELLING = frozenset({"interlock.answer.decline_reason"})
"""No numbers, and still said of documents."""
_REQUESTS = frozenset({"interlock.app", "gen_ai.operation.name", "gen_ai.request.model", "gen_ai.response.model"})


class Observe:
    """Implements :class:`interlock.core.trace.SpanSink` by fanning out to the events store and exporters."""

    def __init__(
        self,
        events: Events,
        exporters: Sequence[SpanSink] = (),
        lineage: OpenLineageSink | None = None,
        *,
        pseudonym: Callable[[TenantId, str], str] | None = None,
    ) -> None:
        """Keep spans in `events`, and send them to `exporters` besides.

        Args:
            pseudonym: what stands for an end user, by a key; None: no end user's answers can be rated.
        """
        self._events = events
        self._pseudonym = pseudonym
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
        assignment = release.assignment if release else None
        with ctx.span(name) as open_span:
            open_span.span.set(
                {
                    "interlock.principal": ctx.principal.id,
                    "interlock.request": ctx.request_id,
                    "interlock.app": release.app if release else None,
                    "interlock.release": release.id if release else None,
                    "interlock.channel": release.channel if release else None,
                    "interlock.on_behalf_of": ctx.end_user is not None,
                    "interlock.asker": self._asker(ctx, open_span.span.trace_id),
                    "interlock.rollout": assignment.rollout if assignment else None,
                    "interlock.arm": assignment.arm if assignment else None,
                    "interlock.unit": assignment.unit if assignment else None,
                }
            )
            yield open_span

    async def traces(self, ctx: Context, where: TraceFilter) -> list[TraceRow]:
        """Traces of the caller's tenant, newest first."""
        await self._events.flush()
        return await self._events.traces(ctx.tenant, where)

    async def units(self, ctx: Context, rollout: str, *, since: datetime) -> Sequence[UnitRow]:
        """What each unit of a rollout met, by arm."""
        await self._events.flush()
        return await self._events.units(ctx.tenant, rollout, since=since)

    async def prompts(
        self, ctx: Context, digests: Sequence[str], *, since: datetime, apps: Sequence[str] = ()
    ) -> Sequence[PromptRow]:
        """What requests of the caller's tenant met under versions of a prompt. Raises: Forbidden."""
        ctx.require(*OVERSIGHT, Role.REVIEWER)
        await self._events.flush()
        return await self._events.prompts(ctx.tenant, digests, since=since, apps=apps)

    async def preferences(self, ctx: Context, experiment: str, *, since: datetime) -> Sequence[PreferenceRow]:
        """Whose passages the answers to each unit of an experiment cited."""
        await self._events.flush()
        return await self._events.preferences(ctx.tenant, experiment, since=since)

    async def opinions(self, ctx: Context, rollout: str, *, since: datetime) -> Sequence[OpinionRow]:
        """What each unit of a rollout or experiment has said of its answers, by arm."""
        await self._events.flush()
        return await self._events.opinions(ctx.tenant, rollout, since=since)

    async def say(self, ctx: Context, trace_id: str, rating: Rating, issue: str = "") -> None:
        """Put an opinion on an answer beside it; of several on one answer the last counts.

        Raises: NotFound: no such trace, or another caller's or end user's: nobody learns that it is.
        """
        spans = await self.trace(ctx, trace_id)
        root = _root(spans)
        said = root.attributes
        own = said.get("interlock.principal") == ctx.principal.id
        own = own and bool(said.get("interlock.on_behalf_of")) == (ctx.end_user is not None)
        if ctx.end_user is not None:
            asker = self._asker(ctx, root.trace_id)
            own = own and asker is not None and said.get("interlock.asker") == asker
        if root.trace_id != trace_id or said.get("interlock.app") is None or not own:
            raise NotFound(
                "no answer of yours has this trace", param="trace", hint="x-interlock-trace-id of the answer"
            )
        about = {name: said.get(f"interlock.{name}") for name in ("app", "release", "rollout", "arm", "unit")}
        given = replace(ctx, trace_id=root.trace_id, parent_span=root.span_id)
        with given.span("feedback") as (span, _):
            span.set({f"interlock.{name}": value for name, value in about.items()})
            span.set({"interlock.feedback": rating, "interlock.feedback.issue": issue or None})

    def _asker(self, ctx: Context, trace_id: str) -> str | None:
        """Stands for the end user in one trace alone: no two traces of a person are known to be theirs."""
        if ctx.end_user is None or self._pseudonym is None:
            return None
        stands = self._pseudonym(ctx.tenant, ctx.end_user.id)
        return hashlib.sha256(f"{stands}\0{trace_id}".encode()).hexdigest()[:32]

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
        if _is_told_all(ctx, _root(spans)):
            return list(spans)
        numbers = _NUMBERS if _is_request(spans) else ()
        return [
            replace(span, attributes={n: v for n, v in span.attributes.items() if _is_harmless(n, v, numbers)})
            for span in spans
        ]

    @staticmethod
    def may_count(ctx: Context, spans: Sequence[Span]) -> bool:
        """Whether this caller may see what the trace used and paid for: not of a run over documents of others."""
        return _is_request(spans) or _is_told_all(ctx, _root(spans))

    @staticmethod
    def visible_rows(ctx: Context, rows: Sequence[TraceRow]) -> list[TraceRow]:
        """The rows as this caller may see them: of runs over documents without what they used, but for overseers."""
        if ctx.principal.has(*OVERSIGHT):
            return list(rows)
        return [
            row if row.app or row.model else row._replace(cost_nano=None, input_tokens=0, output_tokens=0, spans=0)
            for row in rows
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


def _root(spans: Sequence[Span]) -> Span:
    return next((span for span in spans if span.parent_id is None), spans[0])


def _is_told_all(ctx: Context, root: Span) -> bool:
    if ctx.principal.has(*OVERSIGHT):
        return True
    said = root.attributes
    # A service asks for many people, and which of them it was is in no span.
    for_another = ctx.principal.kind == "service" and (ctx.end_user is not None or said.get("interlock.on_behalf_of"))
    return said.get("interlock.principal") == ctx.principal.id and not for_another


def _is_request(spans: Sequence[Span]) -> bool:
    """A call of a model or an app; a run over documents calls models too, and its root names none."""
    root = _root(spans).attributes
    return "interlock.job" not in root and any(root.get(name) is not None for name in _REQUESTS)


def _is_harmless(name: str, value: AttributeValue, numbers: tuple[str, ...]) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return name.startswith(numbers)
    return name not in _TELLING
