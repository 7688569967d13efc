"""Rerank, moderations, and the audio and image endpoints that are passed through."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput, UnsupportedMediaType
from interlock.core.ids import ulid
from interlock.flows.moderate import OWN_MODEL, moderate
from interlock.flows.relay import RelayHead, relay
from interlock.flows.rerank import rerank
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.ports import Moderated, RelayCall
from interlock.gateway.service import Served
from interlock.http.callers import app_of, context_of, read_bytes, read_json
from interlock.http.streaming import ByteStream, ClientLeft, after_first, while_connected
from interlock.server.answering import CLIENT_LEFT, check_texts, headers_of, telling

__all__ = ["field_of_form", "routes"]

# Any in this module: JSON objects on their way in and out.
Operation = Literal["transcription", "translation", "speech", "image_generation", "image_edit", "image_variation"]


class _Document(Loose):
    text: str


class _RerankRequest(Loose):
    model: str = Field(min_length=1, max_length=256)
    query: str = Field(min_length=1, max_length=100_000)
    documents: list[str | _Document] = Field(min_length=1, max_length=1_000)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None


async def rerank_documents(request: Request) -> Response:
    """``POST /v1/rerank`` and ``/v2/rerank``, in the shape that Cohere and Jina share."""
    ctx = await context_of(request)
    body = parsed(_RerankRequest, await read_json(request))
    texts = [item if isinstance(item, str) else item.text for item in body.documents]
    served = Served()
    work = rerank(app_of(request).parts, ctx, body.model, body.query, texts, limit=body.top_n, served=served)
    try:
        with telling(request, served):
            ranked = await while_connected(request.receive, work)
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    rows = [row for row in ranked.rows if 0 <= row.index < len(texts)][: body.top_n]
    results: list[dict[str, Any]] = [{"index": row.index, "relevance_score": row.score} for row in rows]
    if body.return_documents:
        results = [{**result, "document": {"text": texts[result["index"]]}} for result in results]
    tokens = ranked.usage.total_tokens
    return JSONResponse(
        {
            "id": ulid().lower(),
            "object": "list",
            "model": body.model,
            "results": results,
            "usage": {"total_tokens": tokens, "prompt_tokens": ranked.usage.input_tokens},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": ranked.searches or None}},
        },
        headers=headers_of(request, served=served),
    )


class _ModerationPart(Loose):
    type: str
    text: str | None = None


class _ModerationRequest(Loose):
    model: str = Field(default=OWN_MODEL, min_length=1, max_length=256)
    input: str | list[str] | list[_ModerationPart]


def _part_text(part: _ModerationPart, place: int) -> str:
    """Raises: InvalidInput: it is no text. One that is left out would be answered as if it had been looked at."""
    if part.type == "text":
        return part.text or ""
    raise InvalidInput(
        f"a part of the type {part.type[:64]!r} is not moderated here",
        param=f"input[{place}]",
        code="unsupported_content",
        hint="send the parts of type text alone",
    )


async def moderations(request: Request) -> Response:
    """``POST /v1/moderations``; without a model, by our own detectors."""
    ctx = await context_of(request)
    body = parsed(_ModerationRequest, await read_json(request))
    given: Sequence[str | _ModerationPart] = [body.input] if isinstance(body.input, str) else body.input
    texts = [item if isinstance(item, str) else _part_text(item, place) for place, item in enumerate(given)]
    served = Served()
    work = moderate(app_of(request).parts, ctx, body.model, check_texts(texts, "input"), served=served)
    try:
        with telling(request, served):
            verdicts = await while_connected(request.receive, work)
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    results = [_verdict(verdict) for verdict in verdicts]
    answer = {"id": f"modr-{ulid()}", "model": body.model, "results": results}
    return JSONResponse(answer, headers=headers_of(request, served=served))


_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""OpenAI's own names: its clients read each of them, whoever gave the verdict."""


def _verdict(verdict: Moderated) -> dict[str, Any]:
    known = dict.fromkeys(_CATEGORIES, False)
    scores = dict.fromkeys(_CATEGORIES, 0.0)
    categories = {**known, **verdict.categories}
    return {
        "flagged": verdict.flagged,
        "categories": categories,
        "category_scores": {**scores, **verdict.scores},
        "category_applied_input_types": {name: ["text"] for name in categories},
    }


def _passing(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        ctx = await context_of(request)
        kind = request.headers.get("content-type", "")
        body = await read_bytes(request)
        model = _model_of(kind, body)
        accept = request.headers.get("accept", "*/*")[:256]
        served = Served()
        call = RelayCall(operation, kind, body, accept)
        pieces = relay(app_of(request).parts, ctx, call, model, served=served)
        try:
            with telling(request, served):
                answered = await after_first(request.receive, pieces)
                head = await anext(answered)
        except ClientLeft:
            return Response(status_code=CLIENT_LEFT)
        assert isinstance(head, RelayHead), "the head comes first"
        response = ByteStream(_bytes(answered), headers_of(request, served=served), head.content_type)
        response.status_code = head.status
        return response

    endpoint.__doc__ = f"Pass a call for {operation} through."
    return endpoint


async def _bytes(pieces: AsyncGenerator[RelayHead | bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, bytes):
                yield piece


_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^;,\s]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'(?:^|;)\s*name="?([^";\r\n]{1,64})"?', re.IGNORECASE)


def _model_of(content_type: str, body: bytes) -> str:
    """The field `model` of a JSON or a form body; nothing else of it is read. Raises: InvalidInput."""
    kind = content_type.partition(";")[0].strip().lower()
    model: object
    if kind == "application/json":
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("the body is not JSON", code="invalid_json") from error
        model = value.get("model") if isinstance(value, dict) else None
    elif kind == "multipart/form-data":
        found = _BOUNDARY.search(content_type)
        if found is None:
            raise InvalidInput("the form has no boundary", param="Content-Type")
        raw = field_of_form(body, (found.group(1) or found.group(2)).encode("latin-1", "replace"), b"model")
        model = None if raw is None else raw.decode("utf-8", "replace")
    else:
        raise UnsupportedMediaType("send JSON or multipart/form-data", param="Content-Type")
    if not isinstance(model, str) or not 1 <= len(model) <= 256:
        raise InvalidInput("model is a text of 1 to 256 characters", param="model")
    return model


def field_of_form(body: bytes, boundary: bytes, name: bytes) -> bytes | None:
    """The first field `name` of a form, without copying the files beside it; None without one."""
    mark = b"--" + boundary
    at = body.find(mark)
    while at >= 0:
        start = at + len(mark)
        if body[start : start + 2] == b"--":
            return None
        head_end = body.find(b"\r\n\r\n", start, start + 16_384)
        if head_end < 0:
            return None
        following = body.find(b"\r\n" + mark, head_end)
        if following < 0:
            return None
        for header in body[start:head_end].split(b"\r\n"):
            if header.lower().startswith(b"content-disposition:"):
                named = _NAME.search(header.partition(b":")[2])
                if named is not None and named.group(1) == name:
                    return body[head_end + 4 : following][:1024]
        at = following + 2
    return None


routes = [
    Route("/v1/rerank", rerank_documents, methods=["POST"]),
    Route("/v2/rerank", rerank_documents, methods=["POST"]),
    Route("/v1/moderations", moderations, methods=["POST"]),
    Route("/v1/audio/transcriptions", _passing("transcription"), methods=["POST"]),
    Route("/v1/audio/translations", _passing("translation"), methods=["POST"]),
    Route("/v1/audio/speech", _passing("speech"), methods=["POST"]),
    Route("/v1/images/generations", _passing("image_generation"), methods=["POST"]),
    Route("/v1/images/edits", _passing("image_edit"), methods=["POST"]),
    Route("/v1/images/variations", _passing("image_variation"), methods=["POST"]),
]
