"""Anthropic messages: request encoding and stream decoding.

Source: the Anthropic API reference for `POST /v1/messages` and its streaming events.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from interlock.core.errors import InvalidInput, ProviderError
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    FilePart,
    Finish,
    FinishReason,
    ImagePart,
    Message,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from interlock.gateway.http import machine_code
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires._shape import well_formed

__all__ = ["VERSION", "decode_stream", "encode_request"]

VERSION = "2023-06-01"
"""Value of the `anthropic-version` header."""

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a streaming call. `max_tokens` is required on this wire, so the profile's limit stands in.

    Raises: InvalidInput: the request needs a JSON object without a schema, which this wire cannot ask for.
    """
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_output_tokens or profile.max_output_tokens,
        "messages": _encode_turns(request.messages),
        "stream": True,
    }
    system = "\n\n".join(message.text for message in request.messages if message.role == "system")
    if system:
        body["system"] = system
    # This API refuses temperature together with top_p on newer models; temperature is the one people set on purpose.
    if request.temperature is not None and not profile.fixed_sampling:
        body["temperature"] = min(request.temperature, 1.0)
    elif request.top_p is not None and not profile.fixed_sampling:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
        for tool in request.tools
    ]
    if tools and request.tool_choice.mode != "none":
        body["tools"] = tools
        choice = {"auto": "auto", "required": "any", "named": "tool"}[request.tool_choice.mode]
        body["tool_choice"] = {"type": choice, **({"name": request.tool_choice.name} if choice == "tool" else {})}
    if request.response_schema is not None:
        if not request.response_schema:
            raise InvalidInput(
                "this provider needs a JSON schema, not just 'any JSON object'",
                param="response_format",
                hint="use response_format.type = 'json_schema'",
            )
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.response_schema)}}
    return body


def _encode_turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [_encode_part(part) for part in message.parts]
        # Consecutive turns of one role (several tool results, say) must be one turn here.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _encode_part(part: object) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            return {"type": "image", "source": _source(part.url, part.media_type, part.data)}
        case FilePart():
            if part.file_id:
                return {"type": "document", "source": {"type": "file", "file_id": part.file_id}}
            return {"type": "document", "title": part.name, "source": _source(None, part.media_type, part.data)}
        case ToolCallPart():
            try:
                arguments = json.loads(part.arguments or "{}")
            except ValueError as error:
                raise InvalidInput("a tool call's arguments are not JSON", param="messages") from error
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case ToolResultPart():
            content = [_encode_part(item) for item in part.content]
            return {
                "type": "tool_result",
                "tool_use_id": part.call_id,
                "content": content,
                **({"is_error": True} if part.is_error else {}),
            }
    raise AssertionError(f"no encoding for {type(part).__name__}")


def _source(url: str | None, media_type: str, data: bytes | None) -> dict[str, str]:
    if url:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data or b"").decode()}


async def decode_stream(events: AsyncIterator[str], *, provider: str, model: str) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of a message stream.

    Raises: ProviderError: malformed JSON, an error event, or an end without `message_stop`.
    """
    usage = Usage()
    reason: FinishReason = "stop"
    answered = model
    stopped = False
    tool_index: dict[int, int] = {}
    unsaid: set[int] = set()
    """Tool calls whose arguments have not begun."""
    with well_formed(provider):
        async for data in events:
            event = _parse(data, provider)
            match event.get("type"):
                case "message_start":
                    message = event.get("message") or {}
                    answered = str(message.get("model") or model)
                    usage = _usage(message.get("usage") or {}, usage)
                case "content_block_start":
                    block = event.get("content_block") or {}
                    if block.get("type") == "tool_use":
                        index = tool_index.setdefault(int(event.get("index", 0)), len(tool_index))
                        unsaid.add(index)
                        yield ToolCallDelta(index, block.get("id"), block.get("name"))
                case "content_block_delta":
                    delta = event.get("delta") or {}
                    if delta.get("type") == "text_delta":
                        yield TextDelta(str(delta.get("text") or ""))
                    elif delta.get("type") == "input_json_delta":
                        index = tool_index.setdefault(int(event.get("index", 0)), len(tool_index))
                        if piece := str(delta.get("partial_json") or ""):
                            unsaid.discard(index)
                            yield ToolCallDelta(index, arguments=piece)
                case "content_block_stop":
                    index = tool_index.get(int(event.get("index", 0)), -1)
                    if index in unsaid:
                        # A tool without arguments sends no JSON at all here; everybody else's arguments are JSON.
                        unsaid.discard(index)
                        yield ToolCallDelta(index, arguments="{}")
                case "message_delta":
                    reason = _REASONS.get((event.get("delta") or {}).get("stop_reason") or "", "stop")
                    usage = _usage(event.get("usage") or {}, usage)
                case "message_stop":
                    stopped = True
                    break
                case "error":
                    kind = machine_code((event.get("error") or {}).get("type")) or "error"
                    raise ProviderError(
                        f"provider {provider!r} broke off its answer: {kind}",
                        provider=provider,
                        retryable=kind in {"overloaded_error", "api_error", "rate_limit_error"},
                    )
    if not stopped:
        raise ProviderError(
            f"provider {provider!r} ended its answer without message_stop",
            provider=provider,
            retryable=True,
            code="provider_incomplete",
        )
    yield Finish(reason, usage, answered)


def _usage(raw: Mapping[str, Any], known: Usage) -> Usage:
    # On this wire input_tokens leaves out what was read from or written to the prompt cache; ours includes both.
    read = int(raw.get("cache_read_input_tokens") or 0)
    written = int(raw.get("cache_creation_input_tokens") or 0)
    inputs = raw.get("input_tokens")
    return Usage(
        known.input_tokens if inputs is None else int(inputs) + read + written,
        int(raw.get("output_tokens") or known.output_tokens),
        read or known.cached_tokens,
    )


def _parse(data: str, provider: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProviderError(
            f"provider {provider!r} sent an event that is not JSON", provider=provider, retryable=True
        ) from error
    if not isinstance(event, dict):
        raise ProviderError(f"provider {provider!r} sent an event that is no object", provider=provider, retryable=True)
    return event
