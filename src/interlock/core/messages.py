"""The canonical conversation: what every wire format is decoded into and encoded from (N + M, never N x M)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from interlock.core.passages import Passage

__all__ = [
    "CacheTtl",
    "ChatEvent",
    "ChatRequest",
    "ChatResult",
    "FilePart",
    "Finish",
    "FinishReason",
    "ImagePart",
    "Message",
    "Native",
    "NativeDelta",
    "NativePart",
    "Only",
    "Part",
    "PromptUse",
    "PromptVariant",
    "Reasoning",
    "ReasoningDelta",
    "ReasoningPart",
    "Role",
    "TextDelta",
    "TextPart",
    "ToolCallDelta",
    "ToolCallPart",
    "ToolChoice",
    "ToolResultPart",
    "ToolSpec",
    "Usage",
    "count_of",
    "text_message",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]
CacheTtl = Literal["5m", "1h"]
"""How long a provider keeps the prompt up to and including the part that carries the mark."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str
    cache: CacheTtl | None = None
    citations: tuple[Mapping[str, object], ...] = ()
    """What Anthropic said it was taken from; goes back there unchanged, and is left out elsewhere."""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image, by URL or by bytes (exactly one is set)."""

    media_type: str
    url: str | None = None
    data: bytes | None = None
    detail: str | None = None
    """OpenAI's resolution hint: `low`, `high`, `auto`."""
    cache: CacheTtl | None = None


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file (also audio and video), by bytes, by a provider's file id, or by URL (exactly one is set)."""

    name: str
    media_type: str
    data: bytes | None = None
    file_id: str | None = None
    url: str | None = None
    cache: CacheTtl | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """What a model thought before it answered. Goes back unchanged to the API it came from, and to no other."""

    text: str
    origin: str
    """Wire family that made it: `openai`, `anthropic`, `google`, `bedrock`."""
    signature: str | None = None
    """The provider's proof or encrypted form of the thought, opaque to us."""
    redacted: bool = False
    """True when the provider withholds the text: `signature` is then all there is."""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """The model asks for a tool. `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str
    signature: str | None = None
    """Google's proof of the thought behind the call; opaque, sent back unchanged."""
    cache: CacheTtl | None = None


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a tool answered to the call `call_id`."""

    call_id: str
    content: tuple[TextPart | ImagePart | FilePart, ...]
    is_error: bool = False
    cache: CacheTtl | None = None


@dataclass(frozen=True, slots=True)
class NativePart:
    """A part that only one API knows: what a tool of the provider did and found, a document to be cited."""

    origin: str
    """Wire family that knows it: `anthropic`."""
    block: Mapping[str, object]
    """As it came, and as it goes."""
    param: str
    """Where in the request it stands, for errors."""


Part = TextPart | ImagePart | FilePart | ReasoningPart | ToolCallPart | ToolResultPart | NativePart


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


MOST_TOKENS = 1_000_000_000
"""More than any call uses."""


def count_of(value: object) -> int:
    """A count that a foreign service told. What is no count becomes one that is not plausible, None nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is None:
        return 0
    # JSON's 1e400 is read as infinity, and its 12.0 as a fraction.
    if isinstance(value, float) and value.is_integer() and abs(value) <= MOST_TOKENS:
        return int(value)
    return MOST_TOKENS + 1


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call.

    `input_tokens` includes `cached_tokens` (read from the provider's prompt cache) and `cache_write_tokens` (written to
    it); `output_tokens` includes `reasoning_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    """True when the provider gave no figures and we counted ourselves."""
    cache_write_tokens: int = 0
    unmetered: bool = False
    """True when the call is not sold by tokens and its provider gave no figures: no token price applies."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
            self.cache_write_tokens + other.cache_write_tokens,
            self.unmetered or other.unmetered,
        )

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    @property
    def is_plausible(self) -> bool:
        """False when a figure is negative or beyond what any call can use: a server's mistake, or its malice."""
        return (
            0 <= self.input_tokens <= MOST_TOKENS
            and 0 <= self.output_tokens <= MOST_TOKENS
            and 0 <= self.cached_tokens <= MOST_TOKENS
            and 0 <= self.cache_write_tokens <= MOST_TOKENS
            and 0 <= self.reasoning_tokens <= MOST_TOKENS
        )


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the model may call; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, object]
    strict: bool = False
    cache: CacheTtl | None = None
    native: Mapping[str, object] | None = None
    """The definition of a tool that the provider runs itself, as it came; see `ChatRequest.only` for whose it is."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto`, `none`, `required`, or `named` with the tool's `name`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much a model may think before it answers; a wire that knows only one of the two derives it from the other."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    budget_tokens: int | None = None
    summary: str | None = None
    """OpenAI's `auto`, `concise` or `detailed`: asks for the thoughts to be shown."""


@dataclass(frozen=True, slots=True)
class Native:
    """The request as the caller wrote it, for fields that only one API knows.

    An encoder of the same wire passes on those of its own list of known extra fields, and nothing else.
    """

    wire: str
    """`openai.chat`, `openai.responses`, `anthropic.messages` or `google.generate`."""
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Only:
    """Something in a request that one API alone can take: a target of another one is passed over."""

    origin: str
    """Wire family: `anthropic`."""
    param: str
    """The field that asks for it."""
    what: str
    """In words; never the caller's own."""


@dataclass(frozen=True, slots=True)
class PromptVariant:
    """A prompt's text for certain models."""

    name: str
    models: tuple[str, ...]
    """``provider/model``, with ``*`` and ``?``."""
    text: str


@dataclass(frozen=True, slots=True)
class PromptUse:
    """The app's prompt that a request is sent under."""

    name: str
    version: str
    """Digest of the component."""
    text: str
    """What the first system message begins with."""
    variants: tuple[PromptVariant, ...] = ()
    """The first that fits a model is sent to it instead."""
    chosen: str = ""
    """Name of the variant that is sent, ``default`` of the text itself; empty until a model is known."""


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
    schema_name: str | None = None
    """What the caller calls `response_schema`."""
    schema_strict: bool = True
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    parallel_tool_calls: bool | None = None
    """None leaves it to the provider; False allows at most one call a turn."""
    reasoning: Reasoning | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """The caller's labels (OpenAI's and Anthropic's `metadata`): limits, budgets and spend may be split by them."""
    native: Native | None = None
    regions: tuple[str, ...] = ()
    """Where this request may be processed, when the caller restricts it; a route's own restriction holds as well."""
    only: tuple[Only, ...] = ()
    """What not every API can take."""
    logprobs: int | None = None
    """Alternatives wanted beside each token's probability; 0 for the token alone. APIs without them leave them out."""
    variables: Mapping[str, object] = field(default_factory=dict)
    """Values for the variables of the app's prompt, as the caller sent them: not checked yet."""
    prompt: PromptUse | None = None

    def for_target(self, target: str) -> ChatRequest:
        """The same call as ``provider/model`` is sent it: under the prompt's text for that model."""
        use = self.prompt
        if use is None or use.chosen:
            return self
        fits = (each for each in use.variants if any(fnmatchcase(target, pattern) for pattern in each.models))
        variant = next(fits, None)
        if variant is None:
            return replace(self, prompt=replace(use, chosen="default"))
        turns = list(self.messages)
        for place, turn in enumerate(turns):
            if turn.role == "system" and turn.parts and isinstance(turn.parts[0], TextPart):
                head = turn.parts[0]
                if head.text.startswith(use.text):
                    text = variant.text + head.text[len(use.text) :]
                    turns[place] = replace(turn, parts=(replace(head, text=text), *turn.parts[1:]))
                break
        return replace(self, messages=tuple(turns), prompt=replace(use, chosen=variant.name))

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
    logprobs: Mapping[str, object] | None = None
    """OpenAI's `logprobs` object of this piece, when probabilities were asked for and given."""
    refusal: bool = False
    """True for the text of a refusal, which some wires keep apart."""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks. Pieces of one thought share `index`; its `signature` comes with the last."""

    text: str
    origin: str
    index: int = 0
    signature: str | None = None
    redacted: bool = False
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the tool call at position `index`; `id` and `name` come once, `arguments` in pieces."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class NativeDelta:
    """A piece of an answer that only one API knows: a block that begins, or more of one. Exactly one of both is set.

    A `block` of the type ``text`` says that the text that follows is a block of its own.
    """

    origin: str
    """Wire family: `anthropic`."""
    index: int
    """Pieces of one block share it."""
    block: Mapping[str, object] | None = None
    delta: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of every successful stream."""

    reason: FinishReason
    usage: Usage
    model: str
    """The provider's own name of the model that answered."""
    stop_sequence: str | None = None
    """Which of the caller's stop sequences ended the answer, when the provider says so."""
    response_id: str | None = None
    """The provider's id of its answer."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further facts of the provider about its answer (`system_fingerprint`, `service_tier`, safety ratings)."""


ChatEvent = TextDelta | ReasoningDelta | ToolCallDelta | NativeDelta | Finish


@dataclass(frozen=True, slots=True)
class ChatResult:
    """A finished answer: the assistant message and how it ended."""

    message: Message
    finish: Finish
