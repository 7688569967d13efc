"""OpenAI-compatible endpoints: chat completions, models, embeddings."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.app import App
from interlock.core.answers import Answer, AnswerSentence, Quote
from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.ids import new_id
from interlock.core.messages import ChatRequest, Finish, TextDelta, ToolCallDelta, text_message
from interlock.core.release import Release
from interlock.flows.chat import Receipt, has_knowledge
from interlock.flows.embed import embed
from interlock.gateway.service import collect
from interlock.gateway.wires.openai_inbound import decode_request, encode_message, encode_usage, field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.http.streaming import ClientLeft, EventStream, while_connected
from interlock.server.views import answer_view, citation_view, receipt_view

__all__ = ["routes"]

# Any in this module: JSON objects on their way out.

_CLIENT_LEFT = 499
"""Nobody reads it; the access log and the metrics do (nginx's number)."""


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    ctx = await context_of(request)
    decoded = decode_request(await read_json(request))
    app = app_of(request)
    release = await app.resolve(ctx, decoded.request.model)
    call = _Call(app, ctx, decoded.request, release)
    headers = {"x-request-id": ctx.request_id, "x-interlock-trace-id": ctx.trace_id}
    if release is not None:
        headers["x-interlock-release"] = release.id
    try:
        if not decoded.request.stream:
            return JSONResponse(await while_connected(request.receive, call.whole()), headers=headers)
        chunks = call.chunks(include_usage=decoded.include_usage)
        try:
            # The first event decides the status: an error before it is an HTTP error, one after it is an event.
            first = await while_connected(request.receive, anext(chunks))
        except BaseException:
            await chunks.aclose()
            raise
    except ClientLeft:
        return Response(status_code=_CLIENT_LEFT)
    return EventStream(_again(first, chunks), headers)


async def _again(
    first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(rest):
        yield first
        async for item in rest:
            yield item


class _Call:
    """One chat call, in either form of answer."""

    def __init__(self, app: App, ctx: Context, request: ChatRequest, release: Release | None) -> None:
        self._app = app
        self._ctx = ctx
        self._request = request
        self._release = release
        self._id = "chatcmpl-" + new_id("")[1:]
        self._created = int(time.time())

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._request.model}

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        events = self._app.chat(self._ctx, self._request, self._release)
        answer: Answer | None = None
        receipt: Receipt | None = None
        model_events = []
        async with aclosing(events):
            async for event in events:
                match event:
                    case Answer():
                        answer = event
                    case Receipt():
                        receipt = event
                    case TextDelta() | ToolCallDelta() | Finish():
                        model_events.append(event)
        assert receipt is not None, "a flow ends with its receipt or raises"
        if answer is not None:
            message = encode_message(text_message("assistant", answer.text))
            reason = "stop"
            usage = receipt.usage
        else:
            result = await collect(_replay(model_events))
            message, reason, usage = encode_message(result.message), result.finish.reason, result.finish.usage
        extension = {**receipt_view(receipt), **(answer_view(answer) if answer else {})}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
            "usage": encode_usage(usage),
            "interlock": extension,
        }

    async def chunks(self, *, include_usage: bool) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as OpenAI chunks. Ours alone: the field `interlock` on some of them."""
        knowledge = self._release is not None and has_knowledge(self._release)
        events = self._app.chat(self._ctx, self._request, self._release)
        started = False
        reason = "stop"
        extension: dict[str, Any] = {}
        async with aclosing(events):
            async for event in events:
                delta: dict[str, Any] | None = None
                extra: dict[str, Any] = {}
                match event:
                    case Quote(citation):
                        delta, extra = {"content": ""}, {"event": "quote", "citation": citation_view(citation)}
                    case AnswerSentence():
                        # A space between sentences, which the next one brings along.
                        space = " " if extension.setdefault("sentences", 0) else ""
                        extension["sentences"] += 1
                        delta = {"content": space + event.text}
                        extra = {
                            "event": "sentence",
                            "origin": event.origin,
                            "citations": [citation_view(citation) for citation in event.citations],
                        }
                    case TextDelta(text):
                        delta = {"content": text}
                    case ToolCallDelta():
                        delta = {"tool_calls": [_tool_chunk(event)]}
                    case Finish():
                        reason = event.reason
                    case Answer():
                        extension = answer_view(event)
                    case Receipt():
                        yield self._chunk({}, reason, {"event": "done", **receipt_view(event), **extension})
                        if include_usage:
                            yield {
                                **self._head("chat.completion.chunk"),
                                "choices": [],
                                "usage": encode_usage(event.usage),
                            }
                if delta is not None:
                    if not started:
                        delta = {"role": "assistant", **delta}
                        started = True
                    yield self._chunk(delta, None, extra if knowledge else {})

    def _chunk(self, delta: dict[str, Any], reason: str | None, extra: dict[str, Any]) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "interlock": extra} if extra else chunk


async def _replay(events: Sequence[Any]) -> AsyncGenerator[Any, None]:
    for event in events:
        yield event


def _tool_chunk(event: ToolCallDelta) -> dict[str, Any]:
    chunk: dict[str, Any] = {"index": event.index, "function": {"arguments": event.arguments}}
    if event.id:
        chunk |= {"id": event.id, "type": "function"}
    if event.name:
        chunk["function"]["name"] = event.name
    return chunk


async def list_models(request: Request) -> Response:
    """``GET /v1/models``: apps, then routes, then what the providers have."""
    await context_of(request)
    app = app_of(request)
    names = [f"app/{source.name}" for source in app.parts.releases.apps()] + await app.parts.gateway.models()
    return JSONResponse({"object": "list", "data": [_model(name) for name in names]})


async def get_model(request: Request) -> Response:
    """``GET /v1/models/{name}``."""
    ctx = await context_of(request)
    name = request.path_params["name"]
    app = app_of(request)
    if name.startswith("app/"):
        await app.resolve(ctx, name)
    else:
        app.parts.gateway.route(name)
    return JSONResponse(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": name.partition("/")[0]}


class _EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str = Field(min_length=1, max_length=256)
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: str = Field(default="float", pattern="^(float|base64)$")
    dimensions: int | None = Field(default=None, ge=1)


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    ctx = await context_of(request)
    try:
        body = _EmbeddingRequest.model_validate(await read_json(request))
    except ValidationError as error:
        raise field_error(error) from error
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts or len(texts) > 2048:
        raise InvalidInput("input holds 1 to 2,048 texts", param="input")
    strings = [text for text in texts if isinstance(text, str)]
    if len(strings) != len(texts):
        raise InvalidInput("send texts, not token numbers", param="input")
    if any(not text for text in strings):
        raise InvalidInput("a text is empty", param="input")
    result = await embed(app_of(request).parts, ctx, body.model, strings)
    if body.dimensions is not None and body.dimensions != len(result.vectors[0]):
        raise InvalidInput(f"this model has {len(result.vectors[0])} dimensions", param="dimensions")
    data = [
        {
            "object": "embedding",
            "index": index,
            # The official client asks for base64 of little-endian float32 by default.
            "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            if body.encoding_format == "base64"
            else vector,
        }
        for index, vector in enumerate(result.vectors)
    ]
    tokens = result.usage.input_tokens
    return JSONResponse(
        {
            "object": "list",
            "data": data,
            "model": body.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        },
        headers={"x-request-id": ctx.request_id, "x-interlock-trace-id": ctx.trace_id},
    )


routes = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{name:path}", get_model, methods=["GET"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
]
