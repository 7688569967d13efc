"""OpenAI chat completions: request encoding, response and stream decoding.

Source: the OpenAI API reference for `POST /v1/chat/completions`. Unknown fields of answers are ignored. Servers that
speak it differ in details, which are data: :class:`interlock.gateway.presets.Quirks`.
"""

from __future__ import annotations

import json
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
    ToolSpec,
    Usage,
    count_of,
)
from interlock.gateway.failures import stream_error
from interlock.gateway.presets import Quirks
from interlock.gateway.types import ModelProfile
from interlock.gateway.wires._parts import (
    b64,
    cache_control,
    cannot,
    data_url,
    describe,
    effort_of,
    extras,
    is_image,
    thinking_tokens,
)
from interlock.gateway.wires._shape import CallIndex, incomplete, parse, well_formed

__all__ = ["NATIVE", "decode_stream", "decode_usage", "encode_request", "encode_tool", "response_format"]

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_API = "this chat API"
_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
}
_BROKEN = {"error", "insufficient_system_resource", "network_error"}
NATIVE = frozenset(
    {
        "audio", "logit_bias", "logprobs", "metadata", "modalities", "prediction", "prompt_cache_key",
        "prompt_cache_retention", "safety_identifier", "service_tier", "store", "top_logprobs", "verbosity",
        "web_search_options",
        # Compatible servers: sampling, guided decoding, routing.
        "chat_template_kwargs", "enable_thinking", "frequency_penalty_range", "grammar", "guided_choice",
        "guided_grammar", "guided_json", "guided_regex", "ignore_eos", "length_penalty", "min_p", "min_tokens",
        "mirostat", "mirostat_eta", "mirostat_tau", "models", "plugins", "prompt_mode", "provider", "reasoning",
        "reasoning_format", "regex", "repeat_penalty", "repetition_penalty", "safe_prompt", "search_parameters",
        "skip_special_tokens", "stop_token_ids", "structured_outputs", "thinking", "top_a", "transforms",
        "truncate_prompt_tokens", "typical_p", "use_beam_search",
    }
)  # fmt: skip
"""Fields of a caller's own body that are passed on as they are."""


def encode_request(
    request: ChatRequest, model: str, profile: ModelProfile, quirks: Quirks | None = None
) -> dict[str, Any]:
    """JSON body of a streaming call that reports its usage.

    Raises: InvalidInput: a part or a wish that this server has no field for; `param` names it.
    """
    quirks = quirks or Quirks()
    body: dict[str, Any] = extras(request, "openai.chat", NATIVE)
    if "metadata" in body and not body.get("store"):
        # OpenAI refuses labels on answers that it does not store.
        del body["metadata"]
    if request.logprobs is not None:
        body["logprobs"] = True
        if request.logprobs:
            body["top_logprobs"] = request.logprobs
    body |= {"model": model, "messages": _encode_turns(request.messages, profile, quirks), "stream": True}
    if quirks.stream_options:
        body["stream_options"] = {"include_usage": True}
    if request.max_output_tokens is not None:
        body[quirks.output_token_field or profile.output_token_field] = request.max_output_tokens
    sampling = {"temperature": request.temperature, "top_p": request.top_p}
    sampling |= {"frequency_penalty": request.frequency_penalty, "presence_penalty": request.presence_penalty}
    if not profile.fixed_sampling:
        body |= {name: value for name, value in sampling.items() if value is not None}
    if request.top_k is not None and quirks.top_k:
        body["top_k"] = request.top_k
    if request.seed is not None and quirks.seed:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.user_hint and quirks.user:
        body["user"] = request.user_hint
    if request.tags and body.get("store"):
        body["metadata"] = dict(request.tags)
    body |= _encode_tools(request, quirks)
    body |= _encode_reasoning(request, quirks)
    if request.response_schema is not None:
        if request.response_schema and not quirks.json_schema:
            raise cannot(_API, "JSON schema", param="response_format", hint="use response_format.type = 'json_object'")
        body["response_format"] = response_format(request)
    return body


def response_format(request: ChatRequest) -> dict[str, Any]:
    """`response_format` of a request that wants JSON."""
    if not request.response_schema:
        return {"type": "json_object"}
    schema = {
        "name": request.schema_name or "answer",
        "schema": dict(request.response_schema),
        "strict": request.schema_strict,
    }
    return {"type": "json_schema", "json_schema": schema}


def encode_tool(tool: ToolSpec) -> dict[str, Any]:
    """One function."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": {**function, **({"strict": True} if tool.strict else {})}}


def _encode_tools(request: ChatRequest, quirks: Quirks) -> dict[str, Any]:
    if not request.tools:
        return {}
    if not quirks.tools:
        raise cannot(_API, "tools", param="tools")
    tools = [
        {**encode_tool(tool), **(cache_control(tool.cache) if quirks.cache_marks else {})} for tool in request.tools
    ]
    choice = request.tool_choice
    named = {"type": "function", "function": {"name": choice.name}}
    fields: dict[str, Any] = {"tools": tools, "tool_choice": named if choice.mode == "named" else choice.mode}
    if request.parallel_tool_calls is not None and quirks.parallel_tool_calls:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields


def _encode_reasoning(request: ChatRequest, quirks: Quirks) -> dict[str, Any]:
    if request.reasoning is None:
        return {}
    effort = effort_of(request.reasoning)
    thinks = thinking_tokens(request.reasoning) != 0
    match quirks.reasoning:
        case "effort":
            return {"reasoning_effort": effort} if effort else {}
        case "object":
            if request.reasoning.budget_tokens is not None:
                return {"reasoning": {"max_tokens": request.reasoning.budget_tokens}}
            return {"reasoning": {"effort": effort}} if effort else {}
        case "thinking":
            return {"thinking": {"type": "enabled" if thinks else "disabled"}}
        case "template":
            return {"chat_template_kwargs": {"enable_thinking": thinks}}
    return {}


def _encode_turns(messages: tuple[Message, ...], profile: ModelProfile, quirks: Quirks) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    """Images and files of tool results: they follow in a user turn, because a tool turn takes only text."""
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        others = tuple(part for part in message.parts if not isinstance(part, ToolResultPart))
        for result in results:
            shown += [_encode_part(item, quirks) for item in result.content if not isinstance(item, TextPart)]
            text = "".join(item.text for item in result.content if isinstance(item, TextPart))
            turns.append({"role": "tool", "tool_call_id": result.call_id, "content": text})
        if results and not others:
            continue
        if shown:
            turns.append({"role": "user", "content": shown})
            shown = []
        role = "user" if message.role == "tool" else message.role
        turns.append(_encode_turn(Message(role, others, message.name), profile, quirks))
    if shown:
        turns.append({"role": "user", "content": shown})
    return turns


def _encode_turn(message: Message, profile: ModelProfile, quirks: Quirks) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": "user" if message.role == "system" and not profile.system_role else message.role}
    if message.name:
        turn["name"] = message.name
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    thoughts = [part for part in message.parts if isinstance(part, ReasoningPart) and part.origin == "openai"]
    content = [part for part in message.parts if not isinstance(part, (ToolCallPart, ReasoningPart))]
    marked = quirks.cache_marks and any(getattr(part, "cache", None) for part in content)
    if not marked and all(isinstance(part, TextPart) for part in content):
        turn["content"] = message.text if content or not calls else None
    else:
        turn["content"] = [_encode_part(part, quirks) for part in content]
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    if quirks.reasoning_field and (text := "".join(thought.text for thought in thoughts)):
        turn[quirks.reasoning_field] = text
    return turn


def _encode_part(part: Part, quirks: Quirks) -> dict[str, Any]:
    match part:
        case TextPart(text):
            marks = cache_control(part.cache) if quirks.cache_marks else {}
            return {"type": "text", "text": text, **marks}
        case ImagePart():
            image = {"url": part.url or data_url(part.media_type, part.data)}
            marks = cache_control(part.cache) if quirks.cache_marks else {}
            return {
                "type": "image_url",
                "image_url": {**image, **({"detail": part.detail} if part.detail else {})},
                **marks,
            }
        case FilePart():
            return _encode_file(part, quirks)
    raise cannot(_API, f"{describe(part)} there")


def _encode_file(part: FilePart, quirks: Quirks) -> dict[str, Any]:
    if part.file_id:
        return {"type": "file", "file": {"file_id": part.file_id}}
    kind = part.media_type.partition("/")[0]
    if is_image(part):
        return {"type": "image_url", "image_url": {"url": part.url or data_url(part.media_type, part.data)}}
    if part.url:
        if not quirks.media_urls:
            raise cannot(_API, "file by URL", hint="send its bytes")
        if kind in {"audio", "video"}:
            return {"type": f"{kind}_url", f"{kind}_url": {"url": part.url}}
        return {"type": "file", "file": {"filename": part.name, "file_data": part.url}}
    if kind == "audio":
        sound = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}
        if part.media_type not in sound:
            raise cannot(_API, f"audio of type {part.media_type}", hint="send wav or mp3")
        return {"type": "input_audio", "input_audio": {"data": b64(part.data), "format": sound[part.media_type]}}
    if kind == "video":
        if not quirks.media_urls:
            raise cannot(_API, "video")
        return {"type": "video_url", "video_url": {"url": data_url(part.media_type, part.data)}}
    return {"type": "file", "file": {"filename": part.name, "file_data": data_url(part.media_type, part.data)}}


async def decode_stream(
    events: AsyncIterator[str], *, provider: str, model: str, input_characters: int = 0
) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of an answer stream, ``[DONE]`` included.

    Args:
        input_characters: of the prompt, to estimate from when the provider sends no usage.

    The usage arrives after the finish reason, in a chunk without choices, so Finish is held back to the end.
    Raises: ProviderError: malformed JSON, an error object in the stream, or an end without a finish reason.
    """
    answer = _Answer(model)
    with well_formed(provider):
        async for data in events:
            if data == "[DONE]":
                break
            chunk = parse(data, provider)
            if chunk.get("error"):
                raise stream_error(provider, chunk["error"])
            for event in answer.take(chunk, provider):
                yield event
        if answer.reason is None:
            raise incomplete(provider)
        for event in answer.calls.end_all():
            yield event
    # Four characters a token is the usual rule of thumb; the figure is marked as an estimate wherever it is shown.
    estimate = Usage(-(-input_characters // 4), -(-answer.characters // 4), estimated=True)
    reason = "tool_calls" if answer.reason == "stop" and len(answer.calls) else answer.reason
    yield Finish(
        reason,
        answer.usage or estimate,
        answer.model,
        stop_sequence=answer.stop_sequence,
        response_id=answer.id,
        extra=answer.extra,
    )


class _Answer:
    """What is known of an answer while its chunks come in."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.id: str | None = None
        self.reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.stop_sequence: str | None = None
        self.extra: dict[str, Any] = {}
        self.characters = 0
        self.calls = CallIndex()
        self._ids: dict[int, str] = {}
        self._current: dict[int, int] = {}
        """Number on the wire -> the call it means now."""
        self._thought = 0
        self._thinking = False

    def take(self, chunk: Mapping[str, Any], provider: str) -> Iterator[ChatEvent]:
        """Events of one chunk."""
        self.model = str(chunk.get("model") or self.model)
        self.id = self.id or (str(chunk["id"]) if chunk.get("id") else None)
        self.extra |= {
            name: chunk[name] for name in ("system_fingerprint", "service_tier", "citations") if chunk.get(name)
        }
        self.usage = decode_usage(chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")) or self.usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # `n` is not asked for
            yield from self._delta(choice.get("delta") or choice.get("message") or {}, choice.get("logprobs"))
            self.usage = decode_usage(choice.get("usage")) or self.usage
            if isinstance(choice.get("stop_reason"), str):
                self.stop_sequence = choice["stop_reason"]
            if word := choice.get("finish_reason"):
                if word in _BROKEN:
                    raise ProviderError(
                        f"provider {provider!r} broke off its answer ({word})", provider=provider, retryable=True
                    )
                self.reason = _REASONS.get(word, "stop")

    def _delta(self, delta: Mapping[str, Any], logprobs: Any) -> Iterator[ChatEvent]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            yield self._thinks(thought)
        content = delta.get("content")
        for piece in content if isinstance(content, list) else ():
            # Mistral and a few others send parts instead of text.
            if piece.get("type") == "thinking":
                inner = piece.get("thinking") or ""
                text = inner if isinstance(inner, str) else "".join(str(item.get("text") or "") for item in inner)
                yield self._thinks(text)
            elif piece.get("text"):
                yield self._says(str(piece["text"]), None)
        text = content if isinstance(content, str) else ""
        if text or logprobs:
            yield self._says(text, logprobs)
        if refusal := delta.get("refusal"):
            self.characters += len(refusal)
            yield TextDelta(str(refusal), refusal=True)
        if audio := delta.get("audio"):
            # A canonical answer has no place for sound: its words are the text, its bytes go along at the end.
            held = self.extra.setdefault("audio", {"data": ""})
            held |= {name: audio[name] for name in ("id", "expires_at") if audio.get(name)}
            held["data"] += str(audio.get("data") or "")
            if audio.get("transcript"):
                yield self._says(str(audio["transcript"]), None)
        for position, call in enumerate(delta.get("tool_calls") or ()):
            yield from self._call(call, position)

    def _thinks(self, text: str) -> ReasoningDelta:
        self._thinking = True
        self.characters += len(text)
        return ReasoningDelta(text, "openai", self._thought)

    def _says(self, text: str, logprobs: Any) -> TextDelta:
        if self._thinking:
            self._thinking = False
            self._thought += 1
        self.characters += len(text)
        return TextDelta(text, logprobs if isinstance(logprobs, dict) else None)

    def _call(self, call: Mapping[str, Any], position: int) -> Iterator[ChatEvent]:
        function = call.get("function") or {}
        call_id = call.get("id")
        given = int(call["index"]) if call.get("index") is not None else self._unnumbered(call_id, position)
        key = self._current.get(given, given)
        known = self._ids.get(key)
        if call_id and known and known != call_id and function.get("name"):
            # Some servers number every call 0; a new id with a name is a new call.
            key = self._current[given] = max(self._ids) + 1
        if key not in self.calls:
            self._ids[key] = str(call_id or "")
            yield self.calls.begin(key, call_id, function.get("name"))
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        if arguments:
            self.characters += len(arguments)
            yield self.calls.more(key, arguments)

    def _unnumbered(self, call_id: object, position: int) -> int:
        for key, known in self._ids.items():
            if call_id and known == call_id:
                return key
        return max(self._ids, default=-1) + 1 if call_id else max(self._ids, default=position)


def decode_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """The `usage` object of an answer, None when there is none."""
    if not usage:
        return None
    inputs = usage.get("prompt_tokens_details") or {}
    outputs = usage.get("completion_tokens_details") or {}
    prompt = count_of(usage.get("prompt_tokens"))
    completion = count_of(usage.get("completion_tokens"))
    reasoning = int(outputs.get("reasoning_tokens") or usage.get("reasoning_tokens") or 0)
    if reasoning and count_of(usage.get("total_tokens")) == prompt + completion + reasoning:
        # xAI counts the thoughts beside the answer; ours includes them.
        completion += reasoning
    cached = inputs.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or usage.get("cached_tokens") or 0
    return Usage(
        prompt,
        completion,
        int(cached),
        reasoning,
        cache_write_tokens=count_of(inputs.get("cache_write_tokens") or inputs.get("cache_creation_tokens")),
    )
