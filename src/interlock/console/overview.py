"""The overview: what is so, in a sentence, then the figures that prove it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.app import App
from interlock.console.charts import Spark, change, spark
from interlock.console.documents import withdrawn_or_failed
from interlock.console.rendering import milliseconds, render, usd
from interlock.console.session import ANY_ROLE, Caller, page
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, Unavailable
from interlock.core.money import Money
from interlock.gateway.cache.service import PROVIDER as CACHE
from interlock.gateway.types import RouteSpec, Target
from interlock.governance.types import Head
from interlock.http.callers import app_of
from interlock.stats.intervals import wilson
from interlock.stores.events.base import SeriesPoint, TraceFilter, TraceRow

__all__ = ["routes"]

_SLICES = 24
_SEES_AUDIT = (Role.AUDITOR, Role.RISK, Role.OPERATOR)
_PANEL_S = 6.0
"""Longest wait for one panel."""
_NOTHING = SeriesPoint(0, 0, 0, 0.0, 0.0, 0, 0, 0)
T = TypeVar("T")
_log = logging.getLogger("interlock.console")
_CHECK_S = 3.0
"""Longest wait for a provider's list of models: the page must not hang on one that is down."""


class Figure(NamedTuple):
    """One golden figure."""

    name: str
    value: str
    unit: str
    change: str
    chart: Spark
    link: str


class ProviderState(NamedTuple):
    """One configured provider."""

    name: str
    state: str
    """``clear``, ``caution``, ``danger`` or ``idle``."""
    word: str
    models: tuple[str, ...]
    cause: str
    hint: str


class CollectionState(NamedTuple):
    """One collection as this caller sees it."""

    name: str
    documents: int
    failed: int
    newest: datetime | None
    checked: datetime | None


class AppState(NamedTuple):
    """One app and whether it can be asked."""

    name: str
    problem: str
    hint: str


class Finding(NamedTuple):
    """Something that wants attention."""

    state: str
    text: str
    hint: str


class Panels:
    """The page's panels, each read on its own: one that cannot be read is named, and the others are shown."""

    def __init__(self) -> None:
        self.broken: dict[str, InterlockError] = {}

    async def get(self, name: str, reading: Awaitable[T], instead: T) -> T:
        """What `reading` gives, or `instead` when the store behind it fails or is silent."""
        try:
            async with asyncio.timeout(_PANEL_S):
                return await reading
        except InterlockError as error:
            self.broken[name] = error
        except TimeoutError:
            self.broken[name] = Unavailable(f"no answer within {_PANEL_S:.0f} s", hint="interlock doctor")
        except Exception as error:  # noqa: BLE001 - a border: a panel is lost, never the page
            _log.error("the panel %r cannot be read: %s", name, type(error).__name__, exc_info=error)
            self.broken[name] = Unavailable("it cannot be read", hint="interlock doctor")
        return instead

    def findings(self) -> list[Finding]:
        """One line for each lost panel."""
        return [
            Finding("danger", f"The panel {name} cannot be shown: {error.message}", error.hint or "interlock doctor")
            for name, error in self.broken.items()
        ]


async def overview(request: Request, caller: Caller) -> Response:
    """``GET /``."""
    if not caller.has(*ANY_ROLE):
        return RedirectResponse("/ask", 303)
    app = app_of(request)
    ctx = caller.ctx
    until = now()
    panels = Panels()
    figures, total = await panels.get("figures", figures_of(app, ctx, until), ([], _NOTHING))
    traces = await panels.get("traces", app.parts.observe.traces(ctx, TraceFilter(limit=8)), [])
    traces = app.parts.observe.visible_rows(ctx, traces)
    providers = await panels.get("providers", _providers(app), [])
    collections = await panels.get("knowledge", _collections(app, ctx), [])
    apps = [_app(app, name) for name in (source.name for source in app.parts.releases.apps(ctx))]
    spend = await panels.get(
        "cost", app.parts.cost.spend(ctx, by="app", since=until - timedelta(days=1), until=until), []
    )
    kept = await panels.get("cache", _kept(app, ctx, until), 0)
    head = await panels.get("audit", _head(app), None)
    findings = [*panels.findings(), *_findings(app, providers, collections, apps, total)]
    return render(
        request,
        caller,
        "overview.html",
        headline=_headline(findings, traces, bool(panels.broken)),
        figures=figures,
        total=total,
        traces=traces,
        providers=providers,
        collections=collections,
        apps=apps,
        findings=findings,
        sees_audit=caller.has(*_SEES_AUDIT),
        head=head,
        waiting=app.parts.governance.waiting,
        spend=spend,
        kept=kept,
        broken=panels.broken,
        # What could not be read says nothing about whether there is anything.
        fresh=not traces and "traces" not in panels.broken,
        slices=_SLICES,
    )


async def _kept(app: App, ctx: Context, until: datetime) -> int:
    """Calls of the last 24 hours that were answered from the cache."""
    rows = await app.parts.cost.spend(ctx, by="provider", since=until - timedelta(days=1), until=until)
    return sum(row.calls for row in rows if row.key == CACHE)


async def figures_of(app: App, ctx: Context, until: datetime) -> tuple[list[Figure], SeriesPoint]:
    """Requests, p95, declined share and cost of the last 24 hours, each against the 24 before."""
    day = timedelta(days=1)
    series = app.parts.observe.series
    points = await series(ctx, since=until - day, until=until, buckets=_SLICES, name="chat")
    (total,) = await series(ctx, since=until - day, until=until, buckets=1, name="chat")
    (before,) = await series(ctx, since=until - 2 * day, until=until - day, buckets=1, name="chat")
    p95, _, unit = milliseconds(total.p95_ms).partition(" ") if total.requests else ("–", "", "")
    answered = (total.answers - total.declined) / total.answers if total.answers else 0.0
    shares = [(p.answers - p.declined) / p.answers if p.answers else None for p in points]
    figures = [
        Figure(
            "Requests",
            f"{total.requests:,}",
            f"{total.errors:,} failed" if total.errors else "",
            change(total.requests, before.requests),
            spark([p.requests for p in points]),
            "/traces",
        ),
        Figure(
            "Whole answer, p95",
            p95,
            unit,
            change(total.p95_ms, before.p95_ms),
            spark([p.p95_ms if p.requests else None for p in points], unit=" ms"),
            "/traces",
        ),
        Figure(
            "Answered from documents",
            f"{answered * 100:.0f}" if total.answers else "–",
            "%" if total.answers else "",
            _interval(total.answers - total.declined, total.answers),
            spark([None if share is None else share * 100 for share in shares], unit=" %", ceiling=100),
            "/traces",
        ),
        Figure(
            "Cost",
            usd(Money(total.cost_nano)),
            "",
            change(total.cost_nano, before.cost_nano) or f"{total.input_tokens + total.output_tokens:,} tokens",
            spark([p.cost_nano / 1e9 for p in points], unit=" $"),
            "/traces",
        ),
    ]
    return figures, total


def _interval(answered: int, answers: int) -> str:
    if not answers:
        return ""
    bounds = wilson(answered, answers)
    return f"95 % interval {bounds.low * 100:.0f} – {bounds.high * 100:.0f}; {answers - answered:,} declined"


async def _providers(app: App) -> list[ProviderState]:
    names = app.parts.gateway.provider_names
    return list(await asyncio.gather(*(_provider(app, name) for name in names)))


async def _provider(app: App, name: str) -> ProviderState:
    try:
        async with asyncio.timeout(_CHECK_S):
            models = tuple(await app.parts.gateway.check(name))
    except TimeoutError:
        return ProviderState(name, "danger", "silent", (), f"no answer within {_CHECK_S:.0f} s", "")
    except InterlockError as error:
        return ProviderState(name, "danger", "down", (), error.message, error.hint or "")
    if not models:
        return ProviderState(
            name, "caution", "no models", (), "no weights and no names of models were found", "interlock models fetch"
        )
    return ProviderState(name, "clear", "ready", models, "", "")


async def _collections(app: App, ctx: Context) -> list[CollectionState]:
    infos = await app.parts.knowledge.documents(ctx)
    names = {info.collection for info in infos}
    if ctx.principal.has(Role.DEVELOPER, Role.OPERATOR):
        try:
            names |= set(app.collections())
        except InterlockError:
            # Told among the findings, from where the file is read again.
            names |= set()
    states = []
    for name in sorted(names):
        mine = [info for info in infos if info.collection == name]
        states.append(
            CollectionState(
                name,
                len(mine),
                sum(withdrawn_or_failed(info) == "failed" for info in mine),
                max((info.ingested_at for info in mine if info.ingested_at), default=None),
                max((info.checked_at for info in mine), default=None),
            )
        )
    return states


def _app(app: App, name: str) -> AppState:
    try:
        route = RouteSpec.model_validate(app.parts.releases.live(name).components["route"])
    except InterlockError as error:
        return AppState(name, error.message, error.hint or f"edit apps/{name}/app.yaml")
    known = set(app.parts.gateway.provider_names)
    missing = [target for target in route.targets if Target.parse(target).provider not in known]
    if missing:
        return AppState(name, f"its route names {missing[0]!r}, and there is no such provider", "edit interlock.yaml")
    return AppState(name, "", "")


async def _head(app: App) -> Head | None:
    try:
        return await app.parts.governance.head()
    except InterlockError:
        # An empty log has no head.
        return None


def _findings(
    app: App,
    providers: Sequence[ProviderState],
    collections: Sequence[CollectionState],
    apps: Sequence[AppState],
    total: SeriesPoint,
) -> list[Finding]:
    found = [Finding("danger", f"The app {a.name} cannot be asked: {a.problem}", a.hint) for a in apps if a.problem]
    used = _used_providers(app)
    for provider in providers:
        if provider.state != "clear" and provider.name in used:
            found.append(
                Finding(provider.state, f"Provider {provider.name}: {provider.word}, {provider.cause}", provider.hint)
            )
    for collection in collections:
        if not collection.documents:
            hint = f"interlock ingest {collection.name}"
            found.append(Finding("caution", f"Nothing was ingested into {collection.name} yet", hint))
        elif collection.failed:
            text = f"{collection.failed} of {collection.documents} documents of {collection.name} could not be read"
            found.append(Finding("caution", text, "see them under Documents"))
    if total.errors:
        share = total.errors / total.requests
        text = f"{total.errors:,} of {total.requests:,} requests failed in the last 24 hours ({share:.1%})"
        found.append(Finding("danger" if share > 0.05 else "caution", text, "see them under Traces"))
    if app.parts.observe.dropped:
        text = f"{app.parts.observe.dropped:,} spans were lost to a full buffer"
        found.append(Finding("caution", text, "interlock doctor"))
    return found


def _used_providers(app: App) -> set[str]:
    """Providers that some app or route may call."""
    targets = [target for route in app.parts.gateway.routes.values() for target in route.targets]
    for source in app.parts.releases.apps():
        try:
            targets += RouteSpec.model_validate(source.load()["route"]).targets
        except InterlockError:
            continue
    return {Target.parse(target).provider for target in targets}


def _headline(findings: Sequence[Finding], traces: Sequence[TraceRow], broken: bool) -> str:
    if not traces and not broken:
        return "Ready for the first question" if not findings else "A few steps to the first answer"
    if not findings:
        return "All signals clear"
    return "All signals clear but one" if len(findings) == 1 else f"{len(findings)} things want attention"


routes = [Route("/", page(overview))]
