"""OpenAI chat completions: request encoding, response and stream decoding.

Source: the OpenAI API reference for `POST /v1/chat/completions`. Unknown fields of answers are ignored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
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
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires._shape import well_formed

__all__ = ["decode_stream", "decode_usage", "encode_request"]

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a streaming call that reports its usage."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [turn for message in request.messages for turn in _encode_message(message, profile)],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.max_output_tokens is not None:
        body[profile.output_token_field] = request.max_output_tokens
    if not profile.fixed_sampling:
        for name, value in (("temperature", request.temperature), ("top_p", request.top_p)):
            if value is not None:
                body[name] = value
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                    **({"strict": True} if tool.strict else {}),
                },
            }
            for tool in request.tools
        ]
        choice = request.tool_choice
        body["tool_choice"] = (
            {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode
        )
    if request.response_schema is not None:
        body["response_format"] = (
            {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(request.response_schema), "strict": True},
            }
            if request.response_schema
            else {"type": "json_object"}
        )
    return body


def _encode_message(message: Message, profile: ModelProfile) -> list[dict[str, Any]]:
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    if results:
        return [
            {
                "role": "tool",
                "tool_call_id": part.call_id,
                "content": "".join(item.text for item in part.content if isinstance(item, TextPart)),
            }
            for part in results
        ]
    role = "user" if message.role == "system" and not profile.system_role else message.role
    turn: dict[str, Any] = {"role": role}
    if message.name:
        turn["name"] = message.name
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    content = [part for part in message.parts if not isinstance(part, ToolCallPart)]
    if all(isinstance(part, TextPart) for part in content):
        turn["content"] = message.text if content or not calls else None
    else:
        turn["content"] = [_encode_part(part) for part in content]
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return [turn]


def _encode_part(part: object) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            url = part.url or f"data:{part.media_type};base64,{base64.b64encode(part.data or b'').decode()}"
            return {"type": "image_url", "image_url": {"url": url}}
        case FilePart():
            if part.file_id:
                return {"type": "file", "file": {"file_id": part.file_id}}
            data = f"data:{part.media_type};base64,{base64.b64encode(part.data or b'').decode()}"
            return {"type": "file", "file": {"filename": part.name, "file_data": data}}
    raise AssertionError(f"no encoding for {type(part).__name__}")


async def decode_stream(
    events: AsyncIterator[str], *, provider: str, model: str, input_characters: int = 0
) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of an answer stream, ``[DONE]`` included.

    Args:
        input_characters: of the prompt, to estimate from when the provider sends no usage.

    The usage arrives after the finish reason, in a chunk without choices, so Finish is held back to the end.
    Raises: ProviderError: malformed JSON, an error object in the stream, or an end without a finish reason.
    """
    reason: FinishReason | None = None
    usage: Usage | None = None
    answered = model
    characters = 0
    with well_formed(provider):
        async for data in events:
            if data == "[DONE]":
                break
            chunk = _parse(data, provider)
            if chunk.get("error"):
                raise ProviderError(f"provider {provider!r} broke off its answer", provider=provider, retryable=True)
            answered = str(chunk.get("model") or answered)
            usage = decode_usage(chunk.get("usage")) or usage
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                if text := delta.get("content"):
                    characters += len(text)
                    yield TextDelta(text)
                for call in delta.get("tool_calls") or ():
                    function = call.get("function") or {}
                    yield ToolCallDelta(
                        int(call.get("index", 0)), call.get("id"), function.get("name"), function.get("arguments") or ""
                    )
                if choice.get("finish_reason"):
                    reason = _REASONS.get(choice["finish_reason"], "stop")
    if reason is None:
        raise ProviderError(
            f"provider {provider!r} ended its answer without a finish reason",
            provider=provider,
            retryable=True,
            code="provider_incomplete",
        )
    # Four characters a token is the usual rule of thumb; the figure is marked as an estimate wherever it is shown.
    estimate = Usage(-(-input_characters // 4), -(-characters // 4), estimated=True)
    yield Finish(reason, usage or estimate, answered)


def decode_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """The `usage` object of an answer, None when there is none."""
    if not usage:
        return None
    inputs = usage.get("prompt_tokens_details") or {}
    outputs = usage.get("completion_tokens_details") or {}
    return Usage(
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        int(inputs.get("cached_tokens") or 0),
        int(outputs.get("reasoning_tokens") or 0),
    )


def _parse(data: str, provider: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProviderError(
            f"provider {provider!r} sent a chunk that is not JSON", provider=provider, retryable=True
        ) from error
    if not isinstance(chunk, dict):
        raise ProviderError(f"provider {provider!r} sent a chunk that is no object", provider=provider, retryable=True)
    return chunk
