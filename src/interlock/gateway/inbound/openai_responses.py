"""OpenAI responses as a server sees them: decode requests, encode answers and the typed events of a stream.

Options of a decoded request: `store`, `previous`, `conversation`, `background`, `items` (input as the API lists it) and
`echo` (settings that the answer repeats).

Source: the OpenAI API reference for `POST /v1/responses`. Ours alone: the field `interlock`, on the response, and in a
stream also on `response.output_text.delta`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.ids import ulid
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    FilePart,
    Finish,
    ImagePart,
    Message,
    Native,
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
from interlock.gateway.fields import Loose, file_from, image_at, parsed
from interlock.gateway.inbound._openai import fault, tags_of
from interlock.gateway.ports import Asked, Fault, Frame, Inbound, Replier

__all__ = ["broken", "checked_items", "input_items", "plugin", "queued", "reference_of", "turns_of"]

# Any in this module: JSON objects, narrowed field by field on their way in.
_ORIGIN = "openai"
_MAX_ITEMS = 4_000
_MAX_ID = 128
_LOGPROBS = "message.output_text.logprobs"


class _Content(Loose):
    type: Literal["input_text", "input_image", "input_file", "output_text", "refusal", "summary_text", "text"]
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = Field(default=None, max_length=512)


class _Text(Loose):
    text: str = ""


class _Item(Loose):
    type: str | None = None
    id: str | None = Field(default=None, max_length=256)
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[_Content] | None = None
    call_id: str | None = Field(default=None, max_length=256)
    name: str | None = Field(default=None, max_length=128)
    arguments: str | None = None
    output: str | list[_Content] | None = None
    summary: list[_Text] | None = None
    encrypted_content: str | None = None

    @property
    def is_reference(self) -> bool:
        """True when it stands for another item."""
        return self.type == "item_reference" or (self.type is None and self.role is None and self.content is None)


class _Tool(Loose):
    type: str
    name: str | None = Field(default=None, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Format(Loose):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, max_length=64)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class _TextConfig(Loose):
    format: _Format | None = None


class _Reasoning(Loose):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class _Request(Loose):
    model: str = Field(min_length=1, max_length=256)
    input: str | list[_Item]
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, max_length=128)
    conversation: str | dict[str, Any] | None = None
    stream: bool | None = False
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[_Tool] | None = Field(default=None, max_length=256)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: _TextConfig | None = None
    reasoning: _Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    include: list[str] | None = Field(default=None, max_length=32)
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)


class _Responses:
    """The wire `openai.responses`."""

    name = "openai.responses"

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """See `Inbound`."""
        given = parsed(_Request, body)
        assert isinstance(body, dict), "checked above"
        _refuse_unsupported(given)
        turns = [Message("system", (TextPart(given.instructions),))] if given.instructions else []
        form = given.text.format if given.text else None
        wanted = given.reasoning
        request = ChatRequest(
            model=given.model,
            # What is referred to and what came before is joined by whoever can look it up.
            messages=(*turns, *_turns(given.input)),
            stream=bool(given.stream),
            max_output_tokens=given.max_output_tokens,
            temperature=given.temperature,
            top_p=given.top_p,
            tools=tuple(_tool(index, tool) for index, tool in enumerate(given.tools or ())),
            tool_choice=_choice(given.tool_choice),
            response_schema=_schema(form),
            user_hint=given.safety_identifier or given.user,
            schema_name=form.name if form else None,
            schema_strict=bool(form.strict) if form else True,
            parallel_tool_calls=given.parallel_tool_calls,
            reasoning=Reasoning(effort=wanted.effort, summary=wanted.summary) if wanted else None,
            tags=tags_of(given.metadata),
            logprobs=(given.top_logprobs or 0) if _LOGPROBS in (given.include or ()) else given.top_logprobs or None,
            native=Native(self.name, body),
        )
        return Asked(
            request,
            {
                "store": given.store is not False,
                "previous": given.previous_response_id,
                "conversation": _conversation(given.conversation),
                "background": bool(given.background),
                "items": input_items(body.get("input")),
                "echo": _echo(given, body),
            },
        )

    def reply(self, asked: Asked) -> Replier:
        """See `Inbound`."""
        return _Reply(asked)

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """See `Inbound`."""
        return fault(error)


def _conversation(given: str | dict[str, Any] | None) -> str | None:
    identity = given.get("id") if isinstance(given, dict) else given
    if given is not None and not (isinstance(identity, str) and 1 <= len(identity) <= _MAX_ID):
        raise InvalidInput("conversation is an id, or an object with one", param="conversation")
    return identity


def _refuse_unsupported(given: _Request) -> None:
    if given.background and given.store is False:
        raise InvalidInput(
            "a response that is made in the background has to be stored", param="store", hint="leave out store: false"
        )
    if given.background and given.stream:
        raise InvalidInput(
            "a response that is made in the background is not streamed",
            param="stream",
            hint="follow it with: GET /v1/responses/{id}",
        )
    if given.conversation is not None and given.previous_response_id is not None:
        raise InvalidInput(
            "a response continues a conversation or an earlier response, not both", param="previous_response_id"
        )
    if not given.input:
        raise InvalidInput("input is empty", param="input")
    if isinstance(given.input, list) and len(given.input) > _MAX_ITEMS:
        raise InvalidInput(f"input holds at most {_MAX_ITEMS:,} items", param="input")


def _echo(given: _Request, body: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the answer repeats, in the API's own shapes."""
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {},
            "strict": bool(tool.strict),
        }
        for tool in given.tools or ()
    ]
    return {
        "conversation": None if given.conversation is None else {"id": _conversation(given.conversation)},
        "instructions": given.instructions,
        "max_output_tokens": given.max_output_tokens,
        "metadata": dict(given.metadata or {}),
        "parallel_tool_calls": given.parallel_tool_calls is not False,
        "previous_response_id": given.previous_response_id,
        "reasoning": {"effort": given.reasoning.effort if given.reasoning else None, "summary": None},
        "store": given.store is not False,
        "temperature": given.temperature,
        "text": {"format": (body.get("text") or {}).get("format") or {"type": "text"}},
        "tool_choice": given.tool_choice if given.tool_choice is not None else "auto",
        "tools": tools,
        "top_p": given.top_p,
        "truncation": given.truncation or "disabled",
        "user": given.user,
    }


def input_items(raw: object) -> list[dict[str, Any]]:
    """Input as the API lists it: items with an id each. `raw` was decoded before."""
    items = [{"role": "user", "content": raw}] if isinstance(raw, str) else list(raw) if isinstance(raw, list) else []
    listed = []
    for item in items:
        if reference_of(item) is not None:
            listed.append(dict(item))
            continue
        kind = item.get("type") or "message"
        shown = {**item, "type": kind, "id": item.get("id") or f"{_PREFIX.get(kind, 'item')}_{ulid()}"}
        if kind == "message":
            content = item.get("content")
            role = item.get("role") or "user"
            if isinstance(content, str):
                part = {"type": "output_text", "text": content, "annotations": []}
                shown["content"] = [part] if role == "assistant" else [{"type": "input_text", "text": content}]
            shown["status"] = item.get("status") or "completed"
        listed.append(shown)
    return listed


_PREFIX = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def reference_of(item: Mapping[str, Any]) -> str | None:
    """The id of the item that an `item_reference` stands for; its type may be left out. None: it is none."""
    identity, kind = item.get("id"), item.get("type")
    if kind == "item_reference" or (kind is None and "role" not in item and "content" not in item):
        return identity if isinstance(identity, str) else ""
    return None


class _Items(Loose):
    items: list[_Item] = Field(max_length=20)


def checked_items(raw: object) -> list[dict[str, Any]]:
    """Items that a caller adds to a conversation, as the API lists them. Raises: InvalidInput."""
    given = parsed(_Items, {"items": raw})
    for index, item in enumerate(given.items):
        if item.is_reference:
            raise InvalidInput("a conversation holds items, not references to them", param=f"items[{index}].type")
    _turns(given.items, "items")
    return input_items(raw)


def turns_of(items: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages of items that were decoded or written here before."""
    return _turns([_Item.model_validate(item) for item in items])


def _turns(given: str | Sequence[_Item], param: str = "input") -> list[Message]:
    """Messages of the items; consecutive items of the assistant are one turn, as are consecutive tool results."""
    if isinstance(given, str):
        return [Message("user", (TextPart(given),))]
    turns: list[Message] = []
    for index, item in enumerate(given):
        where = f"{param}[{index}]"
        if item.is_reference:
            if not item.id:
                raise InvalidInput(f"{where} refers to an item without its id", param=f"{where}.id")
            continue
        role, parts = _item(item, where)
        if turns and turns[-1].role == role and role in {"assistant", "tool"}:
            turns[-1] = Message(role, (*turns[-1].parts, *parts))
        else:
            turns.append(Message(role, parts))
    return turns


def _item(item: _Item, where: str) -> tuple[Role, tuple[Part, ...]]:
    match item.type or "message":
        case "message":
            if item.role is None or item.content is None:
                raise InvalidInput(f"{where} needs a role and content", param=where)
            role: Role = "system" if item.role == "developer" else item.role
            return role, tuple(_contents(item.content, f"{where}.content"))
        case "function_call":
            if not item.call_id or not item.name:
                raise InvalidInput(f"{where} needs call_id and name", param=where)
            return "assistant", (ToolCallPart(item.call_id, item.name, item.arguments or ""),)
        case "function_call_output":
            if not item.call_id or item.output is None:
                raise InvalidInput(f"{where} needs call_id and output", param=where)
            parts = _contents(item.output, f"{where}.output")
            content = tuple(part for part in parts if isinstance(part, (TextPart, ImagePart, FilePart)))
            return "tool", (ToolResultPart(item.call_id, content),)
        case "reasoning":
            text = "\n\n".join(part.text for part in item.summary or ())
            thought = ReasoningPart(text, _ORIGIN, signature=item.encrypted_content, id=item.id)
            return "assistant", (thought,)
    raise InvalidInput(
        f"{where}.type is an item this gateway does not pass on",
        param=f"{where}.type",
        hint="message, function_call, function_call_output, reasoning and item_reference are",
    )


def _contents(content: str | Sequence[_Content], where: str) -> list[Part]:
    if isinstance(content, str):
        return [TextPart(content)]
    parts: list[Part] = []
    for index, part in enumerate(content):
        param = f"{where}[{index}]"
        if part.type == "input_image":
            if not part.image_url:
                raise InvalidInput("an image is given by image_url", param=param)
            parts.append(image_at(part.image_url, param, part.detail))
        elif part.type == "input_file":
            name = part.filename or "file"
            parts.append(file_from(name, data=part.file_data, url=part.file_url, file_id=part.file_id, param=param))
        else:
            parts.append(TextPart(part.text or part.refusal or ""))
    return parts


def _tool(index: int, tool: _Tool) -> ToolSpec:
    if tool.type != "function":
        raise InvalidInput(
            f"tools[{index}].type is a tool that the provider runs itself, which this gateway does not pass on",
            param=f"tools[{index}].type",
            hint="use tools of the type 'function'",
        )
    if not tool.name:
        raise InvalidInput(f"tools[{index}].name is missing", param=f"tools[{index}].name")
    # This API's default is strict; the other one's is not.
    return ToolSpec(tool.name, tool.description or "", tool.parameters or {}, tool.strict is True)


def _choice(choice: str | dict[str, Any] | None) -> ToolChoice:
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("required")
        case {"type": "function", "name": str(name)}:
            return ToolChoice("named", name)
    raise InvalidInput(
        "tool_choice is 'auto', 'none', 'required' or {'type': 'function', 'name': …}", param="tool_choice"
    )


def _schema(form: _Format | None) -> Mapping[str, object] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {}
    if not form.schema_:
        raise InvalidInput("text.format needs a schema", param="text.format.schema")
    return form.schema_


class _Reply:
    """Writes one answer: items in the order in which they begin, each event with its number."""

    def __init__(self, asked: Asked) -> None:
        self._model = asked.request.model
        self._echo = asked.options["echo"]
        self._id = str(asked.options.get("id") or f"resp_{ulid()}")
        self._created = int(asked.options.get("created_at") or time.time())
        self._background = bool(asked.options["background"])
        self._number = 0
        self._items: list[dict[str, Any]] = []
        self._message: int | None = None
        """Position of the open message."""
        self._thoughts: dict[int, int] = {}
        self._calls: dict[int, int] = {}
        self._done: set[int] = set()
        self.document: Mapping[str, Any] | None = None

    def whole(self, events: Sequence[ChatEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """See `Replier`."""
        for event in events:
            self.frames(event, extension if isinstance(event, Finish) else None)
        assert self.document is not None, "an answer ends with Finish or raises"
        return dict(self.document)

    def frames(self, event: ChatEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """See `Replier`."""
        frames = [] if self._number else self._begin()
        match event:
            case TextDelta():
                frames += self._text(event, extension)
            case ReasoningDelta():
                frames += self._thought(event)
            case ToolCallDelta():
                frames += self._call(event)
            case Finish():
                frames += self._end(event, extension)
        return frames

    def failed(self, error: InterlockError) -> list[Frame]:
        """See `Replier`."""
        return [self._frame("response.failed", response=self.broken(error))]

    def queued(self) -> dict[str, Any]:
        """Before it is begun."""
        return self._response("queued", None)

    def broken(self, error: InterlockError) -> dict[str, Any]:
        """As it is after an error."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        failure = {"code": code, "message": str(error), "interlock_code": error.code, "hint": error.hint}
        return self._response("failed", None, error=failure)

    def _response(
        self,
        status: str,
        finish: Finish | None,
        *,
        error: Mapping[str, Any] | None = None,
        extension: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish.reason if finish else "")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": self._background,
            "error": error,
            "incomplete_details": {"reason": why} if why else None,
            "model": self._model,
            "output": [dict(item) for item in self._items],
            "usage": _usage(finish.usage) if finish else None,
            **self._echo,
            **({"interlock": dict(extension)} if extension else {}),
        }

    def _begin(self) -> list[Frame]:
        started = self._response("in_progress", None)
        return [
            self._frame("response.created", response=started),
            self._frame("response.in_progress", response=started),
        ]

    def _frame(self, kind: str, **data: object) -> Frame:
        frame = Frame({"type": kind, "sequence_number": self._number, **data}, kind)
        self._number += 1
        return frame

    def _add(self, item: dict[str, Any]) -> list[Frame]:
        self._items.append(item)
        shown = {**item, "content": []} if item["type"] == "message" else dict(item)
        return [self._frame("response.output_item.added", output_index=len(self._items) - 1, item=shown)]

    def _text(self, event: TextDelta, extension: Mapping[str, object] | None) -> list[Frame]:
        frames: list[Frame] = []
        kind = "refusal" if event.refusal else "output_text"
        if self._message is None:
            frames += self._close_thoughts()
            self._message = len(self._items)
            message = {"type": "message", "role": "assistant", "status": "in_progress", "content": []}
            frames += self._add({"id": f"msg_{ulid()}", **message})
        item = self._items[self._message]
        if not item["content"] or item["content"][-1]["type"] != kind:
            frames += self._close_part(self._message)
            part: dict[str, Any] = {"type": kind, "refusal": ""} if event.refusal else _text_part()
            item["content"].append(part)
            at = {"output_index": self._message, "content_index": len(item["content"]) - 1, "item_id": item["id"]}
            frames.append(self._frame("response.content_part.added", part=dict(part), **at))
        part = item["content"][-1]
        part["refusal" if event.refusal else "text"] += event.text
        at = {"output_index": self._message, "content_index": len(item["content"]) - 1, "item_id": item["id"]}
        if event.refusal:
            frames.append(self._frame("response.refusal.delta", delta=event.text, **at))
            return frames
        logprobs = _logprobs(event)
        part["logprobs"] = [*part["logprobs"], *logprobs]
        extra = {"interlock": dict(extension)} if extension else {}
        frames.append(
            self._frame("response.output_text.delta", delta=event.text, logprobs=_short(logprobs), **at, **extra)
        )
        return frames

    def _close_part(self, position: int) -> list[Frame]:
        item = self._items[position]
        if not item["content"]:
            return []
        part = item["content"][-1]
        at = {"output_index": position, "content_index": len(item["content"]) - 1, "item_id": item["id"]}
        if part["type"] == "refusal":
            frames = [self._frame("response.refusal.done", refusal=part["refusal"], **at)]
        else:
            logprobs = _short(part["logprobs"])
            frames = [self._frame("response.output_text.done", text=part["text"], logprobs=logprobs, **at)]
        return [*frames, self._frame("response.content_part.done", part=dict(part), **at)]

    def _close_message(self, status: str = "completed") -> list[Frame]:
        if self._message is None:
            return []
        position, self._message = self._message, None
        frames = self._close_part(position)
        return [*frames, *self._item_done(position, status)]

    def _item_done(self, position: int, status: str = "completed") -> list[Frame]:
        if position in self._done:
            return []
        self._done.add(position)
        item = self._items[position]
        item["status"] = status
        return [self._frame("response.output_item.done", output_index=position, item=dict(item))]

    def _thought(self, event: ReasoningDelta) -> list[Frame]:
        frames: list[Frame] = []
        if self._thoughts.get(event.index, -1) in {-1, *self._done}:
            frames += self._close_message() + self._close_thoughts()
            self._thoughts[event.index] = len(self._items)
            head = {"id": event.id or f"rs_{ulid()}", "type": "reasoning", "summary": [], "status": "in_progress"}
            frames += self._add(head)
        position = self._thoughts[event.index]
        item = self._items[position]
        if event.signature and event.origin == _ORIGIN:
            item["encrypted_content"] = item.get("encrypted_content", "") + event.signature
        if not event.text:
            return frames
        at = {"output_index": position, "item_id": item["id"], "summary_index": 0}
        if not item["summary"]:
            item["summary"] = [{"type": "summary_text", "text": ""}]
            part = {"type": "summary_text", "text": ""}
            frames.append(self._frame("response.reasoning_summary_part.added", part=part, **at))
        item["summary"] = [{"type": "summary_text", "text": item["summary"][0]["text"] + event.text}]
        return [*frames, self._frame("response.reasoning_summary_text.delta", delta=event.text, **at)]

    def _close_thoughts(self) -> list[Frame]:
        frames: list[Frame] = []
        for position in self._thoughts.values():
            if position in self._done:
                continue
            item = self._items[position]
            at = {"output_index": position, "item_id": item["id"], "summary_index": 0}
            if item["summary"]:
                text = item["summary"][0]["text"]
                frames.append(self._frame("response.reasoning_summary_text.done", text=text, **at))
                frames.append(self._frame("response.reasoning_summary_part.done", part=dict(item["summary"][0]), **at))
            frames += self._item_done(position)
        return frames

    def _call(self, event: ToolCallDelta) -> list[Frame]:
        frames: list[Frame] = []
        if event.index not in self._calls:
            frames += self._close_message() + self._close_thoughts()
            self._calls[event.index] = len(self._items)
            head = {"id": f"fc_{ulid()}", "type": "function_call", "status": "in_progress", "arguments": ""}
            frames += self._add({**head, "call_id": event.id or f"call_{ulid()}", "name": event.name or ""})
        position = self._calls[event.index]
        item = self._items[position]
        item["arguments"] += event.arguments
        if event.arguments:
            at = {"output_index": position, "item_id": item["id"]}
            frames.append(self._frame("response.function_call_arguments.delta", delta=event.arguments, **at))
        return frames

    def _end(self, finish: Finish, extension: Mapping[str, object] | None) -> list[Frame]:
        incomplete = finish.reason in {"length", "content_filter"}
        status = "incomplete" if incomplete else "completed"
        frames = self._close_thoughts() + self._close_message(status)
        for position in self._calls.values():
            item = self._items[position]
            at = {"output_index": position, "item_id": item["id"], "name": item["name"]}
            frames.append(self._frame("response.function_call_arguments.done", arguments=item["arguments"], **at))
            frames += self._item_done(position, status)
        self.document = self._response(status, finish, extension=extension)
        return [*frames, self._frame(f"response.{status}", response=self.document)]


def _text_part() -> dict[str, Any]:
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _logprobs(event: TextDelta) -> list[dict[str, Any]]:
    content = (event.logprobs or {}).get("content")
    given = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    return [{"bytes": [], "top_logprobs": [], **entry} for entry in given]


def _short(logprobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: entry[name] for name in ("token", "logprob", "top_logprobs") if name in entry} for entry in logprobs]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def queued(asked: Asked) -> dict[str, Any]:
    """The answer to `asked` before it is begun; the options `id` and `created_at` of a later one make it the same."""
    return _Reply(asked).queued()


def broken(asked: Asked, error: InterlockError) -> dict[str, Any]:
    """The answer to `asked` after an error that no answer can be expected after."""
    return _Reply(asked).broken(error)


plugin: Inbound = _Responses()
