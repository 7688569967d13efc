"""OpenAI chat completions as a server sees them: decode requests, encode answers and chunks.

Source: the OpenAI API reference for `POST /v1/chat/completions`. Ours alone: the field `interlock`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

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
from interlock.gateway.fields import Extension, Loose, decode_base64, file_from, image_at, parsed
from interlock.gateway.inbound._annotations import cited_in, url_citations
from interlock.gateway.inbound._answers import gather
from interlock.gateway.inbound._free_text import arguments_of, free_text_tool, input_of
from interlock.gateway.inbound._openai import error_object, fault, tags_of
from interlock.gateway.ports import Asked, Fault, FileCited, FileSearched, Frame, Inbound, Replier, ReplyEvent

__all__ = ["plugin"]

# Any in this module: JSON objects, narrowed field by field on their way in.
_MAX_MESSAGES = 2_000
_AUDIO = {"mp3": "audio/mpeg", "wav": "audio/wav"}


class _Function(Loose):
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    arguments: str = ""


class _Custom(Loose):
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    format: dict[str, Any] | None = None
    input: str = ""


class _Tool(Loose):
    type: Literal["function", "custom"]
    function: _Function | None = None
    custom: _Custom | None = None


class _Call(Loose):
    id: str = Field(min_length=1, max_length=256)
    type: Literal["function", "custom"] = "function"
    function: _Function | None = None
    custom: _Custom | None = None


class _Url(Loose):
    url: str
    detail: Literal["low", "high", "auto", "original"] | None = None


class _File(Loose):
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = Field(default=None, max_length=512)


class _Audio(Loose):
    data: str
    format: Literal["wav", "mp3"]


class _Part(Loose):
    type: Literal["text", "image_url", "file", "input_audio", "refusal"]
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | None = None
    file: _File | None = None
    input_audio: _Audio | None = None


class _Message(Loose):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    refusal: str | None = None
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


class _StreamOptions(Loose):
    include_usage: bool | None = False


class _Schema(Loose):
    schema_: dict[str, Any] = Field(alias="schema", min_length=1)
    name: str = Field(min_length=1, max_length=64)
    strict: bool | None = None


class _Format(Loose):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Request(Loose):
    model: str = Field(min_length=1, max_length=256)
    messages: list[_Message] = Field(min_length=1, max_length=_MAX_MESSAGES)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    n: int | None = Field(default=1, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    tools: list[_Tool] | None = Field(default=None, max_length=256)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    metadata: dict[str, str] | None = None
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)
    interlock: Extension | None = None


class _Chat:
    """The wire `openai.chat`."""

    name = "openai.chat"

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """See `Inbound`."""
        given = parsed(_Request, body)
        if (given.n or 1) != 1:
            raise InvalidInput("only n = 1 is supported", param="n", hint="send the request several times instead")
        assert isinstance(body, dict), "checked above"
        request = ChatRequest(
            model=given.model,
            messages=tuple(_message(index, message) for index, message in enumerate(given.messages)),
            stream=bool(given.stream),
            max_output_tokens=given.max_completion_tokens or given.max_tokens,
            temperature=given.temperature,
            top_p=given.top_p,
            stop=(given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ()),
            seed=given.seed,
            tools=tuple(_tool(index, tool) for index, tool in enumerate(given.tools or ())),
            tool_choice=_choice(given.tool_choice),
            response_schema=_schema(given.response_format),
            user_hint=given.safety_identifier or given.user,
            frequency_penalty=given.frequency_penalty,
            presence_penalty=given.presence_penalty,
            parallel_tool_calls=given.parallel_tool_calls,
            reasoning=Reasoning(effort=given.reasoning_effort) if given.reasoning_effort else None,
            tags=tags_of(given.metadata),
            variables=given.interlock.variables if given.interlock else {},
            logprobs=given.top_logprobs or 0 if given.logprobs else None,
            native=Native(self.name, body),
        )
        if given.response_format is not None and given.response_format.json_schema is not None:
            request = _named(request, given.response_format.json_schema)
        usage = given.stream_options is not None and bool(given.stream_options.include_usage)
        custom = frozenset(tool.custom.name for tool in given.tools or () if tool.custom is not None)
        return Asked(request, {"include_usage": usage, "logprobs": bool(given.logprobs), "custom": custom})

    def reply(self, asked: Asked) -> Replier:
        """See `Inbound`."""
        return _Reply(asked)

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """See `Inbound`."""
        return fault(error)


def _named(request: ChatRequest, schema: _Schema) -> ChatRequest:
    return replace(request, schema_name=schema.name, schema_strict=bool(schema.strict))


def _tool(index: int, tool: _Tool) -> ToolSpec:
    where = f"tools[{index}]"
    if tool.custom is not None and tool.type == "custom":
        return free_text_tool(tool.custom.name, tool.custom.description, tool.custom.format, f"{where}.custom")
    function = tool.function
    if function is None or tool.type != "function":
        raise InvalidInput(f"{where} lacks its {tool.type!r} object", param=f"{where}.{tool.type}")
    return ToolSpec(function.name, function.description or "", function.parameters or {}, bool(function.strict))


def _call(call: _Call, where: str) -> ToolCallPart:
    if call.custom is not None and call.type == "custom":
        return ToolCallPart(call.id, call.custom.name, arguments_of(call.custom.input))
    if call.function is None:
        raise InvalidInput(f"{where} lacks its {call.type!r} object", param=f"{where}.{call.type}")
    return ToolCallPart(call.id, call.function.name, call.function.arguments)


def _message(index: int, message: _Message) -> Message:
    where = f"messages[{index}]"
    if message.role == "tool":
        if not message.tool_call_id:
            raise InvalidInput("a tool message needs tool_call_id", param=f"{where}.tool_call_id")
        parts = _parts(message.content, where)
        texts = tuple(part for part in parts if isinstance(part, (TextPart, ImagePart, FilePart)))
        return Message("tool", (ToolResultPart(message.tool_call_id, texts),))
    role: Role = "system" if message.role == "developer" else message.role
    content: list[Part] = list(_parts(message.content, where))
    if message.refusal and not content:
        content.append(TextPart(message.refusal))
    calls = message.tool_calls or ()
    content += [_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    if not content and role != "assistant":
        raise InvalidInput(f"{where} has no content", param=f"{where}.content")
    return Message(role, tuple(content), message.name)


def _parts(content: str | list[_Part] | None, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(content)]
    return [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _part(part: _Part, param: str) -> Part:
    if part.type in {"text", "refusal"}:
        return TextPart(part.text or part.refusal or "")
    if part.image_url is not None and part.type == "image_url":
        return image_at(part.image_url.url, param, part.image_url.detail)
    if part.file is not None and part.type == "file":
        file = part.file
        return file_from(file.filename or "file", data=file.file_data, url=None, file_id=file.file_id, param=param)
    if part.input_audio is not None and part.type == "input_audio":
        kind = part.input_audio.format
        return FilePart(f"audio.{kind}", _AUDIO[kind], data=decode_base64(part.input_audio.data, param))
    raise InvalidInput(f"{param} lacks its {part.type!r} object", param=param)


def _choice(choice: str | dict[str, Any] | None) -> ToolChoice:
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("required")
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}}:
            return ToolChoice("named", name)
    raise InvalidInput(
        "tool_choice is 'auto', 'none', 'required' or {'type': 'function', 'function': {'name': …}}",
        param="tool_choice",
    )


def _schema(given: _Format | None) -> Mapping[str, object] | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return {}
    if given.json_schema is None:
        raise InvalidInput("json_schema needs a schema", param="response_format.json_schema")
    return given.json_schema.schema_


class _Reply:
    """Writes one answer."""

    def __init__(self, asked: Asked) -> None:
        self._model = asked.request.model
        self._options = asked.options
        self._custom: frozenset[str] = asked.options.get("custom", frozenset())
        self._written: dict[int, str] = {}
        """Arguments so far of calls of custom tools."""
        self._id = f"chatcmpl-{ulid()}"
        self._created = int(time.time())
        self._text = ""
        """All text so far, for the annotations at its end."""
        self._started = False
        self.document: Mapping[str, Any] | None = None

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def whole(self, events: Sequence[ReplyEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """See `Replier`."""
        answer = gather(events)
        calls = [answer.calls[index] for index in sorted(answer.calls)]
        silent = calls or answer.refusal
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text or (None if silent else ""),
            "refusal": answer.refusal or None,
        }
        if annotations := _annotations(answer.text, extension):
            message["annotations"] = annotations
        if thought := "\n\n".join(answer.thoughts[index].text for index in sorted(answer.thoughts)):
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": input_of(call.arguments)}}
                if call.name in self._custom
                else {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        logprobs = {"content": answer.logprobs, "refusal": None} if answer.logprobs else None
        choice = {"index": 0, "message": message, "finish_reason": _reason(answer.ended), "logprobs": logprobs}
        self.document = {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": encode_usage(answer.ended.usage),
            **_facts(answer.ended),
            **({"interlock": dict(extension)} if extension else {}),
        }
        return dict(self.document)

    def frames(self, event: ReplyEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """See `Replier`."""
        match event:
            case TextDelta(text):
                self._text += "" if event.refusal else text
                delta: dict[str, Any] = {"refusal": text} if event.refusal else {"content": text}
                return [self._chunk(self._first(delta), None, extension, event.logprobs)]
            case ReasoningDelta(text):
                return [self._chunk(self._first({"reasoning_content": text}), None, extension)] if text else []
            case NativeDelta() | FileSearched() | FileCited():
                # Of another API: its text comes beside it.
                return []
            case ToolCallDelta():
                if event.index in self._written or event.name in self._custom:
                    return self._custom_call(event, extension)
                return [self._chunk(self._first({"tool_calls": [_call_chunk(event)]}), None, extension)]
            case Finish():
                frames = [
                    self._chunk(
                        {"tool_calls": [{"index": index, "custom": {"input": input_of(arguments)}}]}, None, None
                    )
                    for index, arguments in self._written.items()
                ]
                annotations = _annotations(self._text, extension)
                last: dict[str, Any] = {"annotations": annotations} if annotations else {}
                frames += [
                    self._chunk(last if self._started else self._first(last), _reason(event), extension, end=event)
                ]
                if self._options.get("include_usage"):
                    usage = {"choices": [], "usage": encode_usage(event.usage)}
                    frames.append(Frame({**self._head("chat.completion.chunk"), **usage}))
                return [*frames, Frame("[DONE]")]

    def _custom_call(self, event: ToolCallDelta, extension: Mapping[str, object] | None) -> list[Frame]:
        """A call of a custom tool begins; its text follows at the end, as it stands within JSON not whole yet."""
        began = event.index in self._written
        self._written[event.index] = self._written.get(event.index, "") + event.arguments
        if began:
            return []
        call = {"index": event.index, "id": event.id, "type": "custom", "custom": {"name": event.name, "input": ""}}
        return [self._chunk(self._first({"tool_calls": [call]}), None, extension)]

    def failed(self, error: InterlockError) -> list[Frame]:
        """See `Replier`."""
        return [Frame({"error": error_object(error)})]

    def _first(self, delta: dict[str, Any]) -> dict[str, Any]:
        if self._started:
            return delta
        self._started = True
        return {"role": "assistant", **delta}

    def _chunk(
        self,
        delta: Mapping[str, object],
        reason: str | None,
        extension: Mapping[str, object] | None,
        logprobs: Mapping[str, object] | None = None,
        end: Finish | None = None,
    ) -> Frame:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice], **(_facts(end) if end else {})}
        return Frame({**chunk, "interlock": dict(extension)} if extension else chunk)


def _annotations(text: str, extension: Mapping[str, object] | None) -> list[dict[str, Any]]:
    return [
        {"type": "url_citation", "url_citation": {name: value for name, value in one.items() if name != "type"}}
        for one in url_citations(cited_in(text, extension))
    ]


def _reason(finish: Finish) -> str:
    return "stop" if finish.reason == "error" else finish.reason


def _facts(finish: Finish) -> dict[str, Any]:
    return {name: finish.extra[name] for name in ("system_fingerprint", "service_tier") if name in finish.extra}


def _call_chunk(event: ToolCallDelta) -> dict[str, Any]:
    chunk: dict[str, Any] = {"index": event.index, "function": {"arguments": event.arguments}}
    if event.id:
        chunk |= {"id": event.id, "type": "function"}
    if event.name:
        chunk["function"]["name"] = event.name
    return chunk


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


plugin: Inbound = _Chat()
