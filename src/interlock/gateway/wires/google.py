"""Google's generateContent, for the Gemini API and Vertex AI: request encoding and stream decoding.

Source: the reference of `models.streamGenerateContent` with `alt=sse`, Gemini API and Vertex AI. Proofs of thought
(`thoughtSignature`) stand on the part they belong to: on a call they travel with the call, elsewhere as a thought.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import replace
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
from interlock.gateway.wires._parts import arguments_of, b64, cannot, effort_of, extras, thinking_tokens
from interlock.gateway.wires._shape import CallIndex, incomplete, parse, well_formed

__all__ = ["NATIVE", "decode_stream", "encode_count", "encode_request"]

# Any in this module: decoded JSON of a foreign service, narrowed field by field.
_API = "generateContent"
_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR",
        ),
        "content_filter",
    ),
}  # fmt: skip
_BROKEN = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"}
NATIVE = frozenset({"cachedContent", "labels", "safetySettings", "serviceTier", "store"})
"""Fields of a caller's own body that are passed on as they are."""
_NATIVE_CONFIG = frozenset({"audioTimestamp", "mediaResolution", "responseModalities", "speechConfig"})
_LEVELS = {"none": "minimal", "xhigh": "high"}
_OUR_ID = "call_il_"


def encode_request(request: ChatRequest, model: str, profile: ModelProfile, *, vertex: bool = False) -> dict[str, Any]:
    """JSON body of a call; the model stands in the address.

    Args:
        vertex: Vertex takes labels, and no ids of calls.

    Raises: InvalidInput: a part that this API has no field for; `param` names it.
    """
    body: dict[str, Any] = extras(request, "google.generate", NATIVE)
    body["contents"] = _encode_contents(request.messages, with_ids=not vertex)
    system = [part for message in request.messages if message.role == "system" for part in message.parts]
    if system:
        body["systemInstruction"] = {"parts": [_encode_part(part) for part in system]}
    if config := _encode_config(request, profile):
        body["generationConfig"] = config
    if request.tools:
        functions = [
            {"name": tool.name, "description": tool.description, "parametersJsonSchema": dict(tool.parameters)}
            for tool in request.tools
        ]
        mode = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}[request.tool_choice.mode]
        names = {"allowedFunctionNames": [request.tool_choice.name]} if request.tool_choice.mode == "named" else {}
        body["tools"] = [{"functionDeclarations": functions}]
        body["toolConfig"] = {"functionCallingConfig": {"mode": mode, **names}}
    if vertex and request.tags:
        body["labels"] = {**dict(request.tags), **body.get("labels", {})}
    return body


def encode_count(request: ChatRequest, model: str, profile: ModelProfile, *, vertex: bool = False) -> dict[str, Any]:
    """JSON body of `countTokens`."""
    body = encode_request(request, model, profile, vertex=vertex)
    if vertex:
        return {name: body[name] for name in ("contents", "systemInstruction", "tools") if name in body}
    return {"generateContentRequest": {"model": f"models/{model}", **body}}


def _encode_config(request: ChatRequest, profile: ModelProfile) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.native is not None and request.native.wire == "google.generate":
        wished = request.native.body.get("generationConfig")
        if isinstance(wished, Mapping):
            config |= {name: value for name, value in wished.items() if name in _NATIVE_CONFIG}
    values = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "maxOutputTokens": request.max_output_tokens,
        "stopSequences": list(request.stop) or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
    }
    config |= {name: value for name, value in values.items() if value is not None}
    if request.logprobs is not None:
        config["responseLogprobs"] = True
        if request.logprobs:
            config["logprobs"] = request.logprobs
    if request.response_schema is not None:
        config["responseMimeType"] = "application/json"
        if request.response_schema:
            config["responseJsonSchema"] = dict(request.response_schema)
    if request.reasoning is not None:
        thinking: dict[str, Any] = {"includeThoughts": True}
        tokens, effort = thinking_tokens(request.reasoning), effort_of(request.reasoning)
        if profile.thinking == "level":
            if effort:
                thinking["thinkingLevel"] = _LEVELS.get(effort, effort)
        elif tokens is not None:
            thinking["thinkingBudget"] = tokens
        if tokens == 0:
            thinking["includeThoughts"] = False
        config["thinkingConfig"] = thinking
    return config


def _encode_contents(messages: tuple[Message, ...], *, with_ids: bool) -> list[dict[str, Any]]:
    names = {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCallPart)}
    contents: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = [encoded for part in message.parts for encoded in _encode_turn_part(part, names, with_ids=with_ids)]
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return contents


def _encode_turn_part(part: Part, names: Mapping[str, str], *, with_ids: bool) -> Iterator[dict[str, Any]]:
    match part:
        case ReasoningPart():
            if part.origin == "google" and (part.text or part.signature):
                proof = {"thoughtSignature": part.signature} if part.signature else {}
                yield {"text": part.text, **({"thought": True} if part.text else {}), **proof}
        case ToolCallPart():
            call = {"name": part.name, "args": arguments_of(part), **_id(part.id, with_ids=with_ids)}
            yield {"functionCall": call, **({"thoughtSignature": part.signature} if part.signature else {})}
        case ToolResultPart():
            text = "".join(item.text for item in part.content if isinstance(item, TextPart))
            name = names.get(part.call_id)
            if name is None:
                raise cannot(_API, "tool result without the call it answers")
            said = {"error" if part.is_error else "output": text}
            yield {"functionResponse": {"name": name, "response": said, **_id(part.call_id, with_ids=with_ids)}}
            for item in part.content:
                if not isinstance(item, TextPart):
                    yield _encode_part(item)
        case _:
            yield _encode_part(part)


def _id(call_id: str, *, with_ids: bool) -> dict[str, str]:
    return {"id": call_id} if with_ids and call_id and not call_id.startswith(_OUR_ID) else {}


def _encode_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"text": text}
        case ImagePart():
            return _blob(part.media_type, part.url, part.data)
        case FilePart():
            if part.file_id:
                return {"fileData": {"mimeType": part.media_type, "fileUri": part.file_id}}
            return _blob(part.media_type, part.url, part.data)
    raise cannot(_API, "thought there")


def _blob(media_type: str, url: str | None, data: bytes | None) -> dict[str, Any]:
    if url:
        return {"fileData": {"mimeType": media_type, "fileUri": url}}
    return {"inlineData": {"mimeType": media_type, "data": b64(data)}}


async def decode_stream(events: AsyncIterator[str], *, provider: str, model: str) -> AsyncGenerator[ChatEvent, None]:
    """Decode the ``data:`` payloads of an answer stream. It has no last event: what counts is a finish reason.

    Raises: ProviderError and its kin: malformed JSON, an error object, a broken call, an end without finish reason.
    """
    answer = _Answer(model)
    with well_formed(provider):
        async for data in events:
            chunk = parse(data, provider)
            if chunk.get("error"):
                error = chunk["error"]
                code = error.get("code") if isinstance(error, dict) else None
                raise stream_error(provider, error, status=code if isinstance(code, int) and code >= 400 else None)
            for event in answer.take(chunk, provider):
                yield event
        if answer.reason is None:
            raise incomplete(provider)
    yield answer.finish()


# Any: JSON of the API, read field by field.
def _logprobs(result: Any) -> dict[str, object] | None:
    """Probabilities of a chunk's tokens, as the canonical answer tells them; None without any."""
    if not isinstance(result, Mapping) or not result.get("chosenCandidates"):
        return None

    def told(candidate: Mapping[str, Any]) -> dict[str, Any]:
        token = str(candidate.get("token") or "")
        return {"token": token, "logprob": candidate.get("logProbability"), "bytes": list(token.encode())}

    tops = [[told(other) for other in top.get("candidates") or ()] for top in result.get("topCandidates") or ()]
    chosen = [told(candidate) for candidate in result["chosenCandidates"]]
    content = [
        {**entry, "top_logprobs": tops[place] if place < len(tops) else []} for place, entry in enumerate(chosen)
    ]
    return {"content": content, "refusal": None}


class _Answer:
    """What is known of an answer while its chunks come in."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id: str | None = None
        self.reason: FinishReason | None = None
        self._usage: Mapping[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._calls = CallIndex()
        self._thought = 0
        self._thinking = False

    def take(self, chunk: Mapping[str, Any], provider: str) -> Iterator[ChatEvent]:
        """Events of one chunk."""
        self._model = str(chunk.get("modelVersion") or self._model)
        self._id = chunk.get("responseId") or self._id
        self._usage = {**self._usage, **(chunk.get("usageMetadata") or {})}
        feedback = chunk.get("promptFeedback") or {}
        if feedback.get("blockReason"):
            self.reason = "content_filter"
            self._extra |= {"block_reason": feedback["blockReason"]}
        for candidate in chunk.get("candidates") or ():
            if candidate.get("index"):
                continue
            likely = _logprobs(candidate.get("logprobsResult"))
            for part in (candidate.get("content") or {}).get("parts") or ():
                for event in self._part(part):
                    if likely is not None and isinstance(event, TextDelta):
                        # They are told for the whole chunk: they go with its first text.
                        event, likely = replace(event, logprobs=likely), None
                    yield event
            if likely is not None:
                yield TextDelta("", likely)
            for name in ("safetyRatings", "groundingMetadata", "citationMetadata"):
                if candidate.get(name):
                    self._extra[name] = candidate[name]
            if word := candidate.get("finishReason"):
                if word in _BROKEN:
                    raise ProviderError(
                        f"provider {provider!r} broke off its answer ({word})", provider=provider, retryable=True
                    )
                self.reason = _REASONS.get(word, "stop")
                if word not in _REASONS or self.reason == "content_filter":
                    self._extra["finish_reason"] = word

    def _part(self, part: Mapping[str, Any]) -> Iterator[ChatEvent]:
        proof = part.get("thoughtSignature")
        if call := part.get("functionCall"):
            key = len(self._calls)
            call_id = call.get("id") or f"{_OUR_ID}{secrets.token_hex(8)}"
            yield self._calls.begin(key, call_id, call.get("name"), signature=proof)
            yield self._calls.more(key, json.dumps(call.get("args") or {}, ensure_ascii=False))
            return
        text = str(part.get("text") or "")
        if part.get("thought"):
            self._thinking = True
            yield ReasoningDelta(text, "google", self._thought, signature=proof)
            return
        if self._thinking:
            self._thinking = False
            self._thought += 1
        if text:
            yield TextDelta(text)
        if proof:
            yield ReasoningDelta("", "google", self._thought, signature=proof)
            self._thought += 1

    def finish(self) -> Finish:
        """The last event."""
        usage = self._usage
        thoughts = count_of(usage.get("thoughtsTokenCount"))
        counted = Usage(
            count_of(usage.get("promptTokenCount")) + count_of(usage.get("toolUsePromptTokenCount")),
            count_of(usage.get("candidatesTokenCount")) + thoughts,
            count_of(usage.get("cachedContentTokenCount")),
            thoughts,
        )
        reason: FinishReason = self.reason or "stop"
        if reason == "stop" and len(self._calls):
            reason = "tool_calls"
        return Finish(reason, counted, self._model, response_id=self._id, extra=self._extra)
