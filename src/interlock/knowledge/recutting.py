"""A collection's documents cut otherwise, into an index beside: what a trial of other chunking searches.

Texts and layouts are those that were kept when the documents were read; nothing is fetched or parsed. The registry,
and with it every right, stays the one there is. Passages have no written contexts (`cleaning.context`).
"""

from __future__ import annotations

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ports import Embedder
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.history.restoring import index_rows
from interlock.knowledge.ports import Chunker, ReportProgress
from interlock.knowledge.preparing import again
from interlock.knowledge.shaping import Cutter
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import Progress
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index, IndexRow, IndexScope

__all__ = ["Recutter"]

_ROWS_AT_ONCE = 256
"""Passages of one transaction."""
_EMBED_AT_ONCE = 32


class Recutter:
    """Cuts collections otherwise.

    Args:
        documents: the registry.
        cleaned: layouts, and what is left out.
        blobs: texts.
        chunker: cuts.
        embedder: makes the vectors.
        index: the one beside; never the collection's own.
        scope: where the collection's passages stand in its own index, and so will in that one.
    """

    def __init__(
        self,
        documents: DocumentStore,
        cleaned: CleanedStore,
        blobs: Blobs,
        *,
        chunker: Chunker,
        embedder: Embedder,
        index: Index,
        scope: IndexScope,
    ) -> None:
        self._documents = documents
        self._cleaned = cleaned
        self._blobs = blobs
        self._embedder = embedder
        self._index = index
        self._scope = scope
        self._cutter = Cutter(chunker, embedder)

    async def recut(self, ctx: Context, collection: str, progress: ReportProgress | None = None) -> int:
        """Write every document that can be found; gives the number of passages.

        Raises: InvalidInput: what it was cut from was not kept, as of documents read by an older version.
        """
        stored = [s for s in await self._documents.documents(ctx.tenant, collection) if s.info.passages]
        rows: list[IndexRow] = []
        written = 0
        for number, one in enumerate(stored, 1):
            cleaned = (await self._cleaned.by_id(ctx.tenant, [one.info.id])).get(one.info.id)
            if cleaned is None or not cleaned.layout or cleaned.text_digest != one.info.text_digest:
                raise InvalidInput(
                    f"the layout of {one.info.source!r} was not kept, so it cannot be cut otherwise",
                    param="collection",
                    hint="ingest the collection once more, then tune it",
                )
            try:
                text = (await self._blobs.get(ctx.tenant, cleaned.text_digest)).decode()
            except NotFound:
                continue  # erased since
            whole = await to_thread.run_sync(again, one, cleaned, text, self._cutter)
            texts = [chunk.search_text for chunk in whole.chunks]
            vectors = [
                await self._embedder.embed(texts[start : start + _EMBED_AT_ONCE], "passage")
                for start in range(0, len(texts), _EMBED_AT_ONCE)
            ]
            if vectors:
                import numpy as np

                rows += await to_thread.run_sync(index_rows, one.info, text, whole.chunks, np.concatenate(vectors))
            if len(rows) >= _ROWS_AT_ONCE or number == len(stored):
                await self._index.apply(self._scope, upsert=rows, delete=())
                written += len(rows)
                rows = []
            if progress is not None:
                await progress(Progress(number, len(stored), one.info.source))
        return written
