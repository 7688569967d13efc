"""Amazon Bedrock's Converse: request encoding and stream decoding.

Source: the API reference of `ConverseStream` in Amazon Bedrock Runtime.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

from interlock.core.messages import (
    CacheTtl,
    ChatEvent,
    ChatRequest,
    FilePart,
    Finish,
    FinishReason,
    ImagePart,
    Message,
    NativePart,
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
from interlock.gateway.clouds.eventstream import Frame
from interlock.gateway.failures import stream_error
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires._parts import arguments_of, b64, cannot, describe, effort_of, thinking_tokens
from interlock.gateway.wires._shape import CallIndex, incomplete, parse, well_formed

__all__ = ["decode_stream", "encode_request"]

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_API = "Bedrock's Converse"
_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_VIDEOS = {"video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov", "video/x-matroska": "mkv"}
_STATUS = {
    "throttlingException": 429,
    "validationException": 400,
    "modelStreamErrorException": 424,
    "modelTimeoutException": 408,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
_LEAST_THINKING = 1024


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a call; the model stands in the address.

    Raises: InvalidInput: a part or a wish that this API has no field for; `param` names it.
    """
    body: dict[str, Any] = {"messages": _encode_turns(request.messages)}
    system = [block for m in request.messages if m.role == "system" for p in m.parts for block in _encode_block(p)]
    if system:
        body["system"] = system
    claude = "anthropic." in model or "claude" in model
    values: dict[str, Any] = {"maxTokens": request.max_output_tokens, "stopSequences": list(request.stop) or None}
    thinking = _encode_thinking(request, profile) if claude else {}
    if not profile.fixed_sampling and "thinking" not in thinking:
        values |= {"temperature": request.temperature}
        # Claude refuses the two together.
        if not claude or request.temperature is None:
            values |= {"topP": request.top_p}
        if request.top_k is not None:
            thinking["top_k"] = request.top_k
    if config := {name: value for name, value in values.items() if value is not None}:
        body["inferenceConfig"] = config
    if thinking:
        body["additionalModelRequestFields"] = thinking
    if claude and request.stop:
        body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
    if tools := _encode_tools(request):
        body["toolConfig"] = tools
    if request.response_schema is not None:
        body["outputConfig"] = {"textFormat": _encode_schema(request)}
    if request.tags:
        body["requestMetadata"] = dict(request.tags)
    return body


def _encode_schema(request: ChatRequest) -> dict[str, Any]:
    if not request.response_schema:
        raise cannot(
            _API, "'any JSON object'", param="response_format", hint="use response_format.type = 'json_schema'"
        )
    schema = {"name": request.schema_name or "answer", "schema": json.dumps(dict(request.response_schema))}
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _encode_thinking(request: ChatRequest, profile: ModelProfile) -> dict[str, Any]:
    if request.reasoning is None:
        return {}
    forced = bool(request.tools) and request.tool_choice.mode in {"required", "named"}
    if profile.thinking == "adaptive":
        effort = effort_of(request.reasoning)
        if not effort or effort == "none":
            return {}
        wishes = {"output_config": {"effort": "low" if effort == "minimal" else effort}}
        return wishes if forced else {"thinking": {"type": "adaptive"}, **wishes}
    tokens = thinking_tokens(request.reasoning)
    room = (request.max_output_tokens or profile.max_output_tokens) - 1
    if not tokens or room < _LEAST_THINKING or forced:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": max(_LEAST_THINKING, min(tokens, room))}}


def _encode_tools(request: ChatRequest) -> dict[str, Any]:
    # A history with calls must come with its tools, and there is no "none" here: the model may call all the same.
    called = any(isinstance(p, (ToolCallPart, ToolResultPart)) for m in request.messages for p in m.parts)
    if not request.tools or (request.tool_choice.mode == "none" and not called):
        return {}
    tools: list[dict[str, Any]] = []
    for tool in request.tools:
        described = {"description": tool.description} if tool.description else {}
        strict = {"strict": True} if tool.strict else {}
        spec = {"name": tool.name, **described, "inputSchema": {"json": dict(tool.parameters)}, **strict}
        tools += [{"toolSpec": spec}, *_cache_point(tool.cache)]
    match request.tool_choice.mode:
        case "required":
            return {"tools": tools, "toolChoice": {"any": {}}}
        case "named":
            return {"tools": tools, "toolChoice": {"tool": {"name": request.tool_choice.name}}}
    return {"tools": tools}


def _encode_turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts for block in _encode_block(part)]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _cache_point(cache: CacheTtl | None) -> list[dict[str, Any]]:
    if cache is None:
        return []
    return [{"cachePoint": {"type": "default", **({"ttl": cache} if cache != "5m" else {})}}]


def _encode_block(part: Part) -> Iterator[dict[str, Any]]:
    match part:
        case TextPart():
            if not part.text:
                return  # an empty text block is an error here
            yield {"text": part.text}
        case ReasoningPart():
            if part.origin == "bedrock" and part.redacted:
                yield {"reasoningContent": {"redactedContent": part.signature}}
            elif part.origin == "bedrock" and (part.text or part.signature):
                proof = {"signature": part.signature} if part.signature else {}
                yield {"reasoningContent": {"reasoningText": {"text": part.text, **proof}}}
            return
        case ToolCallPart():
            yield {"toolUse": {"toolUseId": part.id, "name": part.name, "input": arguments_of(part)}}
        case ToolResultPart():
            content = [block for item in part.content for block in _encode_block(item) if "cachePoint" not in block]
            result = {"toolUseId": part.call_id, "content": content or [{"text": "(nothing)"}]}
            yield {"toolResult": {**result, **({"status": "error"} if part.is_error else {})}}
        case ImagePart():
            yield _encode_image(part.media_type, part.url, part.data)
        case FilePart():
            yield _encode_file(part)
        case NativePart():
            raise cannot(_API, describe(part), param=part.param)
    yield from _cache_point(part.cache)


def _encode_image(media_type: str, url: str | None, data: bytes | None) -> dict[str, Any]:
    if media_type not in _IMAGES and not url:
        raise cannot(_API, f"image of type {media_type}", hint="send PNG, JPEG, GIF or WebP")
    return {"image": {"format": _IMAGES.get(media_type, "jpeg"), "source": _source(url, data, "image")}}


def _encode_file(part: FilePart) -> dict[str, Any]:
    if part.file_id:
        raise cannot(_API, "file by id", hint="send its bytes")
    if part.media_type.startswith("image/"):
        return _encode_image(part.media_type, part.url, part.data)
    source = _source(part.url, part.data, "file")
    if part.media_type in _VIDEOS:
        return {"video": {"format": _VIDEOS[part.media_type], "source": source}}
    if part.media_type not in _DOCUMENTS:
        raise cannot(_API, f"file of type {part.media_type}")
    # Letters, digits, spaces, hyphens and brackets are all that a name may hold.
    name = re.sub(r"\s+", " ", re.sub(r"[^A-Za-z0-9 \-()\[\]]", " ", part.name.rpartition(".")[0] or part.name)).strip()
    return {"document": {"format": _DOCUMENTS[part.media_type], "name": name[:200] or "file", "source": source}}


def _source(url: str | None, data: bytes | None, what: str) -> dict[str, Any]:
    if url and url.startswith("s3://"):
        return {"s3Location": {"uri": url}}
    if url:
        raise cannot(_API, f"{what} by URL", hint="send its bytes, or an s3:// address")
    return {"bytes": b64(data)}


async def decode_stream(frames: AsyncIterator[Frame], *, provider: str, model: str) -> AsyncGenerator[ChatEvent, None]:
    """Decode the frames of an answer stream. The usage comes last, in a frame after the stop reason.

    Raises: ProviderError and its kin: malformed JSON, an exception frame, or an end without a stop reason.
    """
    calls = CallIndex()
    stop: dict[str, Any] | None = None
    usage: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    with well_formed(provider):
        async for frame in frames:
            kind = frame.header(":message-type")
            event = frame.header(":event-type")
            if kind == "exception":
                name = frame.header(":exception-type")
                said = parse(frame.payload, provider) if frame.payload else {}
                raise stream_error(
                    provider, {"code": name, "message": said.get("message")}, status=_STATUS.get(name, 500)
                )
            if kind == "error":
                raise stream_error(provider, {"code": frame.header(":error-code")})
            found = parse(frame.payload, provider)
            if event == "messageStop":
                stop = found
            elif event == "metadata":
                usage = found.get("usage") or {}
                extra |= {name: found[name] for name in ("serviceTier", "trace") if found.get(name)}
            else:
                for decoded in _decode(event, found, calls):
                    yield decoded
        if stop is None:
            raise incomplete(provider, "a stop reason")
        yield _finish(stop, usage, extra, model)


def _decode(event: str, found: Mapping[str, Any], calls: CallIndex) -> Iterator[ChatEvent]:
    at = int(found.get("contentBlockIndex") or 0)
    match event:
        case "contentBlockStart":
            if use := (found.get("start") or {}).get("toolUse"):
                yield calls.begin(at, use.get("toolUseId"), use.get("name"))
        case "contentBlockDelta":
            delta = found.get("delta") or {}
            if delta.get("text"):
                yield TextDelta(str(delta["text"]))
            if use := delta.get("toolUse"):
                yield calls.more(at, str(use.get("input") or ""))
            if thought := delta.get("reasoningContent"):
                sealed = thought.get("redactedContent")
                yield ReasoningDelta(
                    str(thought.get("text") or ""),
                    "bedrock",
                    at,
                    signature=str(sealed or thought.get("signature") or "") or None,
                    redacted=bool(sealed),
                )
        case "contentBlockStop":
            yield from calls.end(at)


def _finish(stop: Mapping[str, Any], usage: Mapping[str, Any], extra: dict[str, Any], model: str) -> Finish:
    # Like Anthropic's, these input tokens leave out what was read from or written to the prompt cache.
    read = count_of(usage.get("cacheReadInputTokens"))
    written = count_of(usage.get("cacheWriteInputTokens"))
    counted = Usage(
        count_of(usage.get("inputTokens")) + read + written,
        count_of(usage.get("outputTokens")),
        read,
        cache_write_tokens=written,
    )
    word = str(stop.get("stopReason") or "")
    more = stop.get("additionalModelResponseFields") or {}
    if word == "guardrail_intervened":
        extra["stop_reason"] = word
    return Finish(_REASONS.get(word, "stop"), counted, model, stop_sequence=more.get("stop_sequence"), extra=extra)
