"""The retrieval debugger: one search stage by stage, and the graph of what documents name."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, cast, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.app import App
from interlock.console.ask import span_link
from interlock.console.documents import collections_of, users_of
from interlock.console.rendering import render
from interlock.console.session import ANY_ROLE, Caller, page, reader_of
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.ids import DocumentId
from interlock.core.passages import Passage
from interlock.flows.retrieval_assistant import RetrievalAssistant
from interlock.http.callers import app_of
from interlock.knowledge.explanation import Explanation, Fate
from interlock.knowledge.filters import parse_filter
from interlock.knowledge.graph.types import ABOUT, TOGETHER, Edge, GraphView, Place
from interlock.knowledge.legs import LEG_WORDS
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.retrieval.settings import parse_steps
from interlock.knowledge.types import SearchMode

__all__ = ["routes"]

_CHOOSES_MODELS = (Role.DEVELOPER, Role.OPERATOR)
_SHOWN = 20
"""Candidates that are in sight at once; the others are folded away."""
_LIMIT, _BUDGET = "8", "1500"
_MOST_EDGES = 100
_FATES: dict[Fate, tuple[str, str]] = {
    "context": ("clear", "in the context"),
    "merged": ("clear", "merged with its neighbour"),
    "repeat": ("idle", "said already"),
    "withdrawn": ("caution", "withdrawn"),
    "over_budget": ("caution", "over the budget"),
    "below_limit": ("idle", "below the limit"),
}
_OUTCOMES = {"applied": "clear", "nothing": "idle", "skipped": "caution", "failed": "danger"}
_STAGES = {
    "filter": "Filter: documents left",
    "analyse": "Words of the question",
    "lexical": "By words",
    "embed": "Vector of the question",
    "dense": "By meaning",
    "fuse": "Both legs as one ranking",
    "registry": "Rights checked again",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The form, as it was filled in."""

    question: str
    collection: str
    user: str
    mode: str
    limit: str
    budget: str
    filter: str
    steps: str
    document: str


class Told(NamedTuple):
    """What the page says of a search."""

    explanation: Explanation
    longest_s: float
    """Of the stages, as the whole width of their bars."""

    @property
    def lost(self) -> int:
        """Candidates that the context does not have."""
        return sum(candidate.fate not in {"context", "merged"} for candidate in self.explanation.candidates)


async def show(request: Request, caller: Caller) -> Response:
    """``GET /retrieval?q=&collection=&as=&mode=&limit=&budget=&filter=&steps=&document=``."""
    caller.ctx.require(*ANY_ROLE)
    app = app_of(request)
    ctx = reader_of(request, caller, request.query_params.get("as", "") if caller.may_act_as else "")
    collections = await collections_of(app, caller)
    told: Told | None = None
    error: InterlockError | None = None
    asked = _asked(request, caller, collections)
    if asked.question:
        try:
            explanation = await _explained(app, caller, ctx, asked)
            if not explanation.candidates:
                await app.parts.knowledge.check_collection(caller.ctx, asked.collection)
            told = Told(explanation, max((stage.seconds for stage in explanation.stages), default=0.0) or 1.0)
        except InterlockError as found:
            error = found
    return render(
        request,
        caller,
        "retrieval.html",
        status=200 if error is None else error.status,
        asked=asked,
        told=told,
        error=error,
        collections=collections,
        users=users_of(app, caller),
        modes=get_args(SearchMode),
        may_choose=caller.has(*_CHOOSES_MODELS),
        shown=_SHOWN,
        fates=_FATES,
        outcomes=_OUTCOMES,
        stages=_STAGES,
        leg_words=LEG_WORDS,
        apps=_apps_of(app, asked),
        request_of=_why_not,
        link=lambda passage: _link(passage, asked.user),
    )


def _apps_of(app: App, asked: Asked) -> dict[str, str]:
    """Where each app that searches the collection can be asked the same, which shows what its claims rest on."""
    found: dict[str, str] = {}
    for source in app.parts.releases.apps():
        # A broken app file is told by doctor.
        with suppress(InterlockError):
            given = source.load().get("retrieval")
            if given and RetrievalSpec.model_validate(given, extra="ignore").collection == asked.collection:
                seen_as = {"as": asked.user} if asked.user else {}
                found[str(source.name)] = "/ask?" + urlencode({"app": source.name, "q": asked.question, **seen_as})
    return found


def _why_not(asked: Asked, document: DocumentId) -> str:
    """The same search, with the question why this document is not among the results."""
    form = {
        "q": asked.question,
        "collection": asked.collection,
        "as": asked.user,
        "mode": asked.mode,
        "limit": asked.limit,
        "budget": asked.budget,
        "filter": asked.filter,
        "steps": asked.steps,
        "document": document,
    }
    return urlencode({name: value for name, value in form.items() if value})


def _asked(request: Request, caller: Caller, collections: list[str]) -> Asked:
    def field(name: str, default: str = "") -> str:
        return request.query_params.get(name, "").strip() or default

    return Asked(
        question=field("q"),
        collection=field("collection", collections[0] if collections else ""),
        user=field("as") if caller.may_act_as else "",
        mode=field("mode", "hybrid"),
        limit=field("limit", _LIMIT),
        budget=field("budget", _BUDGET),
        filter=field("filter"),
        steps=field("steps"),
        document=field("document"),
    )


def _number(name: str, raw: str, *, most: int) -> int:
    if not (raw.isascii() and raw.isdigit() and len(raw) < 8 and 1 <= int(raw) <= most):
        raise InvalidInput(f"{name} must be a number from 1 to {most:,}", param=name)
    return int(raw)


def _words(raw: str, name: str) -> list[str]:
    """As a shell reads them: what has spaces stands in quotes."""
    try:
        return shlex.split(raw)
    except ValueError as error:
        raise InvalidInput(f"a quote in {name} is not closed", param=name) from error


async def _explained(app: App, caller: Caller, ctx: Context, asked: Asked) -> Explanation:
    knowledge = app.parts.knowledge
    if asked.mode not in get_args(SearchMode):
        raise InvalidInput(f"mode is one of: {', '.join(get_args(SearchMode))}", param="mode")
    steps = parse_steps(_words(asked.steps, "steps"), knowledge.steps_of(asked.collection)) if asked.steps else None
    if steps is not None and steps.reads_with_models:
        caller.ctx.require(*_CHOOSES_MODELS)
    return await knowledge.explain(
        ctx,
        asked.question,
        collection=asked.collection,
        limit=_number("limit", asked.limit, most=200),
        mode=cast("SearchMode", asked.mode),
        filter=parse_filter(_words(asked.filter, "filter")),
        steps=steps,
        assistant=RetrievalAssistant(app.parts),
        budget_tokens=_number("budget", asked.budget, most=200_000),
        document=await _document(app, ctx, asked) if asked.document else None,
    )


async def _document(app: App, ctx: Context, asked: Asked) -> DocumentId:
    """By id or by path."""
    if asked.document.startswith("doc_"):
        return DocumentId(asked.document)
    infos = await app.parts.knowledge.documents(ctx, collection=asked.collection)
    found = next((info.id for info in infos if info.source == asked.document), None)
    if found is None:
        raise NotFound(
            f"no document of {asked.collection!r} that you may see has this path",
            param="document",
            hint="give its path as the list of documents has it, or its id",
        )
    return found


def _link(passage: Passage, user: str) -> str:
    return span_link(passage.document_id, passage.document_digest, passage.span, user)


# ── graph ─────────────────────────────────────────────────────────────────────────────────────────────────────────


_KINDS = {TOGETHER: "named with", ABOUT: "heads what is said of"}
_DRAWN = 12
"""Neighbours that a drawing has room for."""
_WIDE, _HIGH = 720, 340
_LONGEST_LABEL = 22


class Line(NamedTuple):
    """One edge in words."""

    edge: Edge
    source: str
    kind: str
    target: str
    places: tuple[Place, ...]
    """The first of each document."""


class Neighbour(NamedTuple):
    """An entity around the one that is asked for, as it is drawn."""

    name: str
    label: str
    x: float
    y: float
    anchor: str
    """Of its text."""
    is_stated: bool
    """A sentence says in words how the two belong together."""
    title: str


async def graph(request: Request, caller: Caller) -> Response:
    """``GET /collections/{name}/graph?entity=&as=``."""
    caller.ctx.require(*ANY_ROLE)
    app = app_of(request)
    user = request.query_params.get("as", "") if caller.may_act_as else ""
    ctx = reader_of(request, caller, user)
    name, entity = request.path_params["name"], request.query_params.get("entity", "").strip()[:200]
    if name not in await collections_of(app, caller):
        raise NotFound(f"no collection {name!r}", param="collection")
    view: GraphView | None = None
    error: InterlockError | None = None
    try:
        view = await app.parts.knowledge.graph(ctx, name, entity or None, limit=_MOST_EDGES)
    except InterlockError as found:
        error = found
    return render(
        request,
        caller,
        "graph.html",
        status=200 if error is None else error.status,
        collection=name,
        entity=entity,
        view=view,
        error=error,
        lines=[] if view is None else _lines(view),
        neighbours=[] if view is None or not entity else _neighbours(view),
        size=(_WIDE, _HIGH),
        once=_once,
        user=user,
        users=users_of(app, caller),
        to=lambda other: f"/collections/{name}/graph?" + urlencode({"entity": other, **({"as": user} if user else {})}),
        link=lambda place: _place_link(place, user),
    )


def _lines(view: GraphView) -> list[Line]:
    names = {one.key: one.name for one in view.entities}
    return [
        Line(edge, names[edge.source], _KINDS.get(edge.kind, edge.kind), names[edge.target], _once(edge.places))
        for edge in view.edges
    ]


def _once(places: Sequence[Place]) -> tuple[Place, ...]:
    """The first place of each document."""
    return tuple({place.document_id: place for place in reversed(places)}.values())[::-1]


def _neighbours(view: GraphView) -> list[Neighbour]:
    """On an ellipse around the entity that stands first, the strongest at the top, then to the right."""
    asked = view.entities[0].key
    names = {one.key: one.name for one in view.entities}
    strongest: dict[str, Edge] = {}
    for edge in view.edges:
        strongest.setdefault(edge.target if edge.source == asked else edge.source, edge)
    strongest.pop(asked, None)
    drawn = list(strongest.items())[:_DRAWN]
    found = []
    for number, (key, edge) in enumerate(drawn):
        angle = 2 * math.pi * number / len(drawn) - math.pi / 2
        x, y = math.cos(angle), math.sin(angle)
        said = f"{names[edge.source]} {_KINDS.get(edge.kind, edge.kind)} {names[edge.target]}"
        name = names[key]
        label = name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
        found.append(
            Neighbour(
                name,
                label,
                round(_WIDE / 2 + x * (_WIDE / 2 - 180), 1),
                round(_HIGH / 2 + y * (_HIGH / 2 - 34), 1),
                "middle" if abs(x) < 0.2 else "start" if x > 0 else "end",
                edge.kind not in _KINDS,
                f"{said}, {edge.count} times",
            )
        )
    return found


def _place_link(place: Place, user: str) -> str:
    return span_link(place.document_id, place.digest, place.span, user)


routes = [
    Route("/retrieval", page(show)),
    Route("/collections/{name}/graph", page(graph)),
]
