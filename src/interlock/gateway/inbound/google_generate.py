"""Gemini's generateContent as a server sees it: decode requests, encode answers and chunks.

Source: the Gemini API reference for `models.generateContent` and `models.streamGenerateContent`. Names are read in
camel case and in snake case, as Google's servers do. Ours alone: the field `interlock` on answers and chunks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.ids import ulid
from interlock.core.messages import (
    ChatRequest,
    FilePart,
    Finish,
    ImagePart,
    Message,
    Native,
    NativeDelta,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    Usage,
)
from interlock.gateway.fields import Extension, Loose, decode_base64, parsed
from interlock.gateway.inbound._answers import Gathered, as_object, gather
from interlock.gateway.inbound._openai import tags_of
from interlock.gateway.ports import Asked, Fault, FileCited, FileSearched, Frame, Inbound, Replier, ReplyEvent

__all__ = ["plugin"]

# Any in this module: JSON objects, narrowed field by field on their way in.
_ORIGIN = "google"
_MAX_CONTENTS = 4_000


class _Camel(Loose):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _Blob(_Camel):
    mime_type: str = Field(default="application/octet-stream", max_length=128)
    data: str
    display_name: str | None = Field(default=None, max_length=512)


class _FileData(_Camel):
    mime_type: str = Field(default="application/octet-stream", max_length=128)
    file_uri: str


class _Call(_Camel):
    id: str | None = Field(default=None, max_length=256)
    name: str = Field(min_length=1, max_length=128)
    args: dict[str, Any] | None = None


class _CallResult(_Camel):
    id: str | None = Field(default=None, max_length=256)
    name: str = Field(min_length=1, max_length=128)
    response: dict[str, Any] | None = None


class _Part(_Camel):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: _Blob | None = None
    file_data: _FileData | None = None
    function_call: _Call | None = None
    function_response: _CallResult | None = None


class _Content(_Camel):
    role: Literal["user", "model", "function", "tool", "system"] | None = None
    parts: list[_Part] = Field(default_factory=list, max_length=4_000)


class _Thinking(_Camel):
    include_thoughts: bool | None = None
    thinking_budget: int | None = Field(default=None, ge=-1, le=10_000_000)
    thinking_level: str | None = Field(default=None, max_length=32)


class _Config(_Camel):
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: float | None = Field(default=None, ge=0, le=1_000_000)
    max_output_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    stop_sequences: list[str] | None = Field(default=None, max_length=64)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    candidate_count: int | None = Field(default=None, ge=1)
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    thinking_config: _Thinking | None = None


class _Function(_Camel):
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class _Tool(_Camel):
    function_declarations: list[_Function] | None = Field(default=None, max_length=256)


class _Calling(_Camel):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(_Camel):
    function_calling_config: _Calling | None = None


class _Request(_Camel):
    contents: list[_Content] | _Content
    system_instruction: _Content | None = None
    generation_config: _Config | None = None
    tools: list[_Tool] | None = Field(default=None, max_length=64)
    tool_config: _ToolConfig | None = None
    labels: dict[str, str] | None = None
    interlock: Extension | None = None


class _Generate:
    """The wire `google.generate`. Model and streaming come from the address."""

    name = "google.generate"

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """See `Inbound`."""
        given = parsed(_Request, body)
        assert isinstance(body, dict) and model is not None, "checked above; the address names the model"
        config = given.generation_config or _Config()
        if (config.candidate_count or 1) != 1:
            raise InvalidInput("only one candidate is given", param="generationConfig.candidateCount")
        turns = _turns(given)
        if not turns:
            raise InvalidInput("contents is empty", param="contents")
        request = ChatRequest(
            model=model,
            messages=tuple(turns),
            stream=bool(stream),
            max_output_tokens=config.max_output_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=None if config.top_k is None else int(config.top_k),
            stop=tuple(config.stop_sequences or ()),
            seed=config.seed,
            tools=tuple(_tools(given.tools or ())),
            tool_choice=_choice(given.tool_config),
            response_schema=_schema(config),
            frequency_penalty=config.frequency_penalty,
            presence_penalty=config.presence_penalty,
            reasoning=_reasoning(config.thinking_config),
            tags=tags_of(given.labels),
            variables=given.interlock.variables if given.interlock else {},
            logprobs=_logprobs_wanted(config),
            native=Native(self.name, body),
        )
        return Asked(request)

    def reply(self, asked: Asked) -> Replier:
        """See `Inbound`."""
        return _Reply(asked)

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """See `Inbound`."""
        return _fault(error, request_id)


_STATES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _fault(error: InterlockError, request_id: str = "") -> Fault:
    metadata = {name: value for name, value in (("param", error.param), ("hint", error.hint)) if value}
    details: list[dict[str, Any]] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": error.code,
            "domain": "interlock",
            "metadata": metadata,
        }
    ]
    if request_id:
        details.append({"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id})
    if error.retry_after_s is not None:
        wait = f"{max(1, math.ceil(error.retry_after_s))}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": wait})
    status = _STATES.get(error.status, "INTERNAL")
    body = {"error": {"code": error.status, "message": str(error), "status": status, "details": details}}
    return Fault(error.status, body)


_ROLES: Mapping[str, Role] = {"model": "assistant", "system": "system"}


def _turns(given: _Request) -> list[Message]:
    turns: list[Message] = []
    waiting: list[tuple[str, str]] = []
    """(name, id) of calls that were not answered yet: this API may leave out the ids."""
    if given.system_instruction is not None:
        texts = [TextPart(part.text) for part in given.system_instruction.parts if part.text]
        if texts:
            turns.append(Message("system", tuple(texts)))
    contents = given.contents if isinstance(given.contents, list) else [given.contents]
    if len(contents) > _MAX_CONTENTS:
        raise InvalidInput(f"contents holds at most {_MAX_CONTENTS:,} turns", param="contents")
    for index, content in enumerate(contents):
        parts = [
            _part(part, f"contents[{index}].parts[{at}]", (index, at), waiting) for at, part in enumerate(content.parts)
        ]
        results = tuple(part for part in parts if isinstance(part, ToolResultPart))
        rest = tuple(part for part in parts if not isinstance(part, ToolResultPart))
        if results:
            turns.append(Message("tool", results))
        if rest:
            turns.append(Message(_ROLES.get(content.role or "user", "user"), rest))
        elif not results:
            raise InvalidInput(f"contents[{index}] has no parts", param=f"contents[{index}].parts")
    return turns


def _part(part: _Part, param: str, at: tuple[int, int], waiting: list[tuple[str, str]]) -> Part:
    if part.function_call is not None:
        call = part.function_call
        identity = call.id or f"call_{at[0]}_{at[1]}"
        waiting.append((call.name, identity))
        arguments = json.dumps(call.args or {}, ensure_ascii=False, separators=(",", ":"))
        return ToolCallPart(identity, call.name, arguments, signature=part.thought_signature)
    if part.function_response is not None:
        return _result(part.function_response, param, waiting)
    if part.inline_data is not None:
        blob = part.inline_data
        data = decode_base64(blob.data, f"{param}.inlineData.data")
        if blob.mime_type.startswith("image/"):
            return ImagePart(blob.mime_type, data=data)
        return FilePart(blob.display_name or "file", blob.mime_type, data=data)
    if part.file_data is not None:
        uri, kind = part.file_data.file_uri, part.file_data.mime_type
        if not uri.startswith(("https://", "http://", "gs://")):
            return FilePart("file", kind, file_id=uri)
        return ImagePart(kind, url=uri) if kind.startswith("image/") else FilePart("file", kind, url=uri)
    if part.text is not None:
        if part.thought:
            return ReasoningPart(part.text, _ORIGIN, signature=part.thought_signature)
        return TextPart(part.text)
    if part.thought_signature:
        return ReasoningPart("", _ORIGIN, signature=part.thought_signature)
    raise InvalidInput(
        f"{param} is a part this gateway does not pass on",
        param=param,
        hint="text, inlineData, fileData, functionCall and functionResponse are",
    )


def _result(result: _CallResult, param: str, waiting: list[tuple[str, str]]) -> ToolResultPart:
    matching = [pair for pair in waiting if pair[1] == result.id] or [
        pair for pair in waiting if pair[0] == result.name
    ]
    if not matching and not result.id:
        raise InvalidInput(f"{param} answers a function that was not called", param=f"{param}.functionResponse.name")
    if matching:
        waiting.remove(matching[0])
    response = result.response or {}
    only = response.get("result", response.get("output")) if len(response) == 1 else None
    text = only if isinstance(only, str) else json.dumps(response, ensure_ascii=False, separators=(",", ":"))
    identity = matching[0][1] if matching else str(result.id)
    return ToolResultPart(identity, (TextPart(text),), is_error=set(response) == {"error"})


def _tools(given: Sequence[_Tool]) -> list[ToolSpec]:
    tools = []
    for index, tool in enumerate(given):
        if not tool.function_declarations:
            raise InvalidInput(
                f"tools[{index}] is a tool that the provider runs itself, which this gateway does not pass on",
                param=f"tools[{index}]",
                hint="use functionDeclarations",
            )
        for function in tool.function_declarations:
            schema = function.parameters_json_schema or json_schema(function.parameters or {})
            tools.append(ToolSpec(function.name, function.description or "", schema))
    return tools


def _choice(given: _ToolConfig | None) -> ToolChoice:
    config = given.function_calling_config if given else None
    names = (config.allowed_function_names or []) if config else []
    match (config.mode or "AUTO").upper() if config else "AUTO":
        case "AUTO" | "MODE_UNSPECIFIED" | "VALIDATED":
            return ToolChoice()
        case "NONE":
            return ToolChoice("none")
        case "ANY":
            return ToolChoice("named", names[0]) if len(names) == 1 else ToolChoice("required")
    raise InvalidInput("the mode is AUTO, ANY or NONE", param="toolConfig.functionCallingConfig.mode")


def _schema(config: _Config) -> Mapping[str, object] | None:
    if config.response_json_schema:
        return config.response_json_schema
    if config.response_schema:
        return json_schema(config.response_schema)
    return {} if config.response_mime_type == "application/json" else None


def _logprobs_wanted(config: _Config) -> int | None:
    if config.logprobs is not None and not config.response_logprobs:
        raise InvalidInput(
            "logprobs says how many alternatives there are; ask for them by responseLogprobs: true",
            param="generationConfig.logprobs",
        )
    return (config.logprobs or 0) if config.response_logprobs else None


def json_schema(schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """JSON Schema of Google's own dialect: types in capitals, `nullable`, numbers as text. Raises: InvalidInput."""
    if depth > 64:
        raise InvalidInput("a schema is nested too deeply", param="schema")
    result: dict[str, Any] = {}
    for name, value in schema.items():
        match name:
            case "type" if isinstance(value, str):
                result["type"] = value.lower()
            case "properties" if isinstance(value, dict):
                result[name] = {
                    key: json_schema(inner, depth + 1) for key, inner in value.items() if isinstance(inner, dict)
                }
            case "items" if isinstance(value, dict):
                result[name] = json_schema(value, depth + 1)
            case "anyOf" | "any_of" if isinstance(value, list):
                result["anyOf"] = [json_schema(inner, depth + 1) for inner in value if isinstance(inner, dict)]
            case "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties":
                result[name] = int(value) if isinstance(value, str) and value.isdecimal() else value
            case "nullable" | "propertyOrdering" | "property_ordering" | "example":
                continue
            case _:
                result[name] = value
    if schema.get("nullable") and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    return result


def _reasoning(thinking: _Thinking | None) -> Reasoning | None:
    if thinking is None:
        return None
    summary = "auto" if thinking.include_thoughts else None
    level = (thinking.thinking_level or "").lower()
    effort: Literal["none", "minimal", "low", "medium", "high"] | None
    match level:
        case "minimal" | "low" | "medium" | "high":
            effort = level
        case _:
            effort = "none" if thinking.thinking_budget == 0 else None
    budget = thinking.thinking_budget if (thinking.thinking_budget or 0) > 0 else None
    return Reasoning(effort=effort, budget_tokens=budget, summary=summary)


class _Reply:
    """Writes one answer. A function call is sent when it is whole: this API has no pieces of one."""

    def __init__(self, asked: Asked) -> None:
        self._model = asked.request.model
        self._id = ulid().lower()
        self._gathered = Gathered()
        self.document: Mapping[str, Any] | None = None

    def whole(self, events: Sequence[ReplyEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """See `Replier`."""
        answer = gather(events)
        parts: list[dict[str, Any]] = []
        for index in sorted(answer.thoughts):
            thought = answer.thoughts[index]
            parts.append(_thought_part(thought.text, thought.signature if thought.origin == _ORIGIN else None))
        if text := answer.text + answer.refusal:
            parts.append({"text": text})
        parts += _call_parts(answer)
        self.document = self._answer(parts, answer.ended, extension, answer.logprobs)
        return dict(self.document)

    def frames(self, event: ReplyEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """See `Replier`."""
        match event:
            case TextDelta(text):
                content = (event.logprobs or {}).get("content")
                told = content if isinstance(content, list) else []
                return [Frame(self._answer([{"text": text}], None, extension, told))]
            case ReasoningDelta():
                signature = event.signature if event.origin == _ORIGIN else None
                if not event.text and not signature:
                    return []
                return [Frame(self._answer([_thought_part(event.text, signature)], None, extension))]
            case NativeDelta() | FileSearched() | FileCited():
                # Of another API: its text comes beside it.
                return []
            case ToolCallDelta():
                self._gathered.add(event)
                return []
            case Finish():
                return [Frame(self._answer(_call_parts(self._gathered), event, extension))]

    def failed(self, error: InterlockError) -> list[Frame]:
        """See `Replier`."""
        return [Frame(_fault(error).body)]

    def _answer(
        self,
        parts: list[dict[str, Any]],
        finish: Finish | None,
        extension: Mapping[str, object] | None,
        logprobs: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if logprobs:
            candidate |= _logprobs(logprobs)
        if finish is not None:
            candidate["finishReason"] = _REASONS.get(finish.reason, "STOP")
        answer: dict[str, Any] = {"candidates": [candidate], "modelVersion": self._model, "responseId": self._id}
        if finish is not None:
            answer["usageMetadata"] = _usage(finish.usage)
        return {**answer, "interlock": dict(extension)} if extension else answer


def _logprobs(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Probabilities of tokens as this API tells them."""

    def told(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {"token": entry.get("token"), "logProbability": entry.get("logprob")}

    known = [float(entry["logprob"]) for entry in entries if isinstance(entry.get("logprob"), (int, float))]
    tops = [{"candidates": [told(other) for other in entry.get("top_logprobs") or ()]} for entry in entries]
    result: dict[str, Any] = {"chosenCandidates": [told(entry) for entry in entries]}
    if any(top["candidates"] for top in tops):
        result["topCandidates"] = tops
    return {"logprobsResult": result, **({"avgLogprobs": sum(known) / len(known)} if known else {})}


_REASONS = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "error": "OTHER"}


def _thought_part(text: str, signature: str | None) -> dict[str, Any]:
    return {"text": text, "thought": True, **({"thoughtSignature": signature} if signature else {})}


def _call_parts(answer: Gathered) -> list[dict[str, Any]]:
    parts = []
    for index in sorted(answer.calls):
        call = answer.calls[index]
        part: dict[str, Any] = {
            "functionCall": {"id": call.id or None, "name": call.name, "args": as_object(call.arguments)}
        }
        parts.append({**part, **({"thoughtSignature": call.signature} if call.signature else {})})
    return parts


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(0, usage.output_tokens - usage.reasoning_tokens),
        "totalTokenCount": usage.total_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
    }


plugin: Inbound = _Generate()
