"""Kept passages as rows of the index: no parser, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interlock.core.errors import NotFound, Unavailable
from interlock.core.ids import TenantId
from interlock.knowledge.analysers import analyse
from interlock.knowledge.history.kept import KeptPassages, decode_kept
from interlock.knowledge.payload import PassagePayload, passage_id
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import Chunk, DocumentInfo
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import IndexRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Restorer", "index_rows"]


def index_rows(info: DocumentInfo, text: str, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> list[IndexRow]:
    """A version's passages as the index stores them, in order. CPU only."""
    rows: list[IndexRow] = []
    for chunk, vector in zip(chunks, vectors, strict=True):
        passage = text[chunk.span.start : chunk.span.end]
        payload = PassagePayload(
            1, info.text_digest, chunk.span.start, chunk.span.end, chunk.page, chunk.heading, passage
        )
        rows.append(
            IndexRow(
                passage_id=passage_id(info.id, info.text_digest, chunk.span),
                document_id=info.id,
                terms=" ".join(analyse("\n".join(filter(None, (chunk.search_text, chunk.stressed))), info.languages)),
                readers=info.readers,
                payload=payload.encode(),
                vector=vector,
            )
        )
    return rows


class Restorer:
    """Gives what was kept of a version.

    Args:
        documents: knows where.
        blobs: hold it.
        embedder: the embedding space that is wanted.
    """

    def __init__(self, documents: DocumentStore, blobs: Blobs, *, embedder: str) -> None:
        self._documents = documents
        self._blobs = blobs
        self._embedder = embedder

    async def kept(self, tenant: TenantId, info: DocumentInfo) -> KeptPassages | None:
        """Passages of the version `info.text_digest`; None when they are not kept, are damaged, or have vectors of
        another embedder.
        """
        kept = await self.kept_in_any(tenant, info)
        return kept if kept is not None and kept.embedder == self._embedder else None

    async def kept_in_any(self, tenant: TenantId, info: DocumentInfo) -> KeptPassages | None:
        """The same, with vectors of whichever embedder."""
        digest = await self._documents.kept_digest(tenant, info.id, info.text_digest)
        if not digest:
            return None
        try:
            return decode_kept(await self._blobs.get(tenant, digest))
        except NotFound:
            return None
        except Unavailable as error:
            if error.code != "corrupt_object":
                raise
            return None

    async def rows(self, tenant: TenantId, info: DocumentInfo, kept: KeptPassages) -> list[IndexRow] | None:
        """Rows of the index; None when the text is not there."""
        try:
            text = (await self._blobs.get(tenant, info.text_digest)).decode()
        except NotFound:
            return None
        return index_rows(info, text, kept.chunks, kept.vectors)
