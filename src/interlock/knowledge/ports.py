"""What plugs into knowledge: connectors (places to bytes), loaders (bytes to text), chunkers, embedders, readers,
checkers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from interlock.core.context import Context
from interlock.core.errors import Conflict, InterlockError
from interlock.core.messages import ChatRequest
from interlock.core.ports import Embedder
from interlock.knowledge.types import Chunk, LoadedDocument, Progress, Reading, SupportCase, SupportScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from interlock.knowledge.settings import ChunkingSettings, EmbedderFacts
    from interlock.knowledge.sources import Source

__all__ = [
    "AskModel",
    "CallersEmbedder",
    "Checker",
    "CheckerPlugin",
    "Chunker",
    "Connector",
    "ConnectorPlugin",
    "CountTokens",
    "CursorExpired",
    "EmbedderPlugin",
    "Loader",
    "MadeVectors",
    "Reader",
    "ReaderPlugin",
    "ReportProgress",
    "ServedEmbedderPlugin",
    "SourceItem",
    "SourcePage",
    "Surroundings",
    "TunableChunker",
    "VectorModel",
]

CountTokens = Callable[[str], int]
"""Tokens of a text as the embedder counts them, without special tokens."""

ReportProgress = Callable[[Progress], Awaitable[None]]
"""Called between documents; raising from it stops the ingest, keeping what is committed."""


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One thing a source holds that becomes one document."""

    source: str
    """Path below the source, with ``/``: what globs match and citations name. Always the same for the same thing."""
    version: str = ""
    """Changes with the content (an etag, a commit, a time of change): the same one is not fetched again; empty when
    it is unknown, and then the bytes decide."""
    readers: frozenset[str] | None = None
    """Who may read it, when the source system says so (`Source.readers_for`); None when the rules of the file do."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Facts the source system states: author, address, state."""
    name_hint: str = ""
    """A file name that says which loader reads it; empty when `source` does."""
    error: InterlockError | None = None
    """Why it must not be fetched; it is listed as failed."""


@dataclass(frozen=True, slots=True)
class SourcePage:
    """A part of a listing."""

    items: Sequence[SourceItem] = ()
    removed: Sequence[str] = ()
    """Paths of what is gone, as an incremental listing names them."""
    cursor: str | None = None
    """Where a later listing goes on, once the items up to here are stored. Opaque, without secrets, 8 MB at most."""
    complete: bool = False
    """On the last page of a full listing: whatever it did not name is gone."""
    certain: bool = False
    """It is known that what is missing was taken out on purpose, even when that is everything."""


class CursorExpired(Conflict):
    """The source cannot go on from this cursor: everything is listed again."""

    code = "cursor_expired"


class Connector(Protocol):
    """One open source. Used by one run at a time."""

    def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """What is there (None), or what changed since `cursor`. Network or disk.

        A full listing sets `complete` on its last page and gives a cursor there only. When a part of the source
        cannot be listed it raises: what is not listed must never look as if it were gone.

        Raises: Unavailable, Unauthenticated, Forbidden, LimitExceeded, InvalidInput: the source cannot be listed.
        CursorExpired: ask again with None.
        """

    async def fetch(self, item: SourceItem) -> bytes:
        """The bytes of an item of the page given last, at most `Surroundings.max_bytes`. Network or disk.

        Raises: InvalidInput, TooLarge, NotFound: this item cannot be had, the others can. Anything else of the
        listing's errors: the source is away.
        """

    async def aclose(self) -> None:
        """Give back connections and temporary files."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connector gets from where it runs."""

    max_bytes: int
    """No item may be larger."""
    environ: Mapping[str, str]
    """Where secrets are, by the names that the source file gives."""


class ConnectorPlugin(Protocol):
    """One kind of source. Built-ins are the files of ``knowledge/connectors``."""

    @property
    def model(self) -> type[Source]:
        """Its fields in a source file."""

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        """Give a connector for one source, an instance of `model`; cheap, nothing is contacted.

        Raises: Misconfigured: a secret it names is not in the environment.
        """


class Loader(Protocol):
    """Reads one family of formats. Built-ins are the files of ``knowledge/loaders``."""

    @property
    def version(self) -> str:
        """Changes when the same bytes would give another text: ``markdown/1``."""

    @property
    def suffixes(self) -> frozenset[str]:
        """Lower-case file suffixes with the dot."""

    @property
    def isolated(self) -> bool:
        """True when parsing must happen in a worker process with time and memory limits (native or zipped formats)."""

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """Extract the text. CPU only; no network, no files.

        Args:
            data: the whole file.
            name: its path, for messages and the fallback title.

        Raises: InvalidInput or TooLarge with `param` = `name`; MissingExtra.
        """


class Chunker(Protocol):
    """Splits a document into the spans that become passages."""

    @property
    def version(self) -> str:
        """Changes when the same document would be split differently."""

    def chunk(self, document: LoadedDocument, *, count_tokens: CountTokens, max_tokens: int) -> Sequence[Chunk]:
        """Chunks in order; spans never overlap and every `search_text` has at most `max_tokens` tokens."""


@runtime_checkable
class TunableChunker(Chunker, Protocol):
    """A chunker that takes settings."""

    def tuned(self, settings: ChunkingSettings) -> Chunker:
        """The same with other settings; its `version` says which."""


class EmbedderPlugin(Protocol):
    """Opens one embedding model from disk."""

    def open(self, models: Path, *, threads: int, model: str = "") -> Embedder:
        """Give the embedder; cheap, the weights load on first use.

        Args:
            models: the folder that `interlock models fetch` fills, one folder a model.
            threads: CPU threads of one batch.
            model: which one, for plug-ins that open several.

        Raises: InvalidInput: it needs `model`.
        """


class MadeVectors(NamedTuple):
    """What a model of the gateway made of texts."""

    vectors: Sequence[Sequence[float]]
    """In input order, of any length."""
    tokens: int
    """As the provider counts them."""


class VectorModel(Protocol):
    """Makes vectors by models that the gateway reaches, on the caller's bill."""

    async def vectors(self, ctx: Context, model: str, texts: Sequence[str]) -> MadeVectors:
        """One vector a text. Retries, fallbacks, limits and budgets are the gateway's.

        Raises: InvalidInput, LimitExceeded, DeadlineExceeded, ProviderError, Unavailable.
        """


@runtime_checkable
class ServedEmbedderPlugin(Protocol):
    """Opens embedders whose models the gateway reaches."""

    def open_served(self, model: str, facts: EmbedderFacts, vectors: VectorModel) -> Embedder:
        """Give the embedder; nothing is asked of the model yet. Raises: InvalidInput: no `model`."""


@runtime_checkable
class CallersEmbedder(Protocol):
    """An embedder that is paid for: by whoever it works for."""

    def for_caller(self, ctx: Context) -> Embedder:
        """The same embedder, for one caller."""


class Reader(Protocol):
    """Judges whether a sentence answers a question, by reading both together."""

    @property
    def id(self) -> str:
        """Identity of its weights; releases pin it."""

    async def read(self, pairs: Sequence[Reading]) -> NDArray[np.float32]:
        """``(len(pairs),)`` float32 logits in input order. CPU heavy; runs off the event loop.

        Raises: ModelMissing, MissingExtra, Misconfigured (damaged weights).
        """


class ReaderPlugin(Protocol):
    """Opens one reader from disk."""

    def open(self, models: Path, *, threads: int) -> Reader:
        """Give the reader; cheap, the weights load on first use. Arguments as of an embedder."""


AskModel = Callable[[ChatRequest], Awaitable[str | None]]
"""One call of the model that judges, on the caller's bill and within its time; None when it failed or time is out."""


class Checker(Protocol):
    """Says whether passages say what claims say."""

    @property
    def id(self) -> str:
        """Identity of its weights or its prompt and model; releases pin it."""

    @property
    def threshold(self) -> float:
        """Probability from which a claim counts as supported, where an app names none."""

    async def check(self, cases: Sequence[SupportCase], ask: AskModel | None = None) -> Sequence[SupportScore]:
        """One score a case, in input order, each probability in [0, 1]. Runs off the event loop where it computes.

        Args:
            ask: a model, for checkers that ask one.

        A model that does not answer, or not in the words asked for, gives probability 0 with the reason ``unjudged``.
        Raises: ModelMissing, MissingExtra, Misconfigured (damaged weights).
        """


class CheckerPlugin(Protocol):
    """Opens one checker."""

    needs_model: bool
    """True when `check` must be given `ask`."""

    def open(self, name: str, *, models: Path, threads: int) -> Checker:
        """Give the checker; cheap, weights load on first use.

        Args:
            name: which of its models: a folder below `models`, a target; empty for a checker with one of its own.
            models: the folder that `interlock models fetch` fills and that users put their own models into.
            threads: CPU threads of one batch.

        Raises: Misconfigured: `name` is missing, not wanted, or leads out of `models`.
        """
