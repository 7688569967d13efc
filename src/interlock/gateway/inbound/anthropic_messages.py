"""Anthropic messages as a server sees them: decode requests, encode answers and events.

Source: the Anthropic API reference for `POST /v1/messages`. Ours alone: the field `interlock`, on the message, and in a
stream on `content_block_delta` and `message_delta`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from interlock.core.errors import InterlockError, InvalidInput, ProviderError
from interlock.core.ids import ulid
from interlock.core.messages import (
    CacheTtl,
    ChatEvent,
    ChatRequest,
    FilePart,
    Finish,
    ImagePart,
    Message,
    Native,
    NativeDelta,
    NativePart,
    Only,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    Usage,
)
from interlock.gateway.fields import Loose, decode_base64, parsed
from interlock.gateway.inbound._answers import as_object, gather
from interlock.gateway.ports import Asked, Fault, Frame, Inbound, Replier
from interlock.gateway.wires.anthropic import is_native

__all__ = ["decode_count", "plugin"]

# Any in this module: JSON objects, narrowed field by field on their way in.
_ORIGIN = "anthropic"


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


class _Count(Loose):
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


class _Request(_Count):
    max_tokens: int = Field(ge=1, le=10_000_000)
    stream: bool | None = False
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    stop_sequences: list[str] | None = Field(default=None, max_length=8192)
    metadata: dict[str, Any] | None = None


class _Messages:
    """The wire `anthropic.messages`."""

    name = "anthropic.messages"

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """See `Inbound`."""
        given = parsed(_Request, body)
        assert isinstance(body, dict), "checked above"
        base = _base(given, body)
        metadata = given.metadata or {}
        tags = {name: value for name, value in metadata.items() if name != "user_id" and isinstance(value, str)}
        user = metadata.get("user_id")
        if user is not None and (not isinstance(user, str) or len(user) > 512):
            raise InvalidInput("metadata.user_id is a text of at most 512 characters", param="metadata.user_id")
        request = replace(
            base,
            stream=bool(given.stream),
            temperature=given.temperature,
            top_p=given.top_p,
            top_k=given.top_k,
            stop=tuple(given.stop_sequences or ()),
            user_hint=user,
            tags=dict(list(tags.items())[:16]),
        )
        return Asked(request)

    def reply(self, asked: Asked) -> Replier:
        """See `Inbound`."""
        return _Reply(asked)

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """See `Inbound`."""
        overloaded = isinstance(error, ProviderError) and error.upstream_status in {503, 529}
        status = 529 if overloaded else _STATUS.get(error.status, error.status)
        return Fault(status, {**_error(error), "request_id": request_id})


def decode_count(body: object) -> ChatRequest:
    """A request of ``/v1/messages/count_tokens``, which has no `max_tokens`. Raises: InvalidInput."""
    given = parsed(_Count, body)
    assert isinstance(body, dict), "checked above"
    return _base(given, body)


_STATUS = {502: 500, 503: 529, 507: 500}
"""Where Anthropic's servers answer with another number; 529 is theirs for "overloaded"."""
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    507: "api_error",
}


def _error(error: InterlockError) -> dict[str, Any]:
    overloaded = isinstance(error, ProviderError) and error.upstream_status in {503, 529}
    kind = (
        "overloaded_error"
        if overloaded
        else _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    )
    inner = {"type": kind, "message": str(error), "code": error.code, "param": error.param, "hint": error.hint}
    return {"type": "error", "error": inner}


def _base(given: _Count, body: Mapping[str, Any]) -> ChatRequest:
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
        native=Native(_Messages.name, body),
    )


def _only(turns: Sequence[Message], tools: Sequence[ToolSpec], given: _Count) -> Iterator[Only]:
    """What no other API can take."""
    for index, tool in enumerate(tools):
        if tool.native is not None:
            yield Only(_ORIGIN, f"tools[{index}].type", "a tool that Anthropic runs itself")
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, NativePart):
                yield Only(_ORIGIN, part.param, "a block that only Anthropic's API knows")
    if given.mcp_servers:
        yield Only(_ORIGIN, "mcp_servers", "servers that Anthropic calls itself")


def _turns(given: _Count, body: Mapping[str, Any]) -> list[Message]:
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
        return NativePart(_ORIGIN, dict(raw), param)
    match block.type:
        case "text" if block.text is not None:
            return TextPart(block.text, mark, tuple(block.citations) if isinstance(block.citations, list) else ())
        case "image" if isinstance(block.source, _Source):
            return _image(block.source, mark, param)
        case "document" if isinstance(block.source, _Source):
            return _document(block, block.source, mark, param)
        case "thinking" if block.thinking is not None:
            return ReasoningPart(block.thinking, _ORIGIN, signature=block.signature)
        case "redacted_thinking" if block.data is not None:
            return ReasoningPart("", _ORIGIN, signature=block.data, redacted=True)
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


class _Reply:
    """Writes one answer: blocks in the order in which they begin."""

    def __init__(self, asked: Asked) -> None:
        self._model = asked.request.model
        self._id = f"msg_{ulid()}"
        self._started = False
        self._open: tuple[str, int] | None = None
        self._blocks: dict[tuple[str, int], int] = {}
        self._texts = 0
        self.document: Mapping[str, Any] | None = None

    def _message(self, content: list[dict[str, Any]], finish: Finish | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": _reason(finish) if finish else None,
            "stop_sequence": finish.stop_sequence if finish else None,
            "usage": _used(finish) if finish else _usage(Usage()),
        }

    def whole(self, events: Sequence[ChatEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """See `Replier`."""
        if any(isinstance(event, NativeDelta) for event in events):
            return self._in_order(events, extension)
        answer = gather(events)
        blocks: list[dict[str, Any]] = []
        for index in sorted(answer.thoughts):
            thought = answer.thoughts[index]
            if thought.redacted:
                blocks.append({"type": "redacted_thinking", "data": thought.signature or ""})
            else:
                signature = thought.signature if thought.origin == _ORIGIN else None
                blocks.append({"type": "thinking", "thinking": thought.text, "signature": signature or ""})
        if text := answer.text + answer.refusal:
            blocks.append({"type": "text", "text": text, "citations": None})
        for index in sorted(answer.calls):
            call = answer.calls[index]
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": as_object(call.arguments)})
        message = self._message(blocks, answer.ended)
        self.document = {**message, **({"interlock": dict(extension)} if extension else {})}
        return dict(self.document)

    def _in_order(self, events: Sequence[ChatEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """The answer with its blocks in the order in which they began: what a tool found stands where it was found."""
        blocks: list[dict[str, Any]] = []
        written: dict[int, str] = {}
        for frame in (frame for event in events for frame in self.frames(event)):
            # Any: frames of our own making.
            data: Any = frame.data
            if data["type"] == "content_block_start":
                blocks.append(dict(data["content_block"]))
            elif data["type"] == "content_block_delta":
                _grow(blocks[data["index"]], data["delta"], written, data["index"])
        for at, arguments in written.items():
            blocks[at]["input"] = as_object(arguments)
        finish = next(event for event in events if isinstance(event, Finish))
        self.document = {**self._message(blocks, finish), **({"interlock": dict(extension)} if extension else {})}
        return dict(self.document)

    def frames(self, event: ChatEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """See `Replier`."""
        frames: list[Frame] = []
        if not self._started:
            self._started = True
            frames += [_frame("message_start", {"message": self._message([], None)}), _frame("ping", {})]
        match event:
            case TextDelta(text):
                frames += self._at(("text", self._text_block()), {"type": "text", "text": ""})
                frames.append(self._delta({"type": "text_delta", "text": text}, extension))
            case ReasoningDelta():
                frames += self._thought(event, extension)
            case ToolCallDelta():
                block = {"type": "tool_use", "id": event.id or f"toolu_{ulid()}", "name": event.name or "", "input": {}}
                key = ("tool", event.index)
                frames += self._at(key, block)
                if event.arguments:
                    delta = {"type": "input_json_delta", "partial_json": event.arguments}
                    frames.append(self._delta(delta, extension, self._blocks[key]))
            case NativeDelta():
                frames += self._native(event)
            case Finish():
                frames += self._close()
                end = {"stop_reason": _reason(event), "stop_sequence": event.stop_sequence}
                frames.append(_frame("message_delta", {"delta": end, "usage": _used(event)}, extension))
                frames.append(_frame("message_stop", {}))
        return frames

    def failed(self, error: InterlockError) -> list[Frame]:
        """See `Replier`."""
        return [Frame(_error(error), "error")]

    def _native(self, event: NativeDelta) -> list[Frame]:
        if event.origin != _ORIGIN:
            return []
        if event.block is not None and event.block.get("type") == "text":
            frames = self._close()
            self._texts += 1
            return frames + self._at(("text", self._texts), event.block)
        if event.block is not None:
            return self._at(("native", event.index), event.block)
        delta = event.delta or {}
        if ("native", event.index) in self._blocks:
            return [self._delta(delta, None, self._blocks["native", event.index])]
        frames = self._at(("text", self._text_block()), {"type": "text", "text": "", "citations": []})
        return [*frames, self._delta(delta, None)]

    def _text_block(self) -> int:
        if self._open is None or self._open[0] != "text":
            self._texts += 1
        return self._texts

    def _thought(self, event: ReasoningDelta, extension: Mapping[str, object] | None) -> list[Frame]:
        key = ("thinking", event.index)
        if event.redacted:
            return self._at(key, {"type": "redacted_thinking", "data": event.signature or ""})
        frames = self._at(key, {"type": "thinking", "thinking": "", "signature": ""})
        index = self._blocks[key]
        if event.text:
            frames.append(self._delta({"type": "thinking_delta", "thinking": event.text}, extension, index))
        if event.signature and event.origin == _ORIGIN:
            frames.append(self._delta({"type": "signature_delta", "signature": event.signature}, None, index))
        return frames

    def _at(self, key: tuple[str, int], block: Mapping[str, Any]) -> list[Frame]:
        """Open the block `key`, closing the one before it. A block that is known already stays as it is."""
        if key in self._blocks:
            return []
        frames = self._close()
        self._blocks[key] = len(self._blocks)
        self._open = key
        return [*frames, _frame("content_block_start", {"index": self._blocks[key], "content_block": dict(block)})]

    def _close(self) -> list[Frame]:
        if self._open is None:
            return []
        index = self._blocks[self._open]
        self._open = None
        return [_frame("content_block_stop", {"index": index})]

    def _delta(
        self, delta: Mapping[str, Any], extension: Mapping[str, object] | None, index: int | None = None
    ) -> Frame:
        assert self._open is not None or index is not None, "a block was opened before"
        at = self._blocks[self._open] if index is None and self._open is not None else index
        return _frame("content_block_delta", {"index": at, "delta": delta}, extension)


def _frame(kind: str, data: Mapping[str, Any], extension: Mapping[str, object] | None = None) -> Frame:
    body = {"type": kind, **data}
    return Frame({**body, "interlock": dict(extension)} if extension else body, kind)


# Any: a block and a delta of the API.
def _grow(block: dict[str, Any], delta: Mapping[str, Any], written: dict[int, str], at: int) -> None:
    """Add a delta to its block; arguments of tools are gathered in `written` until they are whole."""
    match delta.get("type"):
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] += delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
        case "input_json_delta":
            written[at] = written.get(at, "") + str(delta.get("partial_json") or "")


def _used(finish: Finish) -> dict[str, Any]:
    """Usage of a whole answer, with how often the provider's own tools were used where it says so."""
    tools = finish.extra.get("server_tool_use")
    return {**_usage(finish.usage), **({"server_tool_use": tools} if tools else {})}


def _reason(finish: Finish) -> str:
    own = finish.extra.get("stop_reason")
    if isinstance(own, str):
        # Anthropic's word for what has none here: the caller sends the answer back, and it goes on.
        return own
    if finish.stop_sequence is not None:
        return "stop_sequence"
    return {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}.get(
        finish.reason, "end_turn"
    )


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


plugin: Inbound = _Messages()
