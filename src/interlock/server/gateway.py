"""Chat completions, messages, models and embeddings, as OpenAI's and Anthropic's clients call them."""

from __future__ import annotations

import base64
import struct
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput
from interlock.flows.count import count_tokens
from interlock.flows.embed import embed, inputs_of
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.service import Served
from interlock.http.callers import app_of, context_of, read_json
from interlock.http.errors import wire_of
from interlock.http.streaming import ClientLeft, while_connected
from interlock.server import google
from interlock.server.answering import CLIENT_LEFT, chat_endpoint, headers_of, known_models, require_model, telling

__all__ = ["routes"]

# Any in this module: JSON objects on their way out.


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    return await chat_endpoint(request, "openai.chat")


async def messages(request: Request) -> Response:
    """``POST /v1/messages``."""
    return await chat_endpoint(request, "anthropic.messages", more=_betas(request))


def _betas(request: Request) -> dict[str, Any]:
    """The header `anthropic-beta` as a field of the body, where its codec looks for it."""
    wanted = [name.strip() for name in request.headers.get("anthropic-beta", "").split(",") if name.strip()]
    return {"anthropic_beta": wanted} if wanted else {}


async def count_message_tokens(request: Request) -> Response:
    """``POST /v1/messages/count_tokens``."""
    from interlock.gateway.inbound.anthropic_messages import decode_count

    ctx = await context_of(request)
    asked = decode_count(await read_json(request))
    app = app_of(request)
    release = await app.resolve(ctx, asked.model)
    try:
        count = await while_connected(request.receive, count_tokens(app.parts, ctx, asked, release))
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    headers = {**headers_of(request, release), **({"x-interlock-estimated": "true"} if count.estimated else {})}
    return JSONResponse({"input_tokens": count.tokens}, headers=headers)


async def list_models(request: Request) -> Response:
    """``GET /v1/models``, for each vendor's clients in their shape."""
    if wire_of(request) == "google.generate":
        return await google.list_models(request)
    ctx = await context_of(request)
    names = await known_models(app_of(request), ctx)
    if wire_of(request) == "openai.chat":
        return JSONResponse({"object": "list", "data": [_model(name) for name in names]}, headers=headers_of(request))
    raw = request.query_params.get("limit", "1000")
    limit = int(raw) if raw.isascii() and raw.isdecimal() and len(raw) < 6 else 0
    if not 1 <= limit <= 1000:
        raise InvalidInput("limit is a number from 1 to 1000", param="limit")
    after = request.query_params.get("after_id")
    start = names.index(after) + 1 if after in names else 0
    page = names[start : start + limit]
    body = {
        "data": [_anthropic_model(name) for name in page],
        "has_more": start + limit < len(names),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }
    return JSONResponse(body, headers=headers_of(request))


async def get_model(request: Request) -> Response:
    """``GET /v1/models/{name}``."""
    if wire_of(request) == "google.generate":
        return await google.get_model(request)
    ctx = await context_of(request)
    name = request.path_params["name"]
    await require_model(app_of(request), ctx, name)
    shown = _model(name) if wire_of(request) == "openai.chat" else _anthropic_model(name)
    return JSONResponse(shown, headers=headers_of(request))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": name.partition("/")[0]}


def _anthropic_model(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }


class _EmbeddingRequest(Loose):
    model: str = Field(min_length=1, max_length=256)
    # `inputs_of` checks it, and says what is wrong better than a union of types does.
    input: object
    encoding_format: str = Field(default="float", pattern="^(float|base64)$")
    dimensions: int | None = Field(default=None, ge=1)


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    ctx = await context_of(request)
    body = parsed(_EmbeddingRequest, await read_json(request))
    texts = inputs_of(body.input)
    served = Served()
    try:
        with telling(request, served):
            work = embed(app_of(request).parts, ctx, body.model, texts, served=served)
            result = await while_connected(request.receive, work)
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    if body.dimensions is not None and body.dimensions != len(result.vectors[0]):
        raise InvalidInput(f"this model has {len(result.vectors[0])} dimensions", param="dimensions")
    tokens = result.usage.input_tokens
    return JSONResponse(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
                for index, vector in enumerate(result.vectors)
            ],
            "model": body.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        },
        headers=headers_of(request, served=served),
    )


def _written(vector: list[float], encoding: str) -> list[float] | str:
    # The official client asks for base64 of little-endian float32 by default.
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if encoding == "base64" else vector


routes = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_message_tokens, methods=["POST"]),
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{name:path}", get_model, methods=["GET"]),
    Route("/v1/models/{call:path}", google.call, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
]
