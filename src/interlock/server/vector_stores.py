"""Collections as OpenAI's vector stores: listed, and searched by its clients, each caller by its own rights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.passages import Passage
from interlock.flows.retrieval_assistant import RetrievalAssistant
from interlock.flows.several_searches import merged, score_of
from interlock.flows.store_filters import store_filter
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.knowledge.types import DocumentInfo

__all__ = ["routes"]

# Any in this module: JSON objects on their way in and out.
_MOST_QUERIES = 8


class _Ranking(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: float = Field(default=0.0, ge=0, le=1)


class _Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str | list[str]
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: _Ranking = _Ranking()
    rewrite_query: bool = False


async def list_stores(request: Request) -> Response:
    """``GET /v1/vector_stores``: collections that hold something the caller may see."""
    ctx = await context_of(request)
    stores = [_store(name, infos) for name, infos in (await _collections(request, ctx)).items()]
    away = await app_of(request).parts.knowledge.external_counts(ctx)
    stores += [_store(name, (), away=count) for name, count in away.items() if count]
    first, last = (stores[0]["id"], stores[-1]["id"]) if stores else (None, None)
    return JSONResponse({"object": "list", "data": stores, "first_id": first, "last_id": last, "has_more": False})


async def show_store(request: Request) -> Response:
    """``GET /v1/vector_stores/{id}``."""
    ctx = await context_of(request)
    name = request.path_params["id"]
    infos, away = await _seen(request, ctx, name)
    return JSONResponse(_store(name, infos, away=away))


async def search(request: Request) -> Response:
    """``POST /v1/vector_stores/{id}/search``: passages, best first; of several queries, the best of any."""
    ctx = await context_of(request)
    name = request.path_params["id"]
    try:
        asked = _Search.model_validate(await read_json(request))
    except ValidationError as error:
        raise field_error(error) from error
    queries = [asked.query] if isinstance(asked.query, str) else asked.query
    if not 1 <= len(queries) <= _MOST_QUERIES:
        raise InvalidInput(f"query is a text, or 1 to {_MOST_QUERIES} of them", param="query")
    narrowed = store_filter(asked.filters, "filters")
    await _seen(request, ctx, name)
    rankings: list[list[Passage]] = []
    parts = app_of(request).parts
    with parts.observe.span(ctx, "search") as (_, inner):
        for query in queries:
            rankings.append(
                await parts.knowledge.search(
                    inner,
                    query,
                    collection=name,
                    limit=asked.max_num_results,
                    filter=narrowed,
                    assistant=RetrievalAssistant(parts),
                )
            )
    least = asked.ranking_options.score_threshold
    kept = [passage for passage in merged(rankings) if score_of(passage) >= least][: asked.max_num_results]
    return JSONResponse(
        {
            "object": "vector_store.search_results.page",
            "search_query": queries,
            "data": [_result(passage) for passage in kept],
            "has_more": False,
            "next_page": None,
        }
    )


async def _collections(request: Request, ctx: Context) -> dict[str, list[DocumentInfo]]:
    found: dict[str, list[DocumentInfo]] = {}
    for info in await app_of(request).parts.knowledge.documents(ctx):
        found.setdefault(info.collection, []).append(info)
    return found


async def _seen(request: Request, ctx: Context, name: str) -> tuple[Sequence[DocumentInfo], int]:
    """Its documents here, and how many are in an index elsewhere."""
    knowledge = app_of(request).parts.knowledge
    infos: Sequence[DocumentInfo] = ()
    away = 0
    if knowledge.is_external(ctx, name):
        away = await knowledge.external_count(ctx, name)
    else:
        infos = await knowledge.documents(ctx, collection=name)
    if not infos and not away:
        # One that this caller may not see is as one that is not there.
        raise NotFound(f"there is no vector store {name[:64]!r}", param="vector_store_id")
    return infos, away


def _store(name: str, infos: Sequence[DocumentInfo], *, away: int = 0) -> dict[str, Any]:
    times = [int(info.ingested_at.timestamp()) for info in infos if info.ingested_at is not None]
    failed = sum(info.state == "failed" for info in infos)
    return {
        "id": name,
        "object": "vector_store",
        "name": name,
        "created_at": min(times, default=0),
        "last_active_at": max(times, default=0),
        "usage_bytes": sum(info.size_bytes for info in infos),
        "status": "completed",
        "metadata": {},
        "file_counts": {
            "in_progress": 0,
            "completed": len(infos) + away - failed,
            "failed": failed,
            "cancelled": 0,
            "total": len(infos) + away,
        },
    }


def _result(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.document_id,
        "filename": passage.source,
        "score": round(score_of(passage), 4),
        "attributes": dict(passage.metadata),
        "content": [{"type": "text", "text": passage.text}],
    }


routes = [
    Route("/v1/vector_stores", list_stores),
    Route("/v1/vector_stores/{id}", show_store),
    Route("/v1/vector_stores/{id}/search", search, methods=["POST"]),
]
