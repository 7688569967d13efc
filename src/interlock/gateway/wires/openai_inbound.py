"""OpenAI chat completions as a server sees them: decode requests, encode answers and chunks.

Unknown request fields are ignored, as clients send more every month; known ones are checked and named when wrong.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.core.errors import InvalidInput
from interlock.core.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    Usage,
)

__all__ = ["decode_request", "encode_message", "encode_usage", "field_error"]

_MAX_MESSAGES = 2_000
_TYPE_NAME = re.compile(r"(str|int|float|bool|dict|list|set|tuple|literal|union|function-[a-z]+)($|\[)")


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Function(_Loose):
    name: str = Field(min_length=1, max_length=128)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)  # Any: a JSON Schema
    strict: bool | None = None
    arguments: str = ""


class _Tool(_Loose):
    type: Literal["function"]
    function: _Function


class _Call(_Loose):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _Url(_Loose):
    url: str


class _File(_Loose):
    file_id: str | None = None
    file_data: str | None = None
    filename: str = "file"


class _Part(_Loose):
    type: Literal["text", "image_url", "file", "refusal"]
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | None = None
    file: _File | None = None


class _Message(_Loose):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] = Field(default_factory=list)
    tool_call_id: str | None = None


class _StreamOptions(_Loose):
    include_usage: bool = False


class _Format(_Loose):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None  # Any: a JSON Schema


class _Request(_Loose):
    model: str = Field(min_length=1, max_length=256)
    messages: list[_Message] = Field(min_length=1, max_length=_MAX_MESSAGES)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    n: int | None = Field(default=1, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[_Tool] | None = Field(default=None, max_length=256)
    tool_choice: str | dict[str, Any] | None = None  # Any: narrowed below
    response_format: _Format | None = None
    user: str | None = Field(default=None, max_length=512)


class Decoded(BaseModel):
    """A decoded request and what only this wire knows."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    request: ChatRequest
    include_usage: bool


def decode_request(body: object) -> Decoded:
    """Canonical form of a request body. Raises: InvalidInput naming the field."""
    if not isinstance(body, dict):
        raise InvalidInput("the body must be a JSON object")
    try:
        parsed = _Request.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from error
    if (parsed.n or 1) != 1:
        raise InvalidInput("only n = 1 is supported", param="n", hint="send the request several times instead")
    messages = tuple(_message(index, message) for index, message in enumerate(parsed.messages))
    request = ChatRequest(
        model=parsed.model,
        messages=messages,
        stream=bool(parsed.stream),
        max_output_tokens=parsed.max_completion_tokens or parsed.max_tokens,
        temperature=parsed.temperature,
        top_p=parsed.top_p,
        stop=(parsed.stop,) if isinstance(parsed.stop, str) else tuple(parsed.stop or ()),
        seed=parsed.seed,
        tools=tuple(
            ToolSpec(
                tool.function.name, tool.function.description, tool.function.parameters, bool(tool.function.strict)
            )
            for tool in parsed.tools or ()
        ),
        tool_choice=_choice(parsed.tool_choice),
        response_schema=_schema(parsed.response_format),
        user_hint=parsed.user,
    )
    return Decoded(
        request=request, include_usage=parsed.stream_options is not None and parsed.stream_options.include_usage
    )


def field_error(error: ValidationError) -> InvalidInput:
    """The first thing pydantic found wrong, as `messages[3].content`; values are never repeated."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = ""
    for step in first["loc"]:
        if isinstance(step, str) and _TYPE_NAME.match(step):
            # pydantic adds which member of a union it tried: no field of the caller's.
            continue
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else str(step)
    return InvalidInput(f"{name or 'the body'}: {first['msg']}", param=name or None)


def _message(index: int, message: _Message) -> Message:
    where = f"messages[{index}]"
    if message.role == "tool":
        if not message.tool_call_id:
            raise InvalidInput("a tool message needs tool_call_id", param=f"{where}.tool_call_id")
        texts = tuple(part for part in _parts(message.content, where) if isinstance(part, (TextPart, ImagePart)))
        return Message("tool", (ToolResultPart(message.tool_call_id, texts),))
    role: Role = "system" if message.role == "developer" else message.role
    parts: list[Part] = list(_parts(message.content, where))
    parts += [ToolCallPart(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    if not parts and role != "assistant":
        raise InvalidInput(f"{where} has no content", param=f"{where}.content")
    return Message(role, tuple(parts), message.name)


def _parts(content: str | list[_Part] | None, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(content)]
    parts: list[Part] = []
    for index, part in enumerate(content):
        param = f"{where}.content[{index}]"
        if part.type == "image_url" and part.image_url is not None:
            parts.append(_image(part.image_url.url, param))
        elif part.type == "file" and part.file is not None:
            parts.append(_file(part.file, param))
        elif part.type in {"text", "refusal"}:
            parts.append(TextPart(part.text or part.refusal or ""))
        else:
            raise InvalidInput(f"{param} lacks its {part.type!r} object", param=param)
    return parts


def _image(url: str, param: str) -> ImagePart:
    if url.startswith("data:"):
        media_type, data = _data_url(url, param)
        return ImagePart(media_type, data=data)
    if not url.startswith(("https://", "http://")):
        raise InvalidInput("an image is given by an http(s) or data address", param=param)
    return ImagePart("image/*", url=url)


def _file(file: _File, param: str) -> FilePart:
    if file.file_id:
        return FilePart(file.filename, "application/octet-stream", file_id=file.file_id)
    if not file.file_data:
        raise InvalidInput("a file needs file_id or file_data", param=param)
    media_type, data = _data_url(file.file_data, param)
    return FilePart(file.filename, media_type, data=data)


def _data_url(url: str, param: str) -> tuple[str, bytes]:
    head, comma, payload = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InvalidInput("a data address must be base64", param=param)
    try:
        return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise InvalidInput("a data address is not valid base64", param=param) from error


def _choice(choice: str | dict[str, Any] | None) -> ToolChoice:
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("required")
        case {"function": {"name": str(name)}}:
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
    schema = (given.json_schema or {}).get("schema")
    if not isinstance(schema, dict) or not schema:
        raise InvalidInput("json_schema needs a schema", param="response_format.json_schema.schema")
    return schema


def encode_message(message: Message) -> dict[str, Any]:
    """The assistant message of an answer."""
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    encoded: dict[str, Any] = {"role": "assistant", "content": message.text or (None if calls else "")}
    if calls:
        encoded["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return encoded


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
