"""Anthropic messages: request encoding and stream decoding.

Source: the Anthropic API reference for `POST /v1/messages` and its streaming events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    FilePart,
    Finish,
    FinishReason,
    ImagePart,
    Message,
    NativeDelta,
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
from interlock.gateway.failures import stream_error
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires._parts import (
    arguments_of,
    b64,
    cache_control,
    cannot,
    effort_of,
    extras,
    is_image,
    thinking_tokens,
)
from interlock.gateway.wires._shape import CallIndex, incomplete, parse, well_formed

__all__ = [
    "FILES_BETA",
    "NATIVE",
    "VERSION",
    "answer_tool",
    "betas_of",
    "decode_stream",
    "encode_request",
    "is_native",
    "uses_files",
]

VERSION = "2023-06-01"
"""Value of the `anthropic-version` header."""
FILES_BETA = "files-api-2025-04-14"
"""Value of the `anthropic-beta` header that a file id needs."""

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_API = "the messages API"
_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
NATIVE = frozenset({"container", "context_management", "inference_geo", "mcp_servers", "service_tier", "speed"})
"""Fields of a caller's own body that are passed on as they are."""
_NATIVE_BLOCKS = frozenset({"server_tool_use", "mcp_tool_use", "search_result", "container_upload"})
_LEAST_THINKING = 1024


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a streaming call. `max_tokens` is required on this wire, so the profile's limit stands in.

    Raises: InvalidInput: a part or a wish that this API has no field for; `param` names it.
    """
    body: dict[str, Any] = {
        **extras(request, "anthropic.messages", NATIVE),
        "model": model,
        "max_tokens": request.max_output_tokens or profile.max_output_tokens,
        "messages": _encode_turns(request.messages),
        "stream": True,
    }
    if system := _encode_system(request.messages):
        body["system"] = system
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.user_hint:
        body["metadata"] = {"user_id": request.user_hint}
    body |= _encode_tools(request)
    if request.response_schema is not None:
        body |= _encode_schema(request, profile)
    body |= _encode_thinking(request, profile, body)
    if "thinking" not in body and not profile.fixed_sampling:
        # This API refuses temperature together with top_p on newer models; temperature is what people set on purpose.
        if request.temperature is not None:
            body["temperature"] = min(request.temperature, 1.0)
        elif request.top_p is not None:
            body["top_p"] = request.top_p
        if request.top_k is not None:
            body["top_k"] = request.top_k
    return body


def answer_tool(request: ChatRequest, profile: ModelProfile) -> str | None:
    """The tool that stands for the answer, where a model has tools but no output format."""
    if request.response_schema and not profile.json_schema:
        return request.schema_name or "answer"
    return None


def betas_of(request: ChatRequest) -> list[str]:
    """Values of the header `anthropic-beta` that the caller sent, which its codec puts into the body."""
    found = extras(request, "anthropic.messages", {"anthropic_beta"}).get("anthropic_beta")
    return list(found) if isinstance(found, list) else []


def is_native(kind: str) -> bool:
    """True for a block that tells what a tool of the provider was asked or found, or that only this API can cite."""
    return kind in _NATIVE_BLOCKS or kind.endswith("_tool_result")


def uses_files(request: ChatRequest) -> bool:
    """True when a part names a file by its id."""
    return any(isinstance(part, FilePart) and part.file_id for message in request.messages for part in message.parts)


def _encode_system(messages: tuple[Message, ...]) -> str | list[dict[str, Any]]:
    parts = [part for message in messages if message.role == "system" for part in message.parts]
    if any(not isinstance(part, TextPart) for part in parts):
        raise cannot(_API, "system prompt but text")
    if any(isinstance(part, TextPart) and part.cache for part in parts):
        return [_encode_part(part) for part in parts if isinstance(part, TextPart) and part.text]
    return "\n\n".join(message.text for message in messages if message.role == "system" and message.text)


def _encode_tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    tools = [
        dict(tool.native)
        if tool.native is not None
        else {
            "name": tool.name,
            "description": tool.description,
            "input_schema": dict(tool.parameters),
            **({"strict": True} if tool.strict else {}),
            **cache_control(tool.cache),
        }
        for tool in request.tools
    ]
    kind = {"auto": "auto", "required": "any", "named": "tool", "none": "none"}[request.tool_choice.mode]
    choice: dict[str, Any] = {"type": kind, **({"name": request.tool_choice.name} if kind == "tool" else {})}
    if request.parallel_tool_calls is False and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": choice}


def _encode_schema(request: ChatRequest, profile: ModelProfile) -> dict[str, Any]:
    if not request.response_schema:
        raise InvalidInput(
            "this provider needs a JSON schema, not just 'any JSON object'",
            param="response_format",
            hint="use response_format.type = 'json_schema'",
        )
    schema = dict(request.response_schema)
    name = answer_tool(request, profile)
    if name is None:
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    if request.tools:
        raise cannot(_API, "tools together with a schema on this model", param="response_format")
    tool = {"name": name, "description": "Give the answer.", "input_schema": schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": name}}


def _encode_thinking(request: ChatRequest, profile: ModelProfile, body: Mapping[str, Any]) -> dict[str, Any]:
    if request.reasoning is None:
        return {}
    tokens = thinking_tokens(request.reasoning)
    # The API refuses to think before a tool that it is forced to call.
    forced = body.get("tool_choice", {}).get("type") in {"any", "tool"}
    if profile.thinking == "adaptive":
        effort = effort_of(request.reasoning)
        if not effort or effort == "none":
            return {}
        named = "low" if effort == "minimal" else effort
        wishes = {"output_config": {**body.get("output_config", {}), "effort": named}}
        shown = {"display": "summarized"} if request.reasoning.summary else {}
        return wishes if forced else {"thinking": {"type": "adaptive", **shown}, **wishes}
    if not tokens or forced:
        return {}
    room = body["max_tokens"] - 1
    if room < _LEAST_THINKING:
        if request.reasoning.budget_tokens is None:
            return {}
        raise InvalidInput(
            f"thinking needs max_tokens over {_LEAST_THINKING}", param="thinking", hint="raise max_tokens"
        )
    return {"thinking": {"type": "enabled", "budget_tokens": max(_LEAST_THINKING, min(tokens, room))}}


def _encode_turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts for block in _encode_block(part)]
        # Consecutive turns of one role (several tool results, say) must be one turn here.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _encode_block(part: Part) -> Iterator[dict[str, Any]]:
    if isinstance(part, TextPart) and not part.text:
        return  # an empty text block is an error here
    if isinstance(part, ReasoningPart):
        if part.origin == "anthropic" and part.signature:
            yield (
                {"type": "redacted_thinking", "data": part.signature}
                if part.redacted
                else {"type": "thinking", "thinking": part.text, "signature": part.signature}
            )
        return
    yield _encode_part(part)


def _encode_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            cited = {"citations": [dict(citation) for citation in part.citations]} if part.citations else {}
            return {"type": "text", "text": text, **cited, **cache_control(part.cache)}
        case NativePart():
            return dict(part.block)
        case ImagePart():
            source = _source(part.url, part.media_type, part.data)
            return {"type": "image", "source": source, **cache_control(part.cache)}
        case FilePart():
            return {**_encode_file(part), **cache_control(part.cache)}
        case ToolCallPart():
            call = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_of(part)}
            return {**call, **cache_control(part.cache)}
        case ToolResultPart():
            content = [_encode_part(item) for item in part.content if not isinstance(item, TextPart) or item.text]
            return {
                "type": "tool_result",
                "tool_use_id": part.call_id,
                "content": content,
                **({"is_error": True} if part.is_error else {}),
                **cache_control(part.cache),
            }
    raise cannot(_API, "thought there")


def _encode_file(part: FilePart) -> dict[str, Any]:
    kind = "image" if is_image(part) else "document"
    title = {"title": part.name} if kind == "document" and part.name else {}
    if part.file_id:
        return {"type": kind, "source": {"type": "file", "file_id": part.file_id}}
    if kind == "image" or part.url or part.media_type == "application/pdf":
        return {"type": kind, **title, "source": _source(part.url, part.media_type, part.data)}
    if part.media_type.startswith("text/") or part.media_type == "application/json":
        try:
            text = (part.data or b"").decode()
        except UnicodeDecodeError as error:
            raise InvalidInput("a text file is not UTF-8", param="messages") from error
        return {"type": "document", **title, "source": {"type": "text", "media_type": "text/plain", "data": text}}
    raise cannot(_API, f"file of type {part.media_type}", hint="send a PDF, text or an image")


def _source(url: str | None, media_type: str, data: bytes | None) -> dict[str, str]:
    if url:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": media_type, "data": b64(data)}


async def decode_stream(
    events: AsyncIterator[str], *, provider: str, model: str, answer_tool: str | None = None
) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of a message stream.

    Args:
        answer_tool: the tool whose arguments are the answer's text, from :func:`answer_tool`.

    Raises: ProviderError and its kin: malformed JSON, an error event, or an end without `message_stop`.
    """
    answer = _Answer(model, answer_tool)
    stopped = False
    with well_formed(provider):
        async for data in events:
            event = parse(data, provider)
            kind = event.get("type")
            if kind == "error":
                raise stream_error(provider, event.get("error"))
            if kind == "message_stop":
                stopped = True
                break
            for decoded in answer.take(event):
                yield decoded
        if not stopped:
            raise incomplete(provider, "message_stop")
        finish = answer.finish()
    yield finish


class _Answer:
    """What is known of an answer while its events come in."""

    def __init__(self, model: str, answer_tool: str | None) -> None:
        self._model = model
        self._answer_tool = answer_tool
        self._id: str | None = None
        self._usage: dict[str, Any] = {}
        self._stop: Mapping[str, Any] = {}
        self._calls = CallIndex()
        self._native: set[int] = set()
        """Blocks that are passed on as they come."""
        self._before = ""
        """Type of the block before."""
        self._quoting: set[object] = set()
        """Blocks whose arguments are the answer's text."""

    def take(self, event: Mapping[str, Any]) -> Iterator[ChatEvent]:
        """Events of one event."""
        at = int(event.get("index") or 0)
        match event.get("type"):
            case "message_start":
                message = event.get("message") or {}
                self._model = str(message.get("model") or self._model)
                self._id = message.get("id")
                self._count(message.get("usage") or {})
            case "content_block_start":
                yield from self._begin(at, event.get("content_block") or {})
            case "content_block_delta":
                yield from self._more(at, event.get("delta") or {})
            case "content_block_stop":
                yield from self._calls.end(at)
            case "message_delta":
                self._stop = {**self._stop, **(event.get("delta") or {})}
                self._count(event.get("usage") or {})

    def _count(self, usage: Mapping[str, Any]) -> None:
        self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _begin(self, at: int, block: Mapping[str, Any]) -> Iterator[ChatEvent]:
        before, self._before = self._before, str(block.get("type") or "")
        match block.get("type"):
            case "tool_use" if block.get("name") == self._answer_tool:
                self._quoting.add(at)
            case "tool_use":
                yield self._calls.begin(at, block.get("id"), block.get("name"))
            case "text":
                # Text with citations comes in many blocks, each with its own.
                if block.get("citations") is not None or before == "text":
                    yield NativeDelta("anthropic", at, block={**block, "text": ""})
                if block.get("text"):
                    yield TextDelta(str(block["text"]))
            case "redacted_thinking":
                yield ReasoningDelta("", "anthropic", at, signature=str(block.get("data") or ""), redacted=True)
            case str(kind) if is_native(kind):
                self._native.add(at)
                yield NativeDelta("anthropic", at, block=dict(block))

    def _more(self, at: int, delta: Mapping[str, Any]) -> Iterator[ChatEvent]:
        if at in self._native or delta.get("type") == "citations_delta":
            yield NativeDelta("anthropic", at, delta=dict(delta))
            return
        match delta.get("type"):
            case "text_delta":
                yield TextDelta(str(delta.get("text") or ""))
            case "thinking_delta":
                yield ReasoningDelta(str(delta.get("thinking") or ""), "anthropic", at)
            case "signature_delta":
                yield ReasoningDelta("", "anthropic", at, signature=str(delta.get("signature") or ""))
            case "input_json_delta":
                piece = str(delta.get("partial_json") or "")
                if at in self._quoting:
                    yield TextDelta(piece)
                elif piece:
                    yield self._calls.more(at, piece)

    def finish(self) -> Finish:
        """The last event."""
        usage = self._usage
        # On this wire input_tokens leaves out what was read from or written to the prompt cache; ours includes both.
        read = count_of(usage.get("cache_read_input_tokens"))
        written = count_of(usage.get("cache_creation_input_tokens"))
        counted = Usage(
            count_of(usage.get("input_tokens")) + read + written,
            count_of(usage.get("output_tokens")),
            read,
            count_of((usage.get("output_tokens_details") or {}).get("thinking_tokens")),
            cache_write_tokens=written,
        )
        word = self._stop.get("stop_reason") or ""
        reason = _REASONS.get(word, "stop")
        if self._quoting and reason == "tool_calls":
            reason = "stop"
        extra = {name: usage[name] for name in ("service_tier", "cache_creation", "server_tool_use") if usage.get(name)}
        if word in {"pause_turn", "model_context_window_exceeded"}:
            extra["stop_reason"] = word
        return Finish(
            reason,
            counted,
            self._model,
            stop_sequence=self._stop.get("stop_sequence"),
            response_id=self._id,
            extra=extra,
        )
