"""OpenAI responses: request encoding and stream decoding.

Source: the OpenAI API reference for `POST /v1/responses` and its streaming events. Nothing is stored at the provider
unless the caller asked for it, so thoughts travel with us in their encrypted form.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

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
from interlock.gateway.wires._parts import cannot, data_url, describe, effort_of, extras, is_image
from interlock.gateway.wires._shape import CallIndex, incomplete, parse, well_formed

__all__ = ["NATIVE", "decode_stream", "encode_request"]

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_API = "the responses API"
NATIVE = frozenset(
    {
        "include", "max_tool_calls", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
        "service_tier", "store", "top_logprobs", "truncation",
    }
)  # fmt: skip
"""Fields of a caller's own body that are passed on as they are."""
_LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED = "reasoning.encrypted_content"


def encode_request(request: ChatRequest, model: str, profile: ModelProfile) -> dict[str, Any]:
    """JSON body of a streaming call.

    Raises: InvalidInput: a part or a wish that this API has no field for (stop sequences, say); `param` names it.
    """
    if request.stop:
        raise cannot(_API, "stop sequences", param="stop", hint="use the chat API: gateway.providers.*.api = chat")
    native = extras(request, "openai.responses", NATIVE)
    body: dict[str, Any] = {"store": False, **native, "model": model, "stream": True}
    likely = [] if request.logprobs is None else [_LOGPROBS]
    body["include"] = list(dict.fromkeys([*native.get("include", ()), *likely, _ENCRYPTED]))
    if request.logprobs:
        body["top_logprobs"] = request.logprobs
    body["input"] = [item for message in request.messages for item in _encode_message(message)]
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if not profile.fixed_sampling:
        for name, value in (("temperature", request.temperature), ("top_p", request.top_p)):
            if value is not None:
                body[name] = value
    if request.user_hint:
        body["user"] = request.user_hint
    if request.tags:
        body["metadata"] = dict(request.tags)
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
                "strict": tool.strict,
            }
            for tool in request.tools
        ]
        choice = request.tool_choice
        body["tool_choice"] = {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.reasoning is not None:
        wishes = {"effort": effort_of(request.reasoning), "summary": request.reasoning.summary}
        body["reasoning"] = {name: value for name, value in wishes.items() if value}
    if text := _encode_text(request):
        body["text"] = text
    return body


def _encode_text(request: ChatRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.native is not None and request.native.wire == "openai.responses":
        wished = request.native.body.get("text")
        if isinstance(wished, Mapping) and wished.get("verbosity"):
            fields["verbosity"] = wished["verbosity"]
    if request.response_schema is None:
        return fields
    if not request.response_schema:
        return {**fields, "format": {"type": "json_object"}}
    schema = {"type": "json_schema", "name": request.schema_name or "answer", "strict": request.schema_strict}
    return {**fields, "format": {**schema, "schema": dict(request.response_schema)}}


def _encode_message(message: Message) -> Iterator[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    role = "user" if message.role == "tool" else message.role

    def spoken() -> Iterator[dict[str, Any]]:
        if content:
            yield {"type": "message", "role": role, "content": list(content)}
            content.clear()

    for part in message.parts:
        match part:
            case ToolCallPart():
                yield from spoken()
                call = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
                yield {"type": "function_call", **call}
            case ToolResultPart():
                yield from spoken()
                only_text = all(isinstance(item, TextPart) for item in part.content)
                text = "".join(item.text for item in part.content if isinstance(item, TextPart))
                output = text if only_text else [_encode_part(item, "user") for item in part.content]
                yield {"type": "function_call_output", "call_id": part.call_id, "output": output}
            case ReasoningPart():
                # Only what this API sealed itself goes back to it.
                if part.origin == "openai" and part.signature:
                    yield from spoken()
                    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
                    item = {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}
                    yield {**item, **({"id": part.id} if part.id else {})}
            case _:
                content.append(_encode_part(part, role))
    yield from spoken()


def _encode_part(part: Part, role: str) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        case ImagePart():
            url = part.url or data_url(part.media_type, part.data)
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case FilePart():
            if is_image(part):
                image = (
                    {"file_id": part.file_id}
                    if part.file_id
                    else {"image_url": part.url or data_url(part.media_type, part.data)}
                )
                return {"type": "input_image", "detail": "auto", **image}
            if part.file_id:
                return {"type": "input_file", "file_id": part.file_id}
            if part.media_type.partition("/")[0] in {"audio", "video"}:
                raise cannot(_API, part.media_type.partition("/")[0])
            if part.url:
                return {"type": "input_file", "file_url": part.url}
            return {"type": "input_file", "filename": part.name, "file_data": data_url(part.media_type, part.data)}
    raise cannot(_API, f"{describe(part)} there")


async def decode_stream(events: AsyncIterator[str], *, provider: str, model: str) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of a response stream.

    Raises: ProviderError and its kin: malformed JSON, an error event, or an end without a final response.
    """
    calls = CallIndex()
    final: dict[str, Any] | None = None
    with well_formed(provider):
        async for data in events:
            event = parse(data, provider)
            kind = event.get("type")
            if kind in {"response.completed", "response.incomplete"}:
                final = event["response"]
                break
            if kind == "response.failed":
                raise stream_error(provider, (event.get("response") or {}).get("error"))
            if kind == "error" or (kind is None and event.get("error")):
                raise stream_error(provider, event.get("error") or event)
            for decoded in _decode(event, calls):
                yield decoded
        if final is None:
            raise incomplete(provider, "a final response")
        finish = _finish(final, calls, model)
    yield finish


def _decode(event: Mapping[str, Any], calls: CallIndex) -> Iterator[ChatEvent]:
    place = event.get("output_index") or 0
    item = event.get("item") or {}
    match event.get("type"):
        case "response.output_text.delta":
            logprobs = event.get("logprobs")
            yield TextDelta(str(event["delta"]), {"content": logprobs} if logprobs else None)
        case "response.refusal.delta":
            yield TextDelta(str(event["delta"]), refusal=True)
        case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
            yield ReasoningDelta(str(event["delta"]), "openai", int(place))
        case "response.reasoning_summary_part.added":
            if event.get("summary_index"):
                yield ReasoningDelta("\n\n", "openai", int(place))
        case "response.output_item.added":
            if item.get("type") == "function_call":
                yield calls.begin(place, item.get("call_id"), item.get("name"))
        case "response.function_call_arguments.delta":
            yield calls.more(place, str(event["delta"]))
        case "response.output_item.done":
            if item.get("type") == "function_call":
                yield from calls.end(place)
            elif item.get("type") == "reasoning":
                sealed = item.get("encrypted_content")
                yield ReasoningDelta(
                    "",
                    "openai",
                    int(place),
                    signature=str(sealed) if sealed else None,
                    id=str(item["id"]) if item.get("id") else None,
                )


def _finish(final: Mapping[str, Any], calls: CallIndex, model: str) -> Finish:
    why = (final.get("incomplete_details") or {}).get("reason")
    reason: FinishReason = "tool_calls" if len(calls) else "stop"
    if final.get("status") == "incomplete" or why:
        reason = "content_filter" if why == "content_filter" else "length"
    usage = final.get("usage") or {}
    inputs = usage.get("input_tokens_details") or {}
    outputs = usage.get("output_tokens_details") or {}
    return Finish(
        reason,
        Usage(
            count_of(usage.get("input_tokens")),
            count_of(usage.get("output_tokens")),
            count_of(inputs.get("cached_tokens")),
            count_of(outputs.get("reasoning_tokens")),
        ),
        str(final.get("model") or model),
        response_id=str(final["id"]) if final.get("id") else None,
        extra={name: final[name] for name in ("service_tier",) if final.get(name)},
    )
