"""What plugs into the gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import ChatEvent, ChatRequest, Usage
from interlock.core.passages import Passage
from interlock.core.ports import Embedder, Quoter
from interlock.gateway.settings import ProviderSettings

__all__ = [
    "Asked",
    "CountsTokens",
    "EmbedInput",
    "EmbedsTokens",
    "Fault",
    "FileCited",
    "FileSearchTool",
    "FileSearched",
    "Forwarding",
    "Forwards",
    "Frame",
    "Inbound",
    "Lacking",
    "ModelFiles",
    "Moderated",
    "Moderates",
    "PostFactory",
    "Provider",
    "ProviderDeps",
    "ProviderFactory",
    "Ranked",
    "RelayAnswer",
    "RelayCall",
    "Relays",
    "Replier",
    "ReplyEvent",
    "Reranked",
    "Reranks",
    "Rewrite",
    "Warmable",
    "only_texts",
]


class ModelFiles(Protocol):
    """Local weights."""

    def file(self, model: str, role: str) -> Path:
        """Path of one file of an installed model. Raises: ModelMissing."""

    def names(self, kind: str) -> Sequence[str]:
        """Installed models of a kind (`chat`, `embedding`)."""


@dataclass(frozen=True, slots=True)
class ProviderDeps:
    """What a provider may need besides its settings."""

    files: ModelFiles
    quoter: Quoter | None
    embedders: Mapping[str, Embedder]
    environ: Mapping[str, str]


EmbedInput = str | tuple[int, ...]
"""One thing to embed: a text, or the token numbers that the model's own tokenizer made of it."""


class Provider(Protocol):
    """One configured provider."""

    def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """One try, no retries. `request.model` is what the caller asked for; `model` is what this provider calls it.

        Yields deltas, then exactly one Finish. Closing it stops the upstream work.
        Raises: ProviderError and its kin before or between events.
        """

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """Vectors in input order and the tokens read. Raises: InvalidInput when it has no embeddings."""

    async def models(self) -> Sequence[str]:
        """Models that can be asked for now."""

    async def close(self) -> None:
        """Let go of connections and memory."""


@runtime_checkable
class Warmable(Protocol):
    """A provider that can load a model ahead of the first request."""

    async def warm(self, model: str) -> None:
        """Load `model` now. Raises: ModelMissing."""


@runtime_checkable
class Proves(Protocol):
    """A provider that proves to somebody else who is calling."""

    async def prove(self) -> None:
        """Look whether what its calls are signed with can be read. Asks secret stores and logins, never the provider.

        Raises: Misconfigured: it is not there; Unavailable: what holds it is down.
        """


@runtime_checkable
class EmbedsTokens(Protocol):
    """A provider whose embedding models take token numbers in place of texts."""

    async def embed_tokens(
        self, ctx: Context, tokens: Sequence[tuple[int, ...]], model: str
    ) -> tuple[list[list[float]], int]:
        """As `Provider.embed`. Raises: InvalidInput naming `input`: this server takes only texts."""


def only_texts(provider: str) -> InvalidInput:
    """What a caller is told who sent token numbers to a provider that has no use for them."""
    return InvalidInput(
        f"provider {provider!r} embeds only texts, no token numbers",
        param="input",
        hint="send texts; LangChain's OpenAIEmbeddings does so with check_embedding_ctx_length=False",
    )


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a rerank call."""

    index: int
    """Position in the call's documents."""
    score: float
    """The provider's relevance, larger is better; scales of two models do not compare."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """Answer of a rerank call, best first."""

    rows: Sequence[Ranked]
    usage: Usage
    searches: int = 0
    """Search units that some providers bill instead of tokens."""


@runtime_checkable
class Reranks(Protocol):
    """A provider with a reranking endpoint."""

    async def rerank(
        self, ctx: Context, query: str, documents: Sequence[str], model: str, *, limit: int | None
    ) -> Reranked:
        """The best `limit` documents (all when None). Raises: ProviderError and its kin."""


@dataclass(frozen=True, slots=True)
class Moderated:
    """Verdict on one input."""

    flagged: bool
    categories: Mapping[str, bool]
    scores: Mapping[str, float]


@runtime_checkable
class Moderates(Protocol):
    """A provider with a moderation endpoint."""

    async def moderate(self, ctx: Context, inputs: Sequence[str], model: str) -> Sequence[Moderated]:
        """One verdict an input, in input order. Raises: ProviderError and its kin."""


@dataclass(frozen=True, slots=True)
class RelayCall:
    """A call passed through as it is: audio and images. Bodies may be large, so both directions stream."""

    operation: Literal["transcription", "translation", "speech", "image_generation", "image_edit", "image_variation"]
    content_type: str
    body: bytes
    accept: str = "*/*"


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """Head of a relayed answer, and its body as it arrives. The iterator must be closed."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]


@runtime_checkable
class Relays(Protocol):
    """A provider that takes audio and image calls in OpenAI's form."""

    async def relay(self, ctx: Context, call: RelayCall, model: str) -> RelayAnswer:
        """Send once; a failure status raises ProviderError or LimitExceeded before any body is given."""


@runtime_checkable
class CountsTokens(Protocol):
    """A provider that counts a prompt's tokens itself."""

    async def count_tokens(self, ctx: Context, request: ChatRequest, model: str) -> int:
        """Input tokens of `request`. Raises: ProviderError and its kin."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How a request in a provider's own API is sent on without being translated."""

    url: str
    headers: Mapping[str, str]
    """All of them, the key included; host, length and connection are the sender's."""
    limit_field: str = "max_tokens"
    """Field that limits the output."""
    usage_on_request: bool = True
    """A stream tells its usage when asked to."""
    tools: bool = True
    json_schema: bool = True
    effort: bool = True
    """`reasoning_effort` is understood."""
    embeddings: bool = True
    fixed_sampling: bool = False
    """Temperature and its kin must not be sent."""
    marks_from: int = 0
    """Bytes of a body from which our own marks for the provider's prompt cache might help; 0 when it takes none."""
    all: bool = True
    """Rarer fields are understood as well: a seed, the user, parallel tool calls, vectors in base 64."""
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0


@runtime_checkable
class Forwards(Protocol):
    """A provider whose own API callers may speak: its requests can be sent on as they are."""

    async def forwarding(self, ctx: Context, wire: str, model: str) -> Forwarding | None:
        """Where and how to send a request of `wire` (``openai.chat``, ``openai.embeddings``, ``anthropic.messages``).

        None when this model's requests must be translated. Raises: Misconfigured, Unavailable: its key cannot be read.
        """


ProviderFactory = Callable[[str, ProviderSettings, ProviderDeps], Provider]
"""The symbol `plugin` of a provider file: (configured name, settings, dependencies) -> provider."""


@runtime_checkable
class Lacking(Protocol):
    """A provider whose server cannot do what its models could."""

    @property
    def lacks(self) -> frozenset[str]:
        """Of ``json_schema``, ``json_object``, ``tools``: what it does not take, whatever the model."""


@runtime_checkable
class TakesNative(Protocol):
    """A provider that takes what only its own API knows: tools that it runs itself, and what they found."""

    def takes_native(self, origin: str, model: str) -> bool:
        """True when parts and tools of the wire family `origin` can be sent to `model` as they came."""


Rewrite = Callable[[str], str]
"""Rewrites the text of a whole answer: the same text always becomes the same."""
PostFactory = Callable[[object], Rewrite]
"""The symbol `plugin` of a file in `post/`: options of the route -> rewrite. Raises: ValueError: what is wrong."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A decoded request, and what only its wire knows."""

    request: ChatRequest
    # Any: fields of one wire, read back by the codec that put them here.
    options: Mapping[str, Any] = field(default_factory=dict)


class Frame(NamedTuple):
    """One server-sent event. A text goes out as it is (``[DONE]``), a mapping as JSON."""

    data: Mapping[str, object] | str
    event: str | None = None


class Fault(NamedTuple):
    """An error in the words of one API."""

    status: int
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class FileSearchTool:
    """A tool `file_search`, as a caller asks for it."""

    param: str
    """Where it stands in the request."""
    stores: tuple[str, ...]
    limit: int
    threshold: float
    filters: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FileSearched:
    """How far a search is that this server makes for the model."""

    id: str
    state: Literal["in_progress", "searching", "completed", "failed"]
    queries: tuple[str, ...]
    results: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class FileCited:
    """A file that the text before it rests on."""

    file_id: str
    filename: str
    index: int
    """Characters of the message's text before it."""


ReplyEvent = ChatEvent | FileSearched | FileCited
"""What an answer is written from. Searches of files come only to the wire that asked for them."""


class Replier(Protocol):
    """Writes one answer, whole or in pieces. `extension` is the documented field ``interlock``."""

    document: Mapping[str, Any] | None
    """The finished answer as one object, once there is one. Any: JSON."""

    def whole(self, events: Sequence[ReplyEvent], extension: Mapping[str, object]) -> dict[str, Any]:
        """The answer as one object. `events` ends with a Finish. Any: JSON."""

    def frames(self, event: ReplyEvent, extension: Mapping[str, object] | None = None) -> list[Frame]:
        """What to send for one event; the first call also opens the stream and Finish also ends it."""

    def failed(self, error: InterlockError) -> list[Frame]:
        """What to send when the answer breaks off after its beginning."""


class Inbound(Protocol):
    """How one API's clients write requests and read answers: the symbol `plugin` of a file in `inbound/`."""

    name: str

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """Canonical form of a request body. `model` and `stream` are given where the address holds them.

        Raises: InvalidInput naming the field; values are never repeated.
        """

    def reply(self, asked: Asked) -> Replier:
        """A writer for the answer to `asked`."""

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """`error` as this API writes it."""
