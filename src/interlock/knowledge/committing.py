"""A batch of prepared documents is stored: blobs, then the index in one transaction, then the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from interlock.core.ids import DocumentId, TenantId
from interlock.core.ports import Embedder
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.desk import Embedded
from interlock.knowledge.history.kept import encode_kept
from interlock.knowledge.history.restoring import Restorer, index_rows
from interlock.knowledge.preparing import Prepared, passages_digest
from interlock.knowledge.spaces.service import Beside
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index, IndexRow, IndexScope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Committer", "EmbedTexts", "Made", "Written"]

_EMBED_AT_ONCE = 128
"""Texts handed to the embedder at once: cancelling and progress take effect between two such calls."""


EmbedTexts = Callable[[Sequence[str]], Awaitable[Embedded]]
"""Embeds passages, wherever."""


class Made(NamedTuple):
    """A batch that is embedded and not stored."""

    batch: Sequence[Prepared]
    digests: Sequence[str]
    """Of the passages of each."""
    written: Sequence[Prepared]
    """Those whose passages are written."""
    vectors: Sequence[NDArray[np.float32]]
    """Of each of them."""
    tokens: int
    """Embedded for it."""


class Written(NamedTuple):
    """What a batch cost."""

    passages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Committer:
    """Stores documents of one collection."""

    documents: DocumentStore
    cleaned: CleanedStore
    blobs: Blobs
    index: Index
    embedder: Embedder
    scope: IndexScope
    """Of the space that answers."""
    beside: Beside
    """Spaces that do not."""
    embed_texts: EmbedTexts | None = None
    """Embeds on workers; the embedder itself does where this is None."""

    @property
    def _tenant(self) -> TenantId:
        return self.scope.tenant

    async def commit(
        self, batch: Sequence[Prepared], tell: Callable[[str], Awaitable[None]] | None = None, *, rebuild: bool = False
    ) -> Written:
        """Embed and store a batch. Passages that are in the index as they are to be are not embedded again.

        Args:
            batch: of different documents.
            tell: is told of the progress.
            rebuild: the index may have lost rows: all are written.
        """
        return await self.store(await self.made(batch, tell, rebuild=rebuild))

    async def made(
        self, batch: Sequence[Prepared], tell: Callable[[str], Awaitable[None]] | None = None, *, rebuild: bool = False
    ) -> Made:
        """Embed a batch, and store nothing yet. Arguments as of `commit`."""
        if not batch:
            return Made((), (), (), (), 0)
        ids = [one.record.info.id for one in batch]
        registered = await self.documents.by_id(self._tenant, ids)
        before = {} if rebuild else await self.cleaned.by_id(self._tenant, ids)
        digests = [passages_digest(one.chunks, one.record, self.embedder.id) for one in batch]
        written: list[Prepared] = []
        for one, digest in zip(batch, digests, strict=True):
            known, old = before.get(one.record.info.id), registered.get(one.record.info.id)
            # A run that ended between its two commits noted what it wrote, but the version before may have been put
            # back since: the index is trusted only where the registry says the same.
            is_there = known is not None and old is not None and old.text_digest == one.record.info.text_digest
            if one.chunks and not (is_there and known is not None and known.passages_digest == digest):
                written.append(one)
        vectors, tokens = await self._vectors(written, registered, tell)
        return Made(batch, digests, written, vectors, tokens)

    async def store(self, made: Made) -> Written:
        """Store a batch that was made: blobs, the index, the registry."""
        batch, digests, written, vectors, tokens = made
        if not batch:
            return Written(0, 0)
        for one in batch:
            await self._keep(one)
        rows: list[IndexRow] = []
        kept: dict[DocumentId, str] = {}
        for one, own in zip(written, vectors, strict=True):
            info, text = one.record.info, one.document.text
            data = encode_kept(one.chunks, own, embedder=self.embedder.id, fingerprint=info.fingerprint)
            kept[info.id] = await self.blobs.put(self._tenant, data)
            rows.extend(await to_thread.run_sync(index_rows, info, text, one.chunks, own))
        hidden = [one.record.info.id for one in batch if not one.chunks]
        records = [one.record._replace(kept_digest=kept.get(one.record.info.id)) for one in batch]
        replaced = await self.documents.announce(self._tenant, [record for record in records if record.kept_digest])
        if rows or hidden:
            await self.index.apply(self.scope, upsert=rows, delete=hidden)
        await self.cleaned.save(
            self._tenant,
            batch[0].record.info.collection,
            [replace(one.cleaned, passages_digest=digest) for one, digest in zip(batch, digests, strict=True)],
        )
        unused = await self.documents.save(self._tenant, records, embedder=self.embedder.id)
        for digest in {*replaced, *unused}:
            await self.blobs.delete(self._tenant, digest)
        await self.beside.follow([one.record.info.id for one in batch])
        return Written(len(rows), tokens)

    async def _keep(self, one: Prepared) -> None:
        if one.outcome == "again":
            return  # it is kept already
        if one.raw:
            await self.blobs.put(self._tenant, one.raw)
        await self.blobs.put(self._tenant, one.document.text.encode())
        if one.boxes:
            await self.blobs.put(self._tenant, one.boxes)

    async def _vectors(
        self,
        written: Sequence[Prepared],
        registered: Mapping[DocumentId, DocumentInfo],
        tell: Callable[[str], Awaitable[None]] | None,
    ) -> tuple[list[NDArray[np.float32]], int]:
        """Of each document's passages, and how many tokens were embedded: what is kept of a version is not again."""
        import numpy as np

        known: dict[str, NDArray[np.float32]] = {}
        restorer = Restorer(self.documents, self.blobs, embedder=self.embedder.id)
        new_ones = [one.record.info for one in written]
        versions = [info for new in new_ones if (info := registered.get(new.id)) is not None and info.text_digest]
        for info in (*versions, *new_ones):
            kept = await restorer.kept(self._tenant, info)
            if kept is not None:
                known.update(zip((chunk.search_text for chunk in kept.chunks), kept.vectors, strict=True))
        texts = [chunk.search_text for one in written for chunk in one.chunks]
        new = list(dict.fromkeys(text for text in texts if text not in known))
        found_new, tokens = await self._embed(new, tell)
        known.update(zip(new, found_new, strict=True))
        found = [np.stack([known[chunk.search_text] for chunk in one.chunks]) for one in written]
        return found, tokens

    async def _embed(self, texts: Sequence[str], tell: Callable[[str], Awaitable[None]] | None) -> Embedded:
        import numpy as np

        parts: list[NDArray[np.float32]] = [np.zeros((0, self.embedder.dimensions), dtype=np.float32)]
        tokens = 0
        for start in range(0, len(texts), _EMBED_AT_ONCE):
            part = texts[start : start + _EMBED_AT_ONCE]
            vectors, counted = await (self.embed_texts or self._embed_here)(part)
            parts.append(vectors)
            tokens += counted
            if tell is not None:
                await tell(f"{start + len(part)} of {len(texts)} passages of this batch embedded")
        return Embedded(np.concatenate(parts), tokens)

    async def _embed_here(self, texts: Sequence[str]) -> Embedded:
        vectors = await self.embedder.embed(texts, "passage")
        return Embedded(vectors, await to_thread.run_sync(lambda: sum(map(self.embedder.count_tokens, texts))))
