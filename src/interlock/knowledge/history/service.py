"""The door of history: snapshots, what differs between two, going back, making an index again, erasing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InvalidInput, NotFound
from interlock.core.ids import DocumentId, SnapshotId, TenantId
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.history.manifest import compare, entry_of, manifest_of, read_manifest, stored_of
from interlock.knowledge.history.pruning import Pruner
from interlock.knowledge.history.rollback import Rollback
from interlock.knowledge.history.store import HistoryStore
from interlock.knowledge.history.types import Entry, Hold, Pruned, RollbackReport, SnapshotDiff, Target
from interlock.knowledge.ports import ReportProgress
from interlock.knowledge.source_store import SourceStore
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.spaces.service import Spaces
from interlock.knowledge.store import DocumentStore, StoredDocument
from interlock.knowledge.types import Snapshot
from interlock.stores.blob.base import Blobs
from interlock.stores.index.base import Index

__all__ = ["History", "Shelves"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)
_SHORTEST = 8
"""Digits of a digest that may stand for it."""


@dataclass(frozen=True, slots=True)
class Shelves:
    """Where everything is."""

    documents: DocumentStore
    history: HistoryStore
    sources: SourceStore
    cleaned: CleanedStore
    blobs: Blobs
    index: Index
    pruner: Pruner


class History:
    """What collections were. Every method answers for the caller's tenant alone.

    Args:
        shelves: where everything is.
        spaces: embedding spaces of collections.
        removed: told when documents of a collection are gone, for whoever keeps something of them in memory.
    """

    def __init__(
        self,
        shelves: Shelves,
        spaces: Spaces,
        removed: Callable[[TenantId, str], None],
    ) -> None:
        self._removed = removed
        self._documents, self._store, self._sources = shelves.documents, shelves.history, shelves.sources
        self._cleaned, self._blobs, self._index = shelves.cleaned, shelves.blobs, shelves.index
        self._spaces, self._pruner = spaces, shelves.pruner

    # ── snapshots ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def snapshot(self, ctx: Context, collection: str) -> Snapshot:
        """The collection's exact content as an id; the same content always has the same id.

        Cheap while nothing changes: one row. After a change the manifest is written as a blob.
        """
        state = await self._documents.collection(ctx.tenant, collection)
        if state is not None and state.snapshot_id is not None:
            known = await self._documents.snapshot(ctx.tenant, collection, state.snapshot_id)
            if known is not None:
                return known
        every = await self._documents.documents(ctx.tenant, collection)
        stored = [one for one in every if one.info.text_digest and not one.info.cleaning.held]
        content, entries = manifest_of(stored)
        passages = sum(one.info.passages for one in stored)
        snapshot = Snapshot(SnapshotId(digest_bytes(content)), collection, len(stored), passages, now())
        if state is not None:
            # Entries before the manifest that names them.
            await self._store.add_entries(ctx.tenant, entries)
            await self._blobs.put(ctx.tenant, content)
            await self._documents.save_snapshot(ctx.tenant, snapshot, revision=state.revision)
        return snapshot

    async def snapshots(self, ctx: Context, collection: str) -> list[Snapshot]:
        """Recorded snapshots, newest first. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        return await self._documents.snapshots(ctx.tenant, collection)

    async def find(self, ctx: Context, collection: str, name: str) -> Snapshot:
        """A recorded snapshot by its id or the first eight or more of its digits; `current`, or `previous`: the newest
        other one. Needs the role developer or operator.

        Raises: NotFound; InvalidInput: too short, or several begin so.
        """
        ctx.require(*_OVERSIGHT)
        if name in {"current", "previous"}:
            return await self._beside_now(ctx, collection, name)
        digits = name.removeprefix("sha256:").lower()
        if len(digits) < _SHORTEST:
            raise InvalidInput(f"give at least {_SHORTEST} digits of the snapshot's id", param="snapshot")
        held = await self._documents.snapshots(ctx.tenant, collection)
        found = [one for one in held if one.id.removeprefix("sha256:").startswith(digits)]
        if not found:
            raise NotFound(
                f"the collection {collection!r} has no snapshot {name!r}",
                param="snapshot",
                hint=f"see: interlock knowledge snapshots {collection}",
            )
        if len(found) > 1:
            raise InvalidInput(f"{len(found)} snapshots begin with {digits!r}: give more of it", param="snapshot")
        return found[0]

    async def _beside_now(self, ctx: Context, collection: str, name: str) -> Snapshot:
        current = await self.snapshot(ctx, collection)
        if name == "current":
            return current
        for one in await self._documents.snapshots(ctx.tenant, collection):
            if one.id != current.id:
                return one
        raise NotFound(f"the collection {collection!r} has one snapshot only", param="snapshot")

    async def diff(self, ctx: Context, collection: str, before: str, after: str | None = None) -> SnapshotDiff:
        """What changed from one snapshot to another, or to the collection as it is now.

        Facts of documents, never their text. Needs the role developer or operator.
        Raises: NotFound, InvalidInput (an id that is short, ambiguous, or of a snapshot recorded too long ago).
        """
        first = (await self.find(ctx, collection, before)).id
        second = (await (self.snapshot(ctx, collection) if after is None else self.find(ctx, collection, after))).id
        manifests = [read_manifest(await self._blobs.get(ctx.tenant, one)) for one in (first, second)]
        contents = await self._store.entries(ctx.tenant, {d for listed in manifests for d in listed.values()})
        return compare(collection, (first, manifests[0]), (second, manifests[1]), contents)

    async def entries_of(self, ctx: Context, snapshot: str) -> dict[DocumentId, Entry]:
        """The documents of a snapshot by id, without those that were erased since. Needs the role operator, risk or
        auditor. Raises: NotFound, InvalidInput.
        """
        ctx.require(Role.OPERATOR, Role.RISK, Role.AUDITOR)
        listed = read_manifest(await self._blobs.get(ctx.tenant, snapshot))
        contents = await self._store.entries(ctx.tenant, listed.values())
        return {one: entry_of(contents[digest]) for one, digest in listed.items() if digest in contents}

    # ── going back ────────────────────────────────────────────────────────────────────────────────────────────────

    async def held(self, ctx: Context, collection: str) -> Hold | None:
        """Who set the collection back and keeps it there. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        state = await self._documents.collection(ctx.tenant, collection)
        return state.hold if state else None

    async def rollback(
        self, ctx: Context, spec: SourceSpec, snapshot: str, progress: ReportProgress | None = None
    ) -> RollbackReport:
        """Make the collection's content what it was, and hold it there. Needs the role developer or operator.

        No file is parsed; what was kept in another embedding space is embedded, and nothing else. Rights stay those of
        today. Until `resume`, runs apply rights only. Must not overlap with a run of the same collection. One that was
        stopped is simply done again.

        Raises: NotFound, InvalidInput: as `find`.
        """
        target = await self.find(ctx, spec.collection, snapshot)
        with ctx.span("knowledge.rollback", collection=spec.collection) as (span, inner):
            # Held first: a run that begins after a crash in the middle must not mix both.
            await self._documents.hold(ctx.tenant, spec.collection, Hold(target.id, ctx.principal.id, now()))
            run = Rollback(
                self._documents,
                self._store,
                self._cleaned,
                self._blobs,
                self._index,
                space=await self._spaces.answering(inner, spec.collection),
                beside=await self._spaces.beside(inner, spec.collection),
            )
            done = await run.run(inner, spec, target.id, progress)
            current = await self.snapshot(inner, spec.collection)
            span.set(restored=done.restored, removed=done.removed, missing=len(done.missing))
            return RollbackReport(spec.collection, target.id, current.id, *done)

    async def resume(self, ctx: Context, spec: SourceSpec) -> None:
        """Let the next run mirror the sources again, from a full listing. Needs the role developer or operator.

        Raises: Conflict: it is not held.
        """
        if await self.held(ctx, spec.collection) is None:
            raise Conflict(f"the collection {spec.collection!r} is not held", code="not_held")
        for source in spec.sources:
            # Changes since the cursor would not bring back what going back undid.
            await self._sources.note(ctx.tenant, spec.collection, source.name, cursor=None, wanted_at=now())
        await self._documents.hold(ctx.tenant, spec.collection, None)

    # ── erasing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def remove(self, ctx: Context, documents: Collection[DocumentId], collection: str) -> list[str]:
        """Remove documents of one collection with every version, and what snapshots say of them.

        Order: the index, so that nobody finds them any more; then the blobs; then the registry, which knows them; and
        once more the index, for what was being written to another space meanwhile. Whatever stops it, doing it again
        does the rest. Gives the digests of the blobs that are gone.
        """
        space = await self._spaces.answering(ctx, collection)
        await self._index.apply(space.scope, upsert=(), delete=documents)
        unused = await self._documents.only_of(ctx.tenant, documents)
        for digest in unused:
            await self._blobs.delete(ctx.tenant, digest)
        late = await self._documents.delete(ctx.tenant, collection, documents, embedder=space.id)
        for digest in late:
            await self._blobs.delete(ctx.tenant, digest)
        await self._index.apply(space.scope, upsert=(), delete=documents)
        self._removed(ctx.tenant, collection)
        return sorted({*unused, *late})

    async def target(self, ctx: Context, document: DocumentId) -> Target:
        """A document as an erasure sees it: one that can be found, is retired, or was erased before. Needs the role
        operator.

        Raises: NotFound.
        """
        ctx.require(Role.OPERATOR)
        info = (await self._documents.by_id(ctx.tenant, [document])).get(document)
        if info is not None:
            return Target(document, info.collection, info.passages, info.readers)
        collection = await self.retired_in(ctx, document) or await self._store.is_kept_out(ctx.tenant, document)
        if collection is None:
            raise NotFound(f"no document {document!r}", param="document")
        return Target(document, collection, 0, frozenset())

    async def targets_of_source(self, ctx: Context, collection: str, source: str) -> list[Target]:
        """Everything that came from a source of a collection, retired documents too. Needs the role operator."""
        ctx.require(Role.OPERATOR)
        return await self._targets(ctx, lambda stored: stored.info.collection == collection and stored.origin == source)

    async def targets_of_subject(self, ctx: Context, subject: str) -> list[Target]:
        """Documents whose facts name a person as `subject`, or among `subjects`, now or in a snapshot. Needs the role
        operator.

        Several are named with commas between them. Upper and lower case are one.
        """
        ctx.require(Role.OPERATOR)
        return await self._targets(ctx, lambda stored: _is_about(stored, subject))

    async def _targets(self, ctx: Context, wanted: Callable[[StoredDocument], bool]) -> list[Target]:
        found = {
            stored.info.id: Target(stored.info.id, stored.info.collection, stored.info.passages, stored.info.readers)
            for stored in await self._documents.documents(ctx.tenant)
            if wanted(stored)
        }
        # A version of before may have been about somebody whom today's no longer names.
        for content in await self._store.contents_of(ctx.tenant):
            stored = stored_of(content)
            if stored.info.id not in found and wanted(stored):
                with suppress(NotFound):
                    found[stored.info.id] = await self.target(ctx, stored.info.id)
        return [found[one] for one in sorted(found)]

    async def erase(self, ctx: Context, targets: Sequence[Target]) -> list[str]:
        """Remove documents for good and keep them out. Needs the role operator. Gives the digests of their blobs."""
        ctx.require(Role.OPERATOR)
        gone: list[str] = []
        for collection in sorted({target.collection for target in targets}):
            ids = [target.id for target in targets if target.collection == collection]
            await self.keep_out(ctx, collection, ids)
            gone += await self.remove(ctx, ids, collection)
        return gone

    async def scrub(self, ctx: Context) -> bool:
        """Leave nothing in the files of the registry and the index of what was removed; False where some may stay."""
        return all([await self._index.scrub(ctx.tenant), await self._store.scrub()])

    async def left_of(self, ctx: Context, targets: Sequence[Target], blobs: Sequence[str]) -> dict[str, int]:
        """Look again at every place: what is still there of these, by place. All zero when nothing is."""
        passages = 0
        for target in targets:
            for scope in await self._spaces.scopes(ctx.tenant, target.collection):
                passages += len(await self._index.document_passages(scope, target.id, readers=target.readers))
        ids = [target.id for target in targets]
        return {
            "passages": passages,
            "documents": len(await self._documents.by_id(ctx.tenant, ids)),
            "snapshot_entries": len(await self._store.contents_of(ctx.tenant, ids)) if ids else 0,
            "blobs": sum([await self._blobs.exists(ctx.tenant, digest) for digest in blobs]),
        }

    async def purge(self, ctx: Context, collection: str, *, keep_days: float) -> int:
        """Remove for good what was retired longer ago than that; gives how many documents."""
        old = await self._store.retired(ctx.tenant, before=now() - timedelta(days=keep_days), collection=collection)
        if old:
            await self.remove(ctx, [one.id for one in old], collection)
        return len(old)

    async def keep_out(self, ctx: Context, collection: str, documents: Collection[DocumentId]) -> None:
        """No run brings these back, until `let_in`."""
        await self._store.keep_out(ctx.tenant, collection, documents, now())

    async def let_in(self, ctx: Context, document: DocumentId) -> None:
        """The next run may read it again. Needs the role operator. Raises: NotFound: it was not kept out."""
        ctx.require(Role.OPERATOR)
        collection = await self._store.is_kept_out(ctx.tenant, document)
        if collection is None or not await self._store.let_in(ctx.tenant, document):
            raise NotFound(f"the document {document!r} is not kept out", param="document")
        # Which source it came from was erased with it.
        await self._sources.read_anew(ctx.tenant, collection)

    async def retired_in(self, ctx: Context, document: DocumentId) -> str | None:
        """The collection that a retired document was in."""
        found = await self._store.is_retired(ctx.tenant, document)
        return found.collection if found else None

    async def prune(self, ctx: Context, collection: str, *, keep_days: float, dry_run: bool = False) -> Pruned:
        """Remove snapshots that were replaced longer ago than that, and versions of documents that only they hold.
        Needs the role developer or operator.

        What the collection is, is held at, and was at any moment since then stays. Citations of a version that is gone
        do not open any more; answers keep their quotes. Must not overlap with a run of the same collection.
        """
        ctx.require(*_OVERSIGHT)
        before = now() - timedelta(days=keep_days)
        with ctx.span("knowledge.prune", collection=collection, dry_run=dry_run) as (span, inner):
            done = await self._pruner.prune(inner.tenant, collection, before=before, dry_run=dry_run)
            span.set(snapshots=done.snapshots, versions=done.versions)
            return done


def _is_about(stored: StoredDocument, subject: str) -> bool:
    facts = {**stored.own_metadata, **stored.info.metadata}
    named = f"{facts.get('subject', '')},{facts.get('subjects', '')}".casefold().split(",")
    return subject.strip().casefold() in {name.strip() for name in named if name.strip()}
