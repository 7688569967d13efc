"""A collection made to be an older snapshot: from kept passages, without a parser.

A model is asked only for what was kept in another embedding space than the one that answers.

Order of a batch as in an ingest: the index in one transaction, then the registry. A rollback that was cut short is
simply done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.ids import DocumentId, SnapshotId
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.history.kept import KeptPassages, encode_kept
from interlock.knowledge.history.manifest import read_manifest, stored_of
from interlock.knowledge.history.restoring import Restorer
from interlock.knowledge.history.store import HistoryStore
from interlock.knowledge.ports import ReportProgress
from interlock.knowledge.records import Recorder
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.spaces.service import Beside
from interlock.knowledge.spaces.types import OpenSpace
from interlock.knowledge.store import DocumentStore, StoredDocument
from interlock.knowledge.types import DocumentInfo, Progress
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index, IndexRow

__all__ = ["Rollback", "RolledBack"]

_AT_ONCE = 20
"""Documents of one transaction."""


class RolledBack(NamedTuple):
    """What was done; see `RollbackReport`."""

    restored: int
    removed: int
    unchanged: int
    missing: tuple[str, ...]
    held_back: int
    erased: int


class Rollback:
    """One rollback. Use once.

    Args:
        space: the one that answers.
        beside: those that do not.
    """

    def __init__(
        self,
        documents: DocumentStore,
        history: HistoryStore,
        cleaned: CleanedStore,
        blobs: Blobs,
        index: Index,
        *,
        space: OpenSpace,
        beside: Beside,
    ) -> None:
        self._documents = documents
        self._history = history
        self._cleaned = cleaned
        self._blobs = blobs
        self._index = index
        self._space = space
        self._beside = beside
        self._embedder = space.id
        self._made: dict[DocumentId, str] = {}
        self._restorer = Restorer(documents, blobs, embedder=space.id)

    async def run(
        self, ctx: Context, spec: SourceSpec, snapshot: SnapshotId, progress: ReportProgress | None
    ) -> RolledBack:
        """Do it. Raises: NotFound: the manifest is gone; what `progress` raises."""
        listed = read_manifest(await self._blobs.get(ctx.tenant, snapshot))
        contents = await self._history.entries(ctx.tenant, listed.values())
        kept_out = await self._history.kept_out(ctx.tenant, spec.collection)
        decisions = await self._cleaned.decisions(ctx.tenant, spec.collection)
        known = {d.info.id: d for d in await self._documents.documents(ctx.tenant, spec.collection)}
        recorder = Recorder(ctx, spec, now())
        unchanged, missing, held_back = 0, [], 0
        wanted: list[tuple[StoredDocument, KeptPassages | None]] = []
        restored = 0
        done, total = 0, len(listed)
        held = {one: contents[d] for one, d in listed.items() if d in contents and one not in kept_out}
        for one, content in held.items():
            target, current = stored_of(content), known.get(one)
            done += 1
            if current is not None and _is_same(current, target):
                unchanged += 1
                continue
            decision = decisions.get((one, target.info.text_digest))
            target = _decided(target, decision.verdict if decision else "")
            if target.info.cleaning.held:
                held_back += 1
                continue
            kept = await self._kept(ctx, target.info) if target.info.passages else None
            if kept is None and target.info.passages:
                missing.append(target.info.source)
                continue
            wanted.append((_with_rights(target, current, kept, recorder), kept))
            if len(wanted) >= _AT_ONCE:
                restored += await self._commit(ctx, spec.collection, wanted, missing)
                wanted = []
            if progress is not None:
                await progress(Progress(done, total, f"{restored} documents set back"))
        restored += await self._commit(ctx, spec.collection, wanted, missing)
        extra = sorted(known.keys() - listed.keys())
        await self._retire(ctx, spec.collection, extra)
        # The next run compares what it finds here with one another, and reads what is not known well enough for that.
        await self._documents.settle(ctx.tenant, spec.collection, "")
        return RolledBack(restored, len(extra), unchanged, tuple(sorted(missing)), held_back, len(listed) - len(held))

    async def _kept(self, ctx: Context, info: DocumentInfo) -> KeptPassages | None:
        """Its passages in the space that answers; those kept in another one are embedded. None: nothing fits."""
        own = await self._restorer.kept(ctx.tenant, info)
        if own is not None:
            return own
        other = await self._restorer.kept_in_any(ctx.tenant, info)
        if other is None or not other.chunks:
            return None
        embedder = self._space.embedder
        texts = [chunk.search_text for chunk in other.chunks]
        if max(map(embedder.count_tokens, texts)) > embedder.max_tokens:
            return None
        vectors = await embedder.embed(texts, "passage")
        made = other._replace(embedder=embedder.id, vectors=vectors)
        data = encode_kept(made.chunks, vectors, embedder=embedder.id, fingerprint=made.fingerprint)
        self._made[info.id] = await self._blobs.put(ctx.tenant, data)
        return made

    async def _commit(
        self,
        ctx: Context,
        collection: str,
        wanted: Sequence[tuple[StoredDocument, KeptPassages | None]],
        missing: list[str],
    ) -> int:
        rows: list[IndexRow] = []
        records: list[StoredDocument] = []
        hidden: list[DocumentId] = []
        for record, kept in wanted:
            own = [] if kept is None else await self._restorer.rows(ctx.tenant, record.info, kept)
            if own is None:
                missing.append(record.info.source)
                continue
            if kept is None:
                hidden.append(record.info.id)
            rows.extend(own)
            # What was embedded for this space is kept instead of what was kept of the other one.
            records.append(record._replace(kept_digest=self._made.pop(record.info.id, None)))
        if records:
            await self._cleaned.forget_shapes(ctx.tenant, [record.info.id for record in records])
            await self._index.apply(self._space.scope, upsert=rows, delete=hidden)
            for digest in await self._documents.save(ctx.tenant, records, embedder=self._embedder):
                await self._blobs.delete(ctx.tenant, digest)
            await self._beside.follow([record.info.id for record in records])
        return len(records)

    async def _retire(self, ctx: Context, collection: str, ids: Sequence[DocumentId]) -> None:
        if ids:
            await self._index.apply(self._space.scope, upsert=(), delete=ids)
            await self._documents.retire(ctx.tenant, collection, ids, embedder=self._embedder)


def _is_same(current: StoredDocument, target: StoredDocument) -> bool:
    a, b = current.info, target.info
    same = (a.text_digest, a.title, a.metadata) == (b.text_digest, b.title, b.metadata)
    stands = a.cleaning.duplicate_of == b.cleaning.duplicate_of and bool(a.passages) == bool(b.passages)
    return same and stands and current.own_metadata == target.own_metadata


def _decided(target: StoredDocument, verdict: Literal["", "released", "kept"]) -> StoredDocument:
    """With what a person says of that text today."""
    facts = replace(target.info.cleaning, decision=verdict)
    return target._replace(info=replace(target.info, cleaning=facts))


def _with_rights(
    target: StoredDocument, current: StoredDocument | None, kept: KeptPassages | None, recorder: Recorder
) -> StoredDocument:
    """The old content under rights that are never wider than today's."""
    at = now()
    if current is not None:
        readers, stated = current.info.readers, current.stated
    else:
        today = recorder.with_facts(target)
        readers, stated = today.info.readers & target.info.readers, today.stated
    info = replace(
        target.info,
        readers=readers,
        ingested_at=at,
        checked_at=at,
        # The kept passages may be of a later pipeline than the entry: they are what is found now.
        fingerprint=kept.fingerprint if kept else target.info.fingerprint,
        passages=len(kept.chunks) if kept else 0,
    )
    return target._replace(info=info, stated=stated)
