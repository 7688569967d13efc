"""``/v1/responses``: answer, list, remove."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput
from interlock.flows.background import cancel_response, create_background
from interlock.flows.respond import codec
from interlock.flows.responses import continued
from interlock.http.callers import app_of, context_of, read_json
from interlock.server.answering import answer, headers_of

__all__ = ["routes"]

_WIRE = "openai.responses"


async def create(request: Request) -> Response:
    """``POST /v1/responses``."""
    ctx = await context_of(request)
    app = app_of(request)
    body = await read_json(request)
    asked = codec(_WIRE).decode(body)
    settings = app.workspace.settings
    may_store = settings.gateway.store_responses
    talk = asked.options["conversation"]
    if talk is not None and ctx.conversation is None:
        # What sticks to a conversation sticks to this one.
        ctx = replace(ctx, conversation=talk)
    if asked.options["background"]:
        ctx.notices.model = asked.request.model
        assert isinstance(body, dict), "decoded above"
        made = await create_background(app.parts, ctx, body, asked, home=settings.tenant, may_store=may_store)
        return JSONResponse(made, headers=headers_of(request))
    joined = await continued(app.parts, ctx, asked, may_store=may_store)
    return await answer(request, ctx, _WIRE, joined.asked, keep=joined.keep)


async def get(request: Request) -> Response:
    """``GET /v1/responses/{id}``."""
    ctx = await context_of(request)
    if request.query_params.get("stream") == "true":
        raise InvalidInput("a stored response is not streamed again", param="stream")
    kept = await app_of(request).parts.kept.response(ctx, request.path_params["id"])
    return JSONResponse(kept.response, headers=headers_of(request))


async def delete(request: Request) -> Response:
    """``DELETE /v1/responses/{id}``."""
    ctx = await context_of(request)
    identity = request.path_params["id"]
    await app_of(request).parts.kept.delete_response(ctx, identity)
    return JSONResponse({"id": identity, "object": "response", "deleted": True}, headers=headers_of(request))


async def input_items(request: Request) -> Response:
    """``GET /v1/responses/{id}/input_items``: newest first unless ``order=asc``."""
    ctx = await context_of(request)
    kept = await app_of(request).parts.kept.response(ctx, request.path_params["id"])
    query = request.query_params
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= 100):
        raise InvalidInput("limit is a number from 1 to 100", param="limit")
    items = kept.items if query.get("order") == "asc" else kept.items[::-1]
    identities = [item["id"] for item in items]
    after = query.get("after")
    if after is not None and after not in identities:
        raise InvalidInput("after is the id of an item", param="after")
    start = 0 if after is None else identities.index(after) + 1
    page = items[start : start + int(limit)]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(items),
    }
    return JSONResponse(body, headers=headers_of(request))


async def cancel(request: Request) -> Response:
    """``POST /v1/responses/{id}/cancel``: of a response that is made in the background."""
    ctx = await context_of(request)
    document = await cancel_response(app_of(request).parts, ctx, request.path_params["id"])
    return JSONResponse(document, headers=headers_of(request))


routes = [
    Route("/v1/responses", create, methods=["POST"]),
    Route("/v1/responses/{id}", get, methods=["GET"]),
    Route("/v1/responses/{id}", delete, methods=["DELETE"]),
    Route("/v1/responses/{id}/input_items", input_items, methods=["GET"]),
    Route("/v1/responses/{id}/cancel", cancel, methods=["POST"]),
]
