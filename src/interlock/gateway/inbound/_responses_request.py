"""What a caller of /v1/responses sends: the body, its items, and the turns they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.core.errors import InvalidInput
from interlock.core.ids import ulid
from interlock.core.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
)
from interlock.gateway.fields import Extension, Loose, file_from, image_at, parsed
from interlock.gateway.inbound._free_text import arguments_of, free_text_tool
from interlock.gateway.ports import FileSearchTool

__all__ = [
    "FILE_RESULTS",
    "FILE_SEARCH",
    "LOGPROBS",
    "ORIGIN",
    "Request",
    "checked_items",
    "conversation_of",
    "input_items",
    "read_choice",
    "read_file_search",
    "read_tool",
    "read_turns",
    "reference_of",
    "refuse_unsupported",
    "schema_of",
    "turns_of",
]

# Any in this module: JSON objects, narrowed field by field on their way in.
ORIGIN = "openai"
_MAX_ITEMS = 4_000
_MAX_ID = 128
FILE_SEARCH = "file_search"
FILE_RESULTS = "file_search_call.results"
LOGPROBS = "message.output_text.logprobs"


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
    input: str | None = None
    """Of a call of a custom tool."""
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
    format: dict[str, Any] | None = None
    """Of a custom tool."""
    vector_store_ids: list[str] | None = None
    max_num_results: int | None = None
    filters: dict[str, Any] | None = None
    ranking_options: dict[str, Any] | None = None


class _Ranking(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: float = Field(default=0.0, ge=0, le=1)


class _FileSearch(Loose):
    """A tool `file_search`."""

    vector_store_ids: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(min_length=1, max_length=8)
    max_num_results: int = Field(default=20, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: _Ranking = _Ranking()


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


class Request(Loose):
    """A body of responses."""

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
    interlock: Extension | None = None
    include: list[str] | None = Field(default=None, max_length=32)
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)


def conversation_of(given: str | dict[str, Any] | None) -> str | None:
    """Id of the conversation that a request belongs to. Raises: InvalidInput."""
    identity = given.get("id") if isinstance(given, dict) else given
    if given is not None and not (isinstance(identity, str) and 1 <= len(identity) <= _MAX_ID):
        raise InvalidInput("conversation is an id, or an object with one", param="conversation")
    return identity


def refuse_unsupported(given: Request) -> None:
    """Raise InvalidInput for what is not served here, naming the field."""
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


_PREFIX = {
    "message": "msg", "file_search_call": "fs", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs",
    "custom_tool_call": "ctc", "custom_tool_call_output": "ctco",
}  # fmt: skip


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
    read_turns(given.items, "items")
    return input_items(raw)


def turns_of(items: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages of items that were decoded or written here before."""
    return read_turns([_Item.model_validate(item) for item in items])


def read_turns(given: str | Sequence[_Item], param: str = "input") -> list[Message]:
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
        if item.type == "file_search_call":
            # What it found stands in the answer that follows; a further search finds it again, by today's rights.
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
        case "custom_tool_call":
            if not item.call_id or not item.name:
                raise InvalidInput(f"{where} needs call_id and name", param=where)
            return "assistant", (ToolCallPart(item.call_id, item.name, arguments_of(item.input or "")),)
        case "function_call_output" | "custom_tool_call_output":
            if not item.call_id or item.output is None:
                raise InvalidInput(f"{where} needs call_id and output", param=where)
            parts = _contents(item.output, f"{where}.output")
            content = tuple(part for part in parts if isinstance(part, (TextPart, ImagePart, FilePart)))
            return "tool", (ToolResultPart(item.call_id, content),)
        case "reasoning":
            text = "\n\n".join(part.text for part in item.summary or ())
            thought = ReasoningPart(text, ORIGIN, signature=item.encrypted_content, id=item.id)
            return "assistant", (thought,)
    raise InvalidInput(
        f"{where}.type is an item this gateway does not pass on",
        param=f"{where}.type",
        hint="message, function_call, function_call_output, custom_tool_call, custom_tool_call_output, "
        "file_search_call, reasoning and item_reference are",
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


def read_tool(index: int, tool: _Tool) -> ToolSpec:
    """One tool. Raises: InvalidInput: it is a server's own."""
    if tool.type == "custom" and tool.name:
        return free_text_tool(tool.name, tool.description, tool.format, f"tools[{index}]")
    if tool.type not in {"function", "custom"}:
        raise InvalidInput(
            f"tools[{index}].type is a tool that the provider runs itself, which this gateway does not pass on",
            param=f"tools[{index}].type",
            hint="use tools of the types 'function', 'custom' and 'file_search'",
        )
    if not tool.name:
        raise InvalidInput(f"tools[{index}].name is missing", param=f"tools[{index}].name")
    # This API's default is strict; the other one's is not.
    return ToolSpec(tool.name, tool.description or "", tool.parameters or {}, tool.strict is True)


def read_file_search(tools: Sequence[_Tool]) -> FileSearchTool | None:
    """The tool of this type, if there is one. Raises: InvalidInput: naming its field; there are several."""
    places = [index for index, tool in enumerate(tools) if tool.type == FILE_SEARCH]
    if not places:
        return None
    param = f"tools[{places[-1]}]"
    if len(places) > 1:
        raise InvalidInput("one file_search is enough: it takes several vector stores", param=param)
    try:
        given = parsed(_FileSearch, tools[places[0]].model_dump(exclude_none=True))
    except InvalidInput as error:
        raise InvalidInput(error.message, param=f"{param}.{error.param}") from error
    ranking = given.ranking_options
    return FileSearchTool(
        param,
        tuple(dict.fromkeys(given.vector_store_ids)),
        given.max_num_results,
        ranking.score_threshold,
        given.filters,
    )


def read_choice(choice: str | dict[str, Any] | None) -> ToolChoice:
    """Which tool must be called. Raises: InvalidInput."""
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("required")
        case {"type": "file_search"}:
            return ToolChoice("named", FILE_SEARCH)
        case {"type": "function" | "custom", "name": str(name)}:
            return ToolChoice("named", name)
    raise InvalidInput(
        "tool_choice is 'auto', 'none', 'required' or {'type': 'function', 'name': …}", param="tool_choice"
    )


def schema_of(form: _Format | None) -> Mapping[str, object] | None:
    """The form that is asked for; empty: any JSON object."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {}
    if not form.schema_:
        raise InvalidInput("text.format needs a schema", param="text.format.schema")
    return form.schema_
