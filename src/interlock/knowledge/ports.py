"""What plugs into knowledge: loaders (bytes to text), chunkers (text to passages), embedders (text to vectors)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from interlock.core.ports import Embedder
from interlock.knowledge.types import Chunk, LoadedDocument, Progress, Reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Chunker", "CountTokens", "EmbedderPlugin", "Loader", "Reader", "ReaderPlugin", "ReportProgress"]

CountTokens = Callable[[str], int]
"""Tokens of a text as the embedder counts them, without special tokens."""

ReportProgress = Callable[[Progress], Awaitable[None]]
"""Called between documents; raising from it stops the ingest, keeping what is committed."""


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


class EmbedderPlugin(Protocol):
    """Opens one embedding model from disk."""

    def open(self, models: Path, *, threads: int) -> Embedder:
        """Give the embedder; cheap, the weights load on first use.

        Args:
            models: the folder that `interlock models fetch` fills, one folder a model.
            threads: CPU threads of one batch.
        """


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
