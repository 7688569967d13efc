"""What a caller of /v1/messages sends: the body, its blocks, and the request they stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from interlock.core.errors import InvalidInput
from interlock.core.messages import (
    CacheTtl,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    Native,
    NativePart,
    Only,
    Part,
    Reasoning,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
)
from interlock.gateway.fields import Extension, Loose, decode_base64, parsed
from interlock.gateway.wires.anthropic import is_native

__all__ = [
    "ORIGIN",
    "WIRE",
    "Count",
    "Request",
    "request_of",
]

# Any in this module: JSON objects, narrowed field by field on their way in.
ORIGIN = "anthropic"
WIRE = "anthropic.messages"


class _Cache(Loose):
    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] | None = None


class _Source(Loose):
    type: Literal["base64", "url", "file", "text", "content"]
    media_type: str = Field(default="", max_length=128)
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[dict[str, Any]] | None = None


class _Block(Loose):
    type: str = Field(max_length=64)
    text: str | None = None
    source: _Source | str | None = None
    """A text is the address of a search result."""
    title: str | None = Field(default=None, max_length=512)
    id: str | None = Field(default=None, max_length=256)
    name: str | None = Field(default=None, max_length=128)
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    citations: list[dict[str, Any]] | dict[str, Any] | None = None
    """What a text was taken from; whether a document is to be cited."""
    cache_control: _Cache | None = None


class _Message(Loose):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(Loose):
    type: str | None = Field(default=None, max_length=64)
    name: str = Field(default="", max_length=128)
    """May be left out by toolsets alone, which the provider runs."""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: _Cache | None = None


class _Choice(Loose):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(Loose):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(default=None, ge=1, le=10_000_000)


class _Format(Loose):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema", min_length=1)


class _Output(Loose):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class Count(Loose):
    """A body of count_tokens: what a prompt is made of."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[_Message] = Field(min_length=1, max_length=10_000)
    system: str | list[_Block] | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    tools: list[_Tool] | None = Field(default=None, max_length=256)
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    output_format: _Format | None = None
    mcp_servers: list[dict[str, Any]] | None = Field(default=None, max_length=32)
    anthropic_beta: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]] | None = Field(
        default=None, max_length=32
    )
    """The header of that name; whoever reads the request puts it here."""
    interlock: Extension | None = None


class Request(Count):
    """A body of messages."""

    max_tokens: int = Field(ge=1, le=10_000_000)
    stream: bool | None = False
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    stop_sequences: list[str] | None = Field(default=None, max_length=8192)
    metadata: dict[str, Any] | None = None


def request_of(given: Count, body: Mapping[str, Any]) -> ChatRequest:
    """The canonical request; `body` is what `given` was read from."""
    schema = given.output_format or (given.output_config.format if given.output_config else None)
    choice = given.tool_choice
    turns = tuple(_turns(given, body))
    tools = tuple(
        _tool(tool, body["tools"][index], f"tools[{index}].name") for index, tool in enumerate(given.tools or ())
    )
    return ChatRequest(
        model=given.model,
        messages=turns,
        max_output_tokens=given.max_tokens,
        tools=tools,
        only=tuple(_only(turns, tools, given)),
        tool_choice=_choice(choice),
        response_schema=schema.schema_ if schema else None,
        parallel_tool_calls=False if choice is not None and choice.disable_parallel_tool_use else None,
        reasoning=_reasoning(given.thinking, given.output_config),
        native=Native(WIRE, body),
        variables=given.interlock.variables if given.interlock else {},
    )


def _only(turns: Sequence[Message], tools: Sequence[ToolSpec], given: Count) -> Iterator[Only]:
    """What no other API can take."""
    for index, tool in enumerate(tools):
        if tool.native is not None:
            yield Only(ORIGIN, f"tools[{index}].type", "a tool that Anthropic runs itself")
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, NativePart):
                yield Only(ORIGIN, part.param, "a block that only Anthropic's API knows")
    if given.mcp_servers:
        yield Only(ORIGIN, "mcp_servers", "servers that Anthropic calls itself")


def _turns(given: Count, body: Mapping[str, Any]) -> list[Message]:
    turns: list[Message] = []
    if given.system:
        texts = [TextPart(given.system)] if isinstance(given.system, str) else _texts(given.system, "system")
        turns.append(Message("system", tuple(texts)))
    for index, message in enumerate(given.messages):
        where = f"messages[{index}].content"
        if isinstance(message.content, str):
            turns.append(Message(message.role, (TextPart(message.content),)))
            continue
        blocks = body["messages"][index]["content"]
        parts = [_part(block, blocks[at], f"{where}[{at}]") for at, block in enumerate(message.content)]
        results = tuple(part for part in parts if isinstance(part, ToolResultPart))
        rest = tuple(part for part in parts if not isinstance(part, ToolResultPart))
        if results:
            turns.append(Message("tool", results))
        if rest or not results:
            turns.append(Message(message.role, rest))
    return turns


def _texts(blocks: Sequence[_Block], where: str) -> list[TextPart]:
    texts = []
    for at, block in enumerate(blocks):
        if block.type != "text" or block.text is None:
            raise InvalidInput(f"{where}[{at}] must be a text block", param=f"{where}[{at}]")
        texts.append(TextPart(block.text, _mark(block.cache_control)))
    return texts


def _mark(cache: _Cache | None) -> CacheTtl | None:
    return None if cache is None else cache.ttl or "5m"


def _part(block: _Block, raw: Mapping[str, Any], param: str) -> Part:
    """The part of a block; `raw` is the block as it came."""
    mark = _mark(block.cache_control)
    if is_native(block.type) or _is_cited(block):
        return NativePart(ORIGIN, dict(raw), param)
    match block.type:
        case "text" if block.text is not None:
            return TextPart(block.text, mark, tuple(block.citations) if isinstance(block.citations, list) else ())
        case "image" if isinstance(block.source, _Source):
            return _image(block.source, mark, param)
        case "document" if isinstance(block.source, _Source):
            return _document(block, block.source, mark, param)
        case "thinking" if block.thinking is not None:
            return ReasoningPart(block.thinking, ORIGIN, signature=block.signature)
        case "redacted_thinking" if block.data is not None:
            return ReasoningPart("", ORIGIN, signature=block.data, redacted=True)
        case "tool_use" if block.id and block.name:
            arguments = json.dumps(block.input or {}, ensure_ascii=False, separators=(",", ":"))
            return ToolCallPart(block.id, block.name, arguments, cache=mark)
        case "tool_result" if block.tool_use_id:
            content = _result(block.content, param)
            return ToolResultPart(block.tool_use_id, content, bool(block.is_error), mark)
        case "text" | "image" | "document" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result":
            raise InvalidInput(f"{param} lacks a field that a {block.type} block needs", param=param)
    raise InvalidInput(
        f"{param}.type is a block this gateway does not pass on",
        param=f"{param}.type",
        hint="text, image, document, thinking, tool_use, tool_result, search_result and blocks of server tools are",
    )


def _is_cited(block: _Block) -> bool:
    """True when the model is to cite the block, or something in it."""
    if block.type == "document":
        return isinstance(block.citations, dict) and block.citations.get("enabled") is True
    inside = block.content if block.type == "tool_result" and isinstance(block.content, list) else []
    return any(item.get("type") == "search_result" or _is_cited_document(item) for item in inside)


def _is_cited_document(item: Mapping[str, Any]) -> bool:
    wanted = item.get("citations")
    return item.get("type") == "document" and isinstance(wanted, dict) and wanted.get("enabled") is True


def _result(content: str | list[dict[str, Any]] | None, param: str) -> tuple[TextPart | ImagePart | FilePart, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    items: list[TextPart | ImagePart | FilePart] = []
    for at, raw in enumerate(content):
        where = f"{param}.content[{at}]"
        try:
            part = _part(parsed(_Block, raw), raw, where)
        except InvalidInput as error:
            raise InvalidInput(f"{where} is wrong: {error.message}", param=where) from error
        if not isinstance(part, (TextPart, ImagePart, FilePart)):
            raise InvalidInput(f"{where} cannot stand in a tool result", param=where)
        items.append(part)
    return tuple(items)


def _image(source: _Source, mark: CacheTtl | None, param: str) -> ImagePart:
    if source.type == "base64" and source.data is not None:
        return ImagePart(source.media_type or "image/png", data=decode_base64(source.data, param), cache=mark)
    if source.type == "url" and source.url and source.url.startswith(("https://", "http://")):
        return ImagePart("image/*", url=source.url, cache=mark)
    raise InvalidInput("an image is given as base64 data or by an http(s) address", param=f"{param}.source")


def _document(block: _Block, source: _Source, mark: CacheTtl | None, param: str) -> FilePart:
    name = block.title or "document"
    match source.type:
        case "base64" if source.data is not None:
            data = decode_base64(source.data, param)
            return FilePart(name, source.media_type or "application/pdf", data=data, cache=mark)
        case "text" if source.data is not None:
            return FilePart(name, "text/plain", data=source.data.encode(), cache=mark)
        case "content":
            texts = [source.content] if isinstance(source.content, str) else _content_texts(source.content)
            return FilePart(name, "text/plain", data="\n\n".join(texts).encode(), cache=mark)
        case "url" if source.url and source.url.startswith(("https://", "http://")):
            return FilePart(name, "application/pdf", url=source.url, cache=mark)
        case "file" if source.file_id:
            return FilePart(name, "application/octet-stream", file_id=source.file_id, cache=mark)
    raise InvalidInput("a document's source lacks its data, address or id", param=f"{param}.source")


def _content_texts(content: Sequence[Mapping[str, Any]] | None) -> list[str]:
    return [str(item["text"]) for item in content or () if isinstance(item.get("text"), str)]


def _tool(tool: _Tool, raw: Mapping[str, Any], param: str) -> ToolSpec:
    """The tool; `raw` is its definition as it came."""
    if tool.type not in {None, "custom"}:
        return ToolSpec(tool.name, "", {}, native=dict(raw))
    if not tool.name:
        raise InvalidInput(f"{param} is missing", param=param)
    return ToolSpec(
        tool.name, tool.description or "", tool.input_schema or {}, bool(tool.strict), _mark(tool.cache_control)
    )


def _choice(choice: _Choice | None) -> ToolChoice:
    if choice is None or choice.type == "auto":
        return ToolChoice()
    if choice.type == "tool":
        if not choice.name:
            raise InvalidInput("tool_choice.name names the tool", param="tool_choice.name")
        return ToolChoice("named", choice.name)
    return ToolChoice("required" if choice.type == "any" else "none")


def _reasoning(thinking: _Thinking | None, output: _Output | None) -> Reasoning | None:
    wanted = output.effort if output else None
    effort: Literal["low", "medium", "high", "xhigh"] | None = "xhigh" if wanted == "max" else wanted
    if thinking is None:
        return Reasoning(effort=effort) if effort else None
    if thinking.type == "disabled":
        return Reasoning(effort="none")
    if thinking.type == "adaptive":
        return Reasoning(effort=effort or "medium")
    return Reasoning(effort=effort, budget_tokens=thinking.budget_tokens)
