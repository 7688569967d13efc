"""``/v1beta/models`` and ``/v1/models``, as Google's clients call them.

The client leaves the slashes of a model's name as they are: ``models/app/handbook:generateContent``.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput, NotFound
from interlock.flows.count import count_tokens
from interlock.flows.embed import embed
from interlock.flows.respond import codec
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.service import Served
from interlock.http.callers import app_of, context_of, read_json
from interlock.http.streaming import ClientLeft, while_connected
from interlock.server.answering import (
    CLIENT_LEFT,
    chat_endpoint,
    check_texts,
    headers_of,
    known_models,
    require_model,
    telling,
)

__all__ = ["call", "get_model", "list_models", "routes"]

# Any in this module: JSON objects on their way in and out.
_WIRE = "google.generate"


async def call(request: Request) -> Response:
    """``POST /v1beta/models/{model}:{method}``."""
    model, _, method = str(request.path_params["call"]).rpartition(":")
    if not model or len(model) > 256:
        raise NotFound("the address is /v1beta/models/MODEL:METHOD")
    match method:
        case "generateContent":
            return await chat_endpoint(request, _WIRE, model=model, stream=False)
        case "streamGenerateContent":
            return await chat_endpoint(request, _WIRE, model=model, stream=True)
        case "countTokens":
            return await _count(request, model)
        case "embedContent":
            return await _embed(request, model, batch=False)
        case "batchEmbedContents":
            return await _embed(request, model, batch=True)
    raise NotFound(f"there is no method {method[:64]!r}")


async def _count(request: Request, model: str) -> Response:
    ctx = await context_of(request)
    body = await read_json(request)
    inner = body.get("generateContentRequest") if isinstance(body, dict) else None
    asked = codec(_WIRE).decode(body if inner is None else inner, model=model).request
    app = app_of(request)
    release = await app.resolve(ctx, model)
    try:
        count = await while_connected(request.receive, count_tokens(app.parts, ctx, asked, release))
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    headers = {**headers_of(request, release), **({"x-interlock-estimated": "true"} if count.estimated else {})}
    return JSONResponse({"totalTokens": count.tokens}, headers=headers)


class _Part(Loose):
    text: str | None = None


class _Content(Loose):
    parts: list[_Part] = Field(min_length=1, max_length=2048)


class _EmbedOne(Loose):
    content: _Content
    output_dimensionality: int | None = Field(default=None, alias="outputDimensionality", ge=1)


class _EmbedMany(Loose):
    requests: list[_EmbedOne] = Field(min_length=1, max_length=2048)


async def _embed(request: Request, model: str, *, batch: bool) -> Response:
    ctx = await context_of(request)
    body = await read_json(request)
    asked = parsed(_EmbedMany, body).requests if batch else [parsed(_EmbedOne, body)]
    texts = check_texts([_text(one, index) for index, one in enumerate(asked)], "content")
    served = Served()
    try:
        with telling(request, served):
            work = embed(app_of(request).parts, ctx, model, texts, served=served)
            result = await while_connected(request.receive, work)
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    wanted = {one.output_dimensionality for one in asked} - {None, len(result.vectors[0])}
    if wanted:
        raise InvalidInput(f"this model has {len(result.vectors[0])} dimensions", param="outputDimensionality")
    vectors: list[dict[str, Any]] = [{"values": vector} for vector in result.vectors]
    usage = {"usageMetadata": {"promptTokenCount": result.usage.input_tokens}}
    shown = {"embeddings": vectors} if batch else {"embedding": vectors[0]}
    return JSONResponse({**shown, **usage}, headers=headers_of(request, served=served))


def _text(one: _EmbedOne, index: int) -> str:
    if any(part.text is None for part in one.content.parts):
        raise InvalidInput("only texts are embedded", param=f"requests[{index}].content.parts")
    return "\n".join(part.text or "" for part in one.content.parts)


async def list_models(request: Request) -> Response:
    """``GET /v1beta/models``."""
    ctx = await context_of(request)
    names = await known_models(app_of(request), ctx)
    size, start = (_number(request, "pageSize", 50), _number(request, "pageToken", 0))
    size = min(max(size, 1), 1000)
    page = names[start : start + size]
    more = {"nextPageToken": str(start + size)} if start + size < len(names) else {}
    return JSONResponse({"models": [_model(name) for name in page], **more}, headers=headers_of(request))


async def get_model(request: Request) -> Response:
    """``GET /v1beta/models/{name}``."""
    ctx = await context_of(request)
    name = request.path_params["name"]
    await require_model(app_of(request), ctx, name)
    return JSONResponse(_model(name), headers=headers_of(request))


def _number(request: Request, name: str, default: int) -> int:
    raw = request.query_params.get(name) or str(default)
    if not (raw.isascii() and raw.isdecimal() and len(raw) < 8):
        raise InvalidInput(f"{name} is a number", param=name)
    return int(raw)


def _model(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
    }


routes = [
    Route("/v1beta/models", list_models, methods=["GET"]),
    Route("/v1beta/models/{name:path}", get_model, methods=["GET"]),
    Route("/v1beta/models/{call:path}", call, methods=["POST"]),
]
