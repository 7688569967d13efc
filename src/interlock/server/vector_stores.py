"""Collections as OpenAI's vector stores: listed, and searched by its clients, each caller by its own rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.passages import Passage
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.knowledge.filters import EVERYTHING, Filter, read_filter
from interlock.knowledge.types import DocumentInfo

__all__ = ["routes"]

# Any in this module: JSON objects on their way in and out.
_MOST_QUERIES = 8
_MOST_DEPTH = 5


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
    first, last = (stores[0]["id"], stores[-1]["id"]) if stores else (None, None)
    return JSONResponse({"object": "list", "data": stores, "first_id": first, "last_id": last, "has_more": False})


async def show_store(request: Request) -> Response:
    """``GET /v1/vector_stores/{id}``."""
    ctx = await context_of(request)
    name = request.path_params["id"]
    return JSONResponse(_store(name, await _seen(request, ctx, name)))


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
    narrowed = EVERYTHING if asked.filters is None else _filter(asked.filters)
    await _seen(request, ctx, name)
    best: dict[str, Passage] = {}
    parts = app_of(request).parts
    with parts.observe.span(ctx, "search") as (_, inner):
        for query in queries:
            found = await parts.knowledge.search(
                inner, query, collection=name, limit=asked.max_num_results, filter=narrowed
            )
            for passage in found:
                if passage.id not in best or passage.score > best[passage.id].score:
                    best[passage.id] = passage
    ranked = sorted(best.values(), key=lambda passage: -passage.score)
    kept = [p for p in ranked if p.score >= asked.ranking_options.score_threshold][: asked.max_num_results]
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


async def _seen(request: Request, ctx: Context, name: str) -> Sequence[DocumentInfo]:
    infos = await app_of(request).parts.knowledge.documents(ctx, collection=name)
    if not infos:
        # One that this caller may not see is as one that is not there.
        raise NotFound(f"there is no vector store {name[:64]!r}", param="vector_store_id")
    return infos


def _store(name: str, infos: Sequence[DocumentInfo]) -> dict[str, Any]:
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
            "completed": len(infos) - failed,
            "failed": failed,
            "cancelled": 0,
            "total": len(infos),
        },
    }


def _result(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.document_id,
        "filename": passage.source,
        "score": round(passage.score, 4),
        "attributes": dict(passage.metadata),
        "content": [{"type": "text", "text": passage.text}],
    }


def _filter(given: Mapping[str, Any]) -> Filter:
    conditions: list[Filter] = []
    _gather(given, conditions, 0)
    return Filter(tuple(condition for each in conditions for condition in each.conditions))


def _gather(given: object, found: list[Filter], depth: int) -> None:
    """Conditions of a comparison or of an ``and``; an ``or`` only where it is a list of values."""
    if not isinstance(given, Mapping) or depth > _MOST_DEPTH:
        raise InvalidInput("a filter has `type`, and `key` with `value` or `filters`", param="filters")
    kind, inner = given.get("type"), given.get("filters")
    if kind in {"and", "or"} and isinstance(inner, list):
        if kind == "and":
            for each in inner:
                _gather(each, found, depth + 1)
            return
        keys = {each.get("key") for each in inner if isinstance(each, Mapping) and each.get("type") == "eq"}
        if len(keys) == 1 and all(isinstance(each, Mapping) and each.get("type") == "eq" for each in inner):
            found.append(read_filter({str(keys.pop()): [each.get("value") for each in inner]}))
            return
        raise InvalidInput("`or` is taken over values of one key", param="filters", hint="search once for each side")
    key, value = given.get("key"), given.get("value")
    if not isinstance(key, str) or not isinstance(kind, str):
        raise InvalidInput("a filter has `type`, and `key` with `value` or `filters`", param="filters")
    if kind == "nin" and isinstance(value, list):
        found.extend(read_filter({key: {"ne": each}}) for each in value)
    elif kind in {"eq", "ne", "gt", "gte", "lt", "lte", "in"}:
        found.append(read_filter({key: {kind: value}}))
    else:
        raise InvalidInput(f"a filter cannot be of the type {kind[:32]!r}", param="filters")


routes = [
    Route("/v1/vector_stores", list_stores),
    Route("/v1/vector_stores/{id}", show_store),
    Route("/v1/vector_stores/{id}/search", search, methods=["POST"]),
]
