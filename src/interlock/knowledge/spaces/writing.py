"""A space that does not answer is kept like the one that does, from kept passages: no file is read.

Order of a batch: vectors, their blob, what is known of the document, the index in one transaction, and last the note
that the index holds it, which looks at the registry again. Whatever stops it, what has a blob is never embedded again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from interlock.core.errors import InterlockError, InvalidInput, NotFound, StorageFull, Unavailable
from interlock.core.ids import DocumentId, TenantId
from interlock.core.ports import Embedder
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.history.kept import KeptPassages, decode_kept, encode_kept
from interlock.knowledge.history.restoring import index_rows
from interlock.knowledge.ports import Chunker
from interlock.knowledge.preparing import again, passages_digest
from interlock.knowledge.shaping import Cutter
from interlock.knowledge.spaces.store import SpaceStore, is_current
from interlock.knowledge.spaces.types import Known, OpenSpace, Refused
from interlock.knowledge.store import DocumentStore, StoredDocument
from interlock.knowledge.types import Chunk
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index, IndexRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Shelf", "SpaceWriter", "Wrote"]

_EMBED_AT_ONCE = 128
_log = logging.getLogger("interlock.knowledge")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where everything is."""

    spaces: SpaceStore
    documents: DocumentStore
    cleaned: CleanedStore
    blobs: Blobs
    index: Index
    """Without a mirror: these rows are of one space."""


@dataclass(slots=True)
class Wrote:
    """What was done."""

    documents: int = 0
    passages: int = 0
    embedded: int = 0
    tokens: int = 0
    cut_again: int = 0
    refused: list[Refused] = field(default_factory=list)


class _Wanted(NamedTuple):
    """One document that is to be written."""

    stored: StoredDocument
    made_of: str
    fingerprint: str
    chunks: Sequence[Chunk]
    vectors: NDArray[np.float32] | None
    """Those that were kept; None when some must be made."""
    known: Known | None


class SpaceWriter:
    """Writes documents of one collection to one space.

    Args:
        shelf: where everything is.
        tenant: whose they are.
        collection: which.
        space: open.
        chunker: cuts anew what has passages that are too long.
    """

    def __init__(self, shelf: Shelf, tenant: TenantId, collection: str, space: OpenSpace, chunker: Chunker) -> None:
        self._s = shelf
        self._tenant = tenant
        self._collection = collection
        self._space = space
        self._chunker = chunker
        self._vectors: dict[str, NDArray[np.float32]] = {}

    @property
    def space(self) -> OpenSpace:
        """What is written."""
        return self._space

    async def follow(self, ids: Collection[DocumentId]) -> None:
        """Write these as they are in the answering space now. What cannot be written is lacking, and noted.

        The space that answers does not wait for this one: a model that is away stops nothing but this.
        """
        try:
            wrote = await self.write(ids)
        except StorageFull:
            raise
        except InterlockError as error:
            _log.warning("a space of %s is behind: %s", self._collection, error.code)
            await self._note(error.code, error.message)
            return
        if wrote.refused:
            await self._note(wrote.refused[0].code, wrote.refused[0].message)

    async def _note(self, code: str, message: str) -> None:
        await self._s.spaces.change(
            self._tenant, self._collection, self._space.id, error_code=code, error_message=message[:500]
        )

    async def write(self, ids: Collection[DocumentId], tell: Callable[[str], Awaitable[None]] | None = None) -> Wrote:
        """Write these; those that are there are left as they are. A document that cannot be is refused by name.

        Raises: what the embedder raises, and the stores; what was written stays.
        """
        started, wrote = time.monotonic(), Wrote()
        tenant, collection, space = self._tenant, self._collection, self._space.id
        made_of = await self._s.spaces.made_of(tenant, collection, ids)
        known = await self._s.spaces.known(tenant, collection, space, ids)
        wanted: list[_Wanted] = []
        for document in sorted(made_of):
            stored = await self._s.documents.stored(tenant, document)
            if stored is None or not stored.info.passages:
                continue
            old = known.get(document)
            is_known = old is not None and is_current(old, stored.info.text_digest, made_of[document])
            if is_known and old is not None and old.written:
                continue
            one = await self._kept(stored, old, made_of[document]) if is_known and old is not None else None
            if one is None:
                try:
                    one = await self._cut(stored, old, made_of[document], wrote)
                except InvalidInput as error:
                    wrote.refused.append(Refused(stored.info.source, error.code, error.message))
                    continue
            wanted.append(one)
        try:
            await self._write(wanted, wrote, tell)
        finally:
            seconds = time.monotonic() - started
            await self._s.spaces.add_costs(tenant, collection, space, seconds=seconds, tokens=wrote.tokens)
            self._vectors.clear()
        return wrote

    async def _write(
        self, wanted: Sequence[_Wanted], wrote: Wrote, tell: Callable[[str], Awaitable[None]] | None
    ) -> None:
        import numpy as np

        embedder = self._space.embedder
        texts = [chunk.search_text for one in wanted if one.vectors is None for chunk in one.chunks]
        new = list(dict.fromkeys(text for text in texts if text not in self._vectors))
        for start in range(0, len(new), _EMBED_AT_ONCE):
            part = new[start : start + _EMBED_AT_ONCE]
            self._vectors.update(zip(part, await embedder.embed(part, "passage"), strict=True))
            wrote.embedded += len(part)
            wrote.tokens += await to_thread.run_sync(_tokens, embedder, part)
            if tell is not None:
                await tell(f"{start + len(part)} of {len(new)} passages of this batch embedded")
        rows: list[IndexRow] = []
        known: list[Known] = []
        readers: dict[DocumentId, tuple[str, frozenset[str]]] = {}
        for one in wanted:
            info = one.stored.info
            try:
                text = (await self._s.blobs.get(self._tenant, info.text_digest)).decode()
            except NotFound:
                continue  # erased meanwhile; what was only lost is missing from the space, and told
            vectors = one.vectors
            if vectors is None:
                vectors = np.stack([self._vectors[chunk.search_text] for chunk in one.chunks])
            data = encode_kept(one.chunks, vectors, embedder=self._space.id, fingerprint=one.fingerprint)
            kept = await self._s.blobs.put(self._tenant, data)
            digest = passages_digest(one.chunks, one.stored, self._space.id)
            known.append(Known(info.id, info.text_digest, one.made_of, kept, len(one.chunks), digest, written=False))
            readers[info.id] = (kept, info.readers)
            rows.extend(await to_thread.run_sync(index_rows, info, text, one.chunks, vectors))
        unused = await self._s.spaces.save(self._tenant, self._collection, self._space.id, known)
        if rows:
            await self._s.index.apply(self._space.scope, upsert=rows, delete=())
        changed, erased = await self._s.spaces.confirm(self._tenant, self._space.id, readers)
        if changed:
            # Erased, hidden or closed to somebody while it was written: nothing of it may stay.
            await self._s.index.apply(self._space.scope, upsert=(), delete=changed)
        for digest in (*unused, *erased):
            await self._s.blobs.delete(self._tenant, digest)
        wrote.documents += len(known) - len(changed)
        wrote.passages += sum(one.passages for one in known if one.document not in changed)

    async def _kept(self, stored: StoredDocument, known: Known, made_of: str) -> _Wanted | None:
        """What was embedded before and the index lacks; None when it is not kept any more."""
        kept = await self._read(known.kept_digest)
        if kept is None or kept.embedder != self._space.id:
            return None
        return _Wanted(stored, made_of, kept.fingerprint, kept.chunks, kept.vectors, known)

    async def _cut(self, stored: StoredDocument, known: Known | None, made_of: str, wrote: Wrote) -> _Wanted:
        """The answering space's passages where all of them fit, else the document's kept text cut anew.

        Raises: InvalidInput: neither can be had.
        """
        source = await self._read(made_of) if made_of else None
        before = await self._read(known.kept_digest) if known is not None else None
        for kept in (source, before):
            if kept is not None and kept.embedder == self._space.id:
                # The same words of an earlier version are not embedded twice.
                pairs = zip(kept.chunks, kept.vectors, strict=True)
                self._vectors.update({chunk.search_text: vector for chunk, vector in pairs})
        fingerprint = source.fingerprint if source is not None else stored.info.fingerprint
        if source is not None and await to_thread.run_sync(self._fits, source.chunks):
            return _Wanted(stored, made_of, fingerprint, source.chunks, None, known)
        chunks = await self._again(stored, why_long=source is not None)
        wrote.cut_again += source is not None
        return _Wanted(stored, made_of, fingerprint, chunks, None, known)

    def _fits(self, chunks: Sequence[Chunk]) -> bool:
        embedder = self._space.embedder
        return all(embedder.count_tokens(chunk.search_text) <= embedder.max_tokens for chunk in chunks)

    async def _again(self, stored: StoredDocument, *, why_long: bool) -> Sequence[Chunk]:
        info = stored.info
        row = (await self._s.cleaned.by_id(self._tenant, [info.id])).get(info.id)
        if row is None or not row.layout or row.text_digest != info.text_digest:
            why = "has a passage that is too long for this embedder" if why_long else "has no kept passages"
            raise InvalidInput(
                f"{info.source!r} {why}, and its layout is not kept: the next ingest that reads it mends that",
                param=info.source,
                code="passages_not_kept",
            )
        try:
            text = (await self._s.blobs.get(self._tenant, info.text_digest)).decode()
        except NotFound as error:
            raise InvalidInput(
                f"the text of {info.source!r} is not kept", param=info.source, code="passages_not_kept"
            ) from error
        cutter = Cutter(self._chunker, self._space.embedder)
        prepared = await to_thread.run_sync(again, stored, row, text, cutter)
        if not prepared.chunks:
            raise InvalidInput(f"{info.source!r} has nothing to embed", param=info.source, code="empty_document")
        return prepared.chunks

    async def _read(self, digest: str) -> KeptPassages | None:
        if not digest:
            return None
        try:
            return decode_kept(await self._s.blobs.get(self._tenant, digest))
        except NotFound:
            return None
        except Unavailable as error:
            if error.code != "corrupt_object":
                raise
            return None


def _tokens(embedder: Embedder, texts: Sequence[str]) -> int:
    return sum(map(embedder.count_tokens, texts))
