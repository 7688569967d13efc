"""Search of collections under `/api/v1/collections/{name}`: the passages, and how they were found."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.ids import DocumentId
from interlock.flows.search_views import explanation_view, found_view
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.knowledge.filters import read_filter
from interlock.knowledge.settings import FusionSettings
from interlock.knowledge.types import SearchMode

__all__ = ["routes"]


class _Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=20_000)
    limit: int = Field(default=8, ge=1, le=200)
    mode: SearchMode = "hybrid"
    fusion: FusionSettings | None = None
    # Any: a condition's value is read by the filter itself.
    filter: dict[str, Any] = Field(default_factory=dict, max_length=20)


class _Explain(_Search):
    budget_tokens: int = Field(default=1500, ge=1, le=200_000)
    document: str | None = Field(default=None, max_length=64)


async def search(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/search``: passages, best first, among those the caller may read."""
    ctx = await context_of(request)
    asked = _parsed(_Search, await read_json(request))
    passages = await app_of(request).parts.knowledge.search(ctx, **_arguments(request, asked))
    return JSONResponse({"data": [found_view(passage) for passage in passages]})


async def explain(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/explain``: the same search, stage by stage."""
    ctx = await context_of(request)
    asked = _parsed(_Explain, await read_json(request))
    told = await app_of(request).parts.knowledge.explain(
        ctx,
        **_arguments(request, asked),
        budget_tokens=asked.budget_tokens,
        document=None if asked.document is None else DocumentId(asked.document),
    )
    return JSONResponse(explanation_view(told))


# Any: arguments of several types.
def _arguments(request: Request, asked: _Search) -> dict[str, Any]:
    return {
        "query": asked.query,
        "collection": request.path_params["name"],
        "limit": asked.limit,
        "mode": asked.mode,
        "fusion": asked.fusion,
        "filter": read_filter(asked.filter),
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
]
