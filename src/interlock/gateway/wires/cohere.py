"""Cohere's chat, version 2: request encoding and stream decoding.

Source: the Cohere API reference for `POST /v2/chat` and its streaming events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

from interlock.core.errors import ProviderError
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    FilePart,
    Finish,
    FinishReason,
    ImagePart,
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    count_of,
)
from interlock.gateway.failures import stream_error
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires._parts import cannot, data_url, is_image, thinking_tokens
from interlock.gateway.wires._shape import CallIndex, incomplete, parse, well_formed

__all__ = ["decode_stream", "encode_request"]

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_API = "Cohere's chat"
_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR_LIMIT": "length",
}
_BROKEN = {"ERROR", "TIMEOUT"}


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a streaming call. Raises: InvalidInput: a part or a wish that this API has no field for."""
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        "messages": [turn for message in request.messages for turn in _encode_message(message)],
    }
    values = {
        "max_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "p": request.top_p,
        "k": request.top_k,
        "seed": request.seed,
        "stop_sequences": list(request.stop) or None,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
    }
    body |= {name: value for name, value in values.items() if value is not None}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in request.tools
        ]
        match request.tool_choice.mode:
            case "required":
                body["tool_choice"] = "REQUIRED"
            case "none":
                body["tool_choice"] = "NONE"
            case "named":
                # There is no way to name one; a list of one that must be used comes to the same.
                body["tools"] = [t for t in body["tools"] if t["function"]["name"] == request.tool_choice.name]
                body["tool_choice"] = "REQUIRED"
        if any(tool.strict for tool in request.tools):
            body["strict_tools"] = True
    if request.response_schema is not None:
        schema = {"json_schema": dict(request.response_schema)} if request.response_schema else {}
        body["response_format"] = {"type": "json_object", **schema}
    tokens = thinking_tokens(request.reasoning)
    if tokens is not None:
        body["thinking"] = {"type": "enabled", "token_budget": tokens} if tokens else {"type": "disabled"}
    return body


def _encode_message(message: Message) -> Iterator[dict[str, Any]]:
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    for result in results:
        yield {
            "role": "tool",
            "tool_call_id": result.call_id,
            "content": _text_of(result),
        }
    others = [part for part in message.parts if not isinstance(part, ToolResultPart)]
    if results and not others:
        return
    turn: dict[str, Any] = {"role": "user" if message.role == "tool" else message.role}
    calls = [part for part in others if isinstance(part, ToolCallPart)]
    thoughts = [p for p in others if isinstance(p, ReasoningPart) and p.origin == "cohere" and p.text]
    content = [_encode_part(p) for p in others if not isinstance(p, (ToolCallPart, ReasoningPart))]
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
        if thoughts:
            turn["tool_plan"] = "".join(thought.text for thought in thoughts)
    else:
        content = [*({"type": "thinking", "thinking": thought.text} for thought in thoughts), *content]
    if content:
        only = all(part["type"] == "text" for part in content)
        turn["content"] = "".join(part["text"] for part in content) if only else content
    yield turn


def _text_of(result: ToolResultPart) -> str:
    if any(not isinstance(item, TextPart) for item in result.content):
        raise cannot(_API, "image or file in a tool result")
    return "".join(item.text for item in result.content if isinstance(item, TextPart))


def _encode_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            image = {"url": part.url or data_url(part.media_type, part.data)}
            return {"type": "image_url", "image_url": {**image, **({"detail": part.detail} if part.detail else {})}}
        case FilePart() if is_image(part) and not part.file_id:
            return {"type": "image_url", "image_url": {"url": part.url or data_url(part.media_type, part.data)}}
    raise cannot(_API, "file")


async def decode_stream(events: AsyncIterator[str], *, provider: str, model: str) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of a chat stream.

    Raises: ProviderError and its kin: malformed JSON, an error, or an end without `message-end`.
    """
    calls = CallIndex()
    response_id: str | None = None
    end: dict[str, Any] | None = None
    with well_formed(provider):
        async for data in events:
            if data == "[DONE]":
                break
            event = parse(data, provider)
            if event.get("type") == "message-end":
                end = event.get("delta") or {}
                break
            if event.get("type") in {"error", "stream-error"} or (event.get("type") is None and event.get("message")):
                raise stream_error(provider, event.get("error") or {"code": event.get("code")})
            if event.get("type") == "message-start":
                response_id = event.get("id")
            for decoded in _decode(event, calls):
                yield decoded
        if end is None:
            raise incomplete(provider, "message-end")
        finish = _finish(end, provider, model, response_id)
    yield finish


def _decode(event: Mapping[str, Any], calls: CallIndex) -> Iterator[ChatEvent]:
    at = int(event.get("index") or 0)
    delta = event.get("delta") or {}
    message = delta.get("message") or {}
    match event.get("type"):
        case "content-start" | "content-delta":
            content = message.get("content") or {}
            if content.get("thinking"):
                yield ReasoningDelta(str(content["thinking"]), "cohere", at)
            if content.get("text"):
                yield TextDelta(str(content["text"]))
        case "tool-plan-delta":
            yield ReasoningDelta(str(message.get("tool_plan") or ""), "cohere", at)
        case "tool-call-start":
            call = message["tool_calls"]
            function = call.get("function") or {}
            yield calls.begin(at, call.get("id"), function.get("name"))
            if function.get("arguments"):
                yield calls.more(at, str(function["arguments"]))
        case "tool-call-delta":
            yield calls.more(at, str(message["tool_calls"]["function"].get("arguments") or ""))
        case "tool-call-end":
            yield from calls.end(at)


def _finish(end: Mapping[str, Any], provider: str, model: str, response_id: str | None) -> Finish:
    word = str(end.get("finish_reason") or "")
    if word in _BROKEN:
        raise ProviderError(f"provider {provider!r} broke off its answer ({word})", provider=provider, retryable=True)
    usage = end.get("usage") or {}
    tokens = usage.get("tokens") or usage.get("billed_units") or {}
    counted = Usage(
        count_of(tokens.get("input_tokens")),
        count_of(tokens.get("output_tokens")),
        count_of(usage.get("cached_tokens")),
    )
    billed = {"billed_units": usage["billed_units"]} if usage.get("billed_units") else {}
    return Finish(_REASONS.get(word, "stop"), counted, model, response_id=response_id, extra=billed)
