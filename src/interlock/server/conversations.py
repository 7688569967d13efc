"""``/v1/conversations``: what responses that name one have said, and what callers put there."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.gateway.conversations import Conversation
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.inbound._openai import tags_of
from interlock.gateway.inbound.openai_responses import checked_items
from interlock.http.callers import app_of, context_of, read_json
from interlock.server.answering import headers_of

__all__ = ["routes"]

# Any in this module: JSON objects of the API.


class _Create(Loose):
    items: list[Any] | None = None
    metadata: dict[str, str] | None = None


class _Update(Loose):
    metadata: dict[str, str] | None = Field(...)


class _Add(Loose):
    items: list[Any] = Field(min_length=1)


def _view(one: Conversation) -> dict[str, Any]:
    created = int(one.created_at.timestamp())
    return {"id": one.id, "object": "conversation", "created_at": created, "metadata": dict(one.metadata)}


async def _caller(request: Request) -> Context:
    ctx = await context_of(request)
    if not app_of(request).workspace.settings.gateway.store_responses:
        raise InvalidInput("nothing is stored here", param=None, hint="set gateway.store_responses: true")
    return ctx


async def create(request: Request) -> Response:
    """``POST /v1/conversations``."""
    ctx = await _caller(request)
    body = parsed(_Create, await read_json(request))
    made = await app_of(request).parts.conversations.create(
        ctx, checked_items(body.items or []), tags_of(body.metadata)
    )
    return JSONResponse(_view(made), headers=headers_of(request))


async def get(request: Request) -> Response:
    """``GET /v1/conversations/{id}``."""
    ctx = await _caller(request)
    found = await app_of(request).parts.conversations.get(ctx, request.path_params["id"])
    return JSONResponse(_view(found), headers=headers_of(request))


async def update(request: Request) -> Response:
    """``POST /v1/conversations/{id}``: other metadata."""
    ctx = await _caller(request)
    body = parsed(_Update, await read_json(request))
    changed = await app_of(request).parts.conversations.update(ctx, request.path_params["id"], tags_of(body.metadata))
    return JSONResponse(_view(changed), headers=headers_of(request))


async def delete(request: Request) -> Response:
    """``DELETE /v1/conversations/{id}``: with its items. Stored responses stay."""
    ctx = await _caller(request)
    identity = request.path_params["id"]
    await app_of(request).parts.conversations.delete(ctx, identity)
    return JSONResponse(
        {"id": identity, "object": "conversation.deleted", "deleted": True}, headers=headers_of(request)
    )


async def list_items(request: Request) -> Response:
    """``GET /v1/conversations/{id}/items``: newest first unless ``order=asc``."""
    ctx = await _caller(request)
    query = request.query_params
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= 100):
        raise InvalidInput("limit is a number from 1 to 100", param="limit")
    found = await app_of(request).parts.conversations.page(
        ctx,
        request.path_params["id"],
        after=query.get("after"),
        limit=int(limit) + 1,
        newest_first=query.get("order") != "asc",
    )
    return _listed(request, found[: int(limit)], has_more=len(found) > int(limit))


def _listed(request: Request, items: list[dict[str, Any]], *, has_more: bool = False) -> Response:
    body = {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
    return JSONResponse(body, headers=headers_of(request))


async def add_items(request: Request) -> Response:
    """``POST /v1/conversations/{id}/items``: at most 20 at a time."""
    ctx = await _caller(request)
    items = checked_items(parsed(_Add, await read_json(request)).items)
    await app_of(request).parts.conversations.add(ctx, request.path_params["id"], items)
    return _listed(request, items)


async def get_item(request: Request) -> Response:
    """``GET /v1/conversations/{id}/items/{item}``."""
    ctx = await _caller(request)
    where = request.path_params
    found = await app_of(request).parts.conversations.item(ctx, where["id"], where["item"])
    return JSONResponse(found, headers=headers_of(request))


async def delete_item(request: Request) -> Response:
    """``DELETE /v1/conversations/{id}/items/{item}``: gives the conversation."""
    ctx = await _caller(request)
    where, talks = request.path_params, app_of(request).parts.conversations
    await talks.delete_item(ctx, where["id"], where["item"])
    return JSONResponse(_view(await talks.get(ctx, where["id"])), headers=headers_of(request))


routes = [
    Route("/v1/conversations", create, methods=["POST"]),
    Route("/v1/conversations/{id}", get, methods=["GET"]),
    Route("/v1/conversations/{id}", update, methods=["POST"]),
    Route("/v1/conversations/{id}", delete, methods=["DELETE"]),
    Route("/v1/conversations/{id}/items", list_items, methods=["GET"]),
    Route("/v1/conversations/{id}/items", add_items, methods=["POST"]),
    Route("/v1/conversations/{id}/items/{item}", get_item, methods=["GET"]),
    Route("/v1/conversations/{id}/items/{item}", delete_item, methods=["DELETE"]),
]
