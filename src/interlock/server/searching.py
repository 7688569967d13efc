"""Search of collections under `/api/v1/collections/{name}`: the passages, how they were found, and what names what."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId
from interlock.flows.retrieval_assistant import RetrievalAssistant
from interlock.flows.search_views import explanation_view, found_view, graph_view
from interlock.flows.views import finished_view
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.knowledge.filters import read_filter
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.retrieval.types import Turn
from interlock.knowledge.settings import FusionSettings
from interlock.knowledge.types import SearchMode

__all__ = ["routes"]

_LONGEST_NAME = 200


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"]
    text: str = Field(max_length=20_000)


class _Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=20_000)
    limit: int = Field(default=8, ge=1, le=200)
    mode: SearchMode = "hybrid"
    fusion: FusionSettings | None = None
    # Any: a condition's value is read by the filter itself.
    filter: dict[str, Any] = Field(default_factory=dict, max_length=20)
    steps: RetrievalSteps | None = None
    history: list[_Turn] = Field(default_factory=list, max_length=50)


class _Explain(_Search):
    budget_tokens: int = Field(default=1500, ge=1, le=200_000)
    document: str | None = Field(default=None, max_length=800)
    app: str | None = Field(default=None, min_length=1, max_length=200)


async def search(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/search``: passages, best first, among those the caller may read."""
    ctx = await context_of(request)
    asked = _parsed(_Search, await read_json(request))
    knowledge = app_of(request).parts.knowledge
    passages = await knowledge.search(ctx, **_arguments(request, ctx, asked))
    data = {"data": [found_view(passage) for passage in passages]}
    if passages:
        return JSONResponse(data)
    await knowledge.check_collection(ctx, request.path_params["name"])
    hint = await knowledge.filter_hint(ctx, request.path_params["name"], read_filter(asked.filter))
    return JSONResponse({**data, "hint": hint} if hint else data)


async def explain(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/explain``: the same search, stage by stage."""
    ctx = await context_of(request)
    asked = _parsed(_Explain, await read_json(request))
    knowledge = app_of(request).parts.knowledge
    told = await knowledge.explain(
        ctx,
        **_arguments(request, ctx, asked),
        budget_tokens=asked.budget_tokens,
        document=None if asked.document is None else DocumentId(asked.document),
    )
    if not told.candidates:
        await knowledge.check_collection(ctx, request.path_params["name"])
    view = explanation_view(told)
    if asked.app is not None:
        finished = await app_of(request).ask_as(ctx, asked.query, app=asked.app)
        view["answer"] = finished_view(finished.answer, finished.receipt)
    return JSONResponse(view)


async def graph(request: Request) -> Response:
    """``GET /api/v1/collections/{name}/graph?entity=&limit=``: entities, edges, and the places that say so."""
    ctx = await context_of(request)
    entity = request.query_params.get("entity") or None
    if entity is not None and len(entity) > _LONGEST_NAME:
        raise InvalidInput(f"entity is longer than {_LONGEST_NAME} characters", param="entity")
    asked = request.query_params.get("limit", "50")
    if not asked.isascii() or not asked.isdigit() or len(asked) > 6:
        raise InvalidInput("limit must be a number from 1 to 500", param="limit")
    knowledge, name = app_of(request).parts.knowledge, request.path_params["name"]
    view = await knowledge.graph(ctx, name, entity, limit=int(asked))
    if not view.entities:
        await knowledge.check_collection(ctx, name)
    return JSONResponse(graph_view(view))


# Any: arguments of several types.
def _arguments(request: Request, ctx: Context, asked: _Search) -> dict[str, Any]:
    if asked.steps is not None and asked.steps.reads_with_models:
        # Whoever may search may not choose what that costs, or which model reads; the collection's settings do.
        ctx.require(Role.DEVELOPER, Role.OPERATOR)
    return {
        "query": asked.query,
        "collection": request.path_params["name"],
        "limit": asked.limit,
        "mode": asked.mode,
        "fusion": asked.fusion,
        "filter": read_filter(asked.filter),
        "steps": asked.steps,
        "history": [Turn(turn.role, turn.text) for turn in asked.history],
        "assistant": RetrievalAssistant(app_of(request).parts),
    }


# Any: the model that was asked for.
def _parsed(model: type[Any], body: object) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from error


routes = [
    Route("/api/v1/collections/{name}/search", search, methods=["POST"]),
    Route("/api/v1/collections/{name}/explain", explain, methods=["POST"]),
    Route("/api/v1/collections/{name}/graph", graph, methods=["GET"]),
]
