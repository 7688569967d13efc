"""Hybrid index: passages with vectors and words, found by one reader's rights.

Derived data: it can be rebuilt from documents. The rights filter runs inside both legs, before the top k is taken;
a row that lists no readers is found by nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from interlock.core.ids import DocumentId, PassageId, TenantId

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Hit", "Index", "IndexRow", "IndexScope", "IndexStats"]


@dataclass(frozen=True, slots=True)
class IndexScope:
    """Where to look. There is no read without one."""

    tenant: TenantId
    collection: str
    """A place of rows with one embedder. A collection that goes over to another one has two, under two names."""
    embedder: str
    """Embedding-space id; rows of another space are invisible to the dense leg and refused on write."""


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One passage to be stored."""

    passage_id: PassageId
    document_id: DocumentId
    terms: str
    """Analysed text of the lexical leg: tokens joined by spaces, already stemmed and folded."""
    readers: frozenset[str]
    payload: bytes
    """Whatever the owner wants back with a hit (msgpack of the passage)."""
    vector: Sequence[float] | NDArray[np.float32]
    """L2-normalised."""


class Hit(NamedTuple):
    """One found row."""

    passage_id: PassageId
    document_id: DocumentId
    score: float
    """Dense leg: cosine similarity in [-1, 1]. Lexical leg: BM25, positive, higher is better."""
    payload: bytes


class IndexStats(NamedTuple):
    """Size of one collection."""

    passages: int
    documents: int
    size_bytes: int


class Index(Protocol):
    """One hybrid index."""

    async def apply(self, scope: IndexScope, *, upsert: Sequence[IndexRow], delete: Collection[DocumentId]) -> None:
        """Delete whole documents and insert rows in ONE transaction: a search sees all of it or nothing.

        Documents that appear in `upsert` are replaced whole. Raises: StorageFull, InvalidInput.
        """

    async def set_readers(self, scope: IndexScope, document: DocumentId, readers: frozenset[str]) -> None:
        """Change who may find a document, at once, without touching vectors."""

    async def dense(
        self,
        scope: IndexScope,
        vector: Sequence[float] | NDArray[np.float32],
        *,
        readers: frozenset[str],
        k: int,
        documents: Collection[DocumentId] | None = None,
    ) -> list[Hit]:
        """The `k` nearest readable rows by cosine, best first. k <= 4096.

        `documents` narrows the search to those documents before the top k is taken; None does not.
        """

    async def lexical(
        self,
        scope: IndexScope,
        terms: Sequence[str],
        *,
        readers: frozenset[str],
        k: int,
        documents: Collection[DocumentId] | None = None,
    ) -> list[Hit]:
        """The `k` best readable rows by BM25 over any of `terms`, best first. Terms are plain words, no syntax.

        `documents` as for `dense`. What a word weighs is counted over all rows of the collection that `readers` may
        read, and over no others: hits and scores are those of an index without the rest.
        """

    async def get(self, scope: IndexScope, passages: Collection[PassageId], *, readers: frozenset[str]) -> list[Hit]:
        """Readable rows by id, in no order, score 0. Unknown and unreadable ids are both simply absent."""

    async def document_passages(self, scope: IndexScope, document: DocumentId, *, readers: frozenset[str]) -> list[Hit]:
        """All readable rows of a document in insertion order, score 0."""

    async def stats(self, scope: IndexScope) -> IndexStats:
        """Size, for people and health checks."""

    async def check(self, tenant: TenantId) -> None:
        """Read through what is stored of a tenant; cheap enough for every ingest.

        Raises: Unavailable with code ``corrupt_index``: it is damaged, and better built again than searched.
        """

    async def scrub(self, tenant: TenantId) -> bool:
        """Leave nothing in the store's files of what was removed, as far as this program can see to it.

        Gives False where bytes of it may stay for a while: another process reads an older state, or the files are a
        server's.
        """

    async def drop(self, tenant: TenantId, collection: str | None = None) -> None:
        """Remove a collection, or with None everything of the tenant."""

    async def close(self) -> None:
        """Let go of resources."""
