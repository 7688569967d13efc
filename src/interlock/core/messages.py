"""The canonical conversation: what every wire format is decoded into and encoded from (N + M, never N x M)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from interlock.core.passages import Passage

__all__ = [
    "ChatEvent",
    "ChatRequest",
    "ChatResult",
    "FilePart",
    "Finish",
    "FinishReason",
    "ImagePart",
    "Message",
    "Part",
    "Role",
    "TextDelta",
    "TextPart",
    "ToolCallDelta",
    "ToolCallPart",
    "ToolChoice",
    "ToolResultPart",
    "ToolSpec",
    "Usage",
    "text_message",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image, by URL or by bytes (exactly one is set)."""

    media_type: str
    url: str | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file, by bytes or by a provider's file id (exactly one is set)."""

    name: str
    media_type: str
    data: bytes | None = None
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """The model asks for a tool. `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a tool answered to the call `call_id`."""

    call_id: str
    content: tuple[TextPart | ImagePart, ...]
    is_error: bool = False


Part = TextPart | ImagePart | FilePart | ToolCallPart | ToolResultPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Part order is the order on the wire."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """All text parts joined, without separator."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


def text_message(role: Role, text: str) -> Message:
    """A message of one text part."""
    return Message(role, (TextPart(text),))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `input_tokens` includes `cached_tokens`; `output_tokens` includes `reasoning_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    """True when the provider gave no figures and we counted ourselves."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the model may call; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, object]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto`, `none`, `required`, or `named` with the tool's `name`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat call in canonical form."""

    model: str
    """What the caller asked for: ``app/NAME``, ``route/NAME`` or ``provider/model``."""
    messages: tuple[Message, ...]
    stream: bool = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    response_schema: Mapping[str, object] | None = None
    """JSON Schema the answer must satisfy; ``{}`` asks for any JSON object."""
    passages: tuple[Passage, ...] = ()
    """Evidence already in the prompt, best first, for models that quote instead of generating."""
    user_hint: str | None = None
    """OpenAI's `user`: kept for abuse tracing, never authority."""

    def with_model(self, model: str) -> ChatRequest:
        """The same call to another model."""
        return replace(self, model=model)

    @property
    def last_user_text(self) -> str:
        """Text of the newest user message, or an empty string."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the tool call at position `index`; `id` and `name` come once, `arguments` in pieces."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of every successful stream."""

    reason: FinishReason
    usage: Usage
    model: str
    """The provider's own name of the model that answered."""


ChatEvent = TextDelta | ToolCallDelta | Finish


@dataclass(frozen=True, slots=True)
class ChatResult:
    """A finished answer: the assistant message and how it ended."""

    message: Message
    finish: Finish
