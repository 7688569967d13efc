"""What a worker of an ingest has, and the two units it does: read a file, and embed texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from interlock.core.errors import Misconfigured
from interlock.core.ports import Embedder
from interlock.knowledge.chunkers import chunkers
from interlock.knowledge.cleaning.policy import Policy
from interlock.knowledge.cleaning.ports import Scanner
from interlock.knowledge.embedders import embedders
from interlock.knowledge.parsing import Parser
from interlock.knowledge.ports import Chunker, TunableChunker
from interlock.knowledge.settings import ChunkingSettings, KnowledgeSettings
from interlock.knowledge.shaping import Cutter, Shaped, shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Desk", "Embedded", "OpenDesk", "ReadTask", "embed", "open_chunker", "open_embedder", "read"]


@dataclass(frozen=True, slots=True)
class Desk:
    """A worker's state."""

    parser: Parser
    embedder: Embedder
    cutter: Cutter
    scanner: Scanner | None


@dataclass(frozen=True)
class OpenDesk:
    """Opens one desk a worker. Picklable when `embedder` and `scanner` are."""

    settings: KnowledgeSettings
    scanner: Scanner | None
    threads: int
    """CPU threads of the embedder of one worker."""
    chunking: ChunkingSettings
    """How the run's collection is cut."""
    reserve: int = 0
    """Tokens left free in every passage."""
    embedder: Embedder | None = None
    """An open one; None opens the one that the settings name."""

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Desk]:
        """See :class:`~interlock.stores.compute.base.Opening`."""
        settings = self.settings
        embedder = self.embedder or open_embedder(settings, self.threads)
        cutter = Cutter(open_chunker(settings, self.chunking), embedder, reserve=self.reserve)
        async with Parser(timeout_s=settings.parse_timeout_s, memory_bytes=settings.parse_memory_bytes) as parser:
            yield Desk(parser, embedder, cutter, self.scanner)


def open_chunker(settings: KnowledgeSettings, chunking: ChunkingSettings) -> Chunker:
    """The chunker that settings name, cutting as wanted. Raises: Misconfigured: it takes no settings."""
    plugin = chunkers.get(settings.chunker)
    if isinstance(plugin, TunableChunker):
        return plugin.tuned(chunking)
    if chunking != ChunkingSettings():
        raise Misconfigured(
            f"the chunker {settings.chunker!r} takes no settings",
            param="knowledge.chunking",
            hint="leave chunking out, or set knowledge.chunker to structural",
        )
    return plugin


def open_embedder(settings: KnowledgeSettings, threads: int) -> Embedder:
    """The embedder that settings name. Raises: MissingExtra, InvalidInput."""
    which = {"model": settings.embedder_model} if settings.embedder_model else {}
    return embedders.get(settings.embedder).open(Path(settings.models), threads=threads, **which)


class ReadTask(NamedTuple):
    """One file to read."""

    loader: str
    raw: bytes
    hint: str
    """Its name as the loader sees it."""
    path: str
    policy: Policy
    languages: tuple[str, ...]
    repeated: frozenset[bytes] | None
    """A guess at what many documents repeat; None leaves the cutting to the run."""


async def read(desk: Desk, task: ReadTask) -> Shaped:
    """Load and shape one file. Raises: InvalidInput, TooLarge, MissingExtra: this file cannot be taken."""
    loaded = await desk.parser.load(task.loader, task.raw, task.hint)
    cutter = None if task.repeated is None else desk.cutter
    return await to_thread.run_sync(
        lambda: shape(
            loaded,
            task.policy,
            desk.scanner,
            task.path,
            languages=task.languages,
            cutter=cutter,
            repeated=task.repeated or frozenset(),
        )
    )


class Embedded(NamedTuple):
    """Vectors of texts."""

    vectors: NDArray[np.float32]
    """``(n, dimensions)``, in the order of the texts."""
    tokens: int


async def embed(desk: Desk, texts: Sequence[str]) -> Embedded:
    """Embed passages. Raises: ModelMissing, MissingExtra, Misconfigured."""
    vectors = await desk.embedder.embed(texts, "passage")
    tokens = await to_thread.run_sync(lambda: sum(map(desk.embedder.count_tokens, texts)))
    return Embedded(vectors, tokens)
