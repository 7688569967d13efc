"""What is too old to go back to: snapshots, what only they say of documents, and versions that only they hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId, SnapshotId, TenantId
from interlock.knowledge.history.manifest import read_manifest
from interlock.knowledge.history.tables import knowledge_entries
from interlock.knowledge.history.types import Pruned
from interlock.knowledge.spaces.tables import is_kept_for_a_space
from interlock.knowledge.store import DocumentStore, knowledge_documents, knowledge_snapshots, knowledge_versions
from interlock.knowledge.types import Snapshot
from interlock.stores.blob.base import Blobs
from interlock.stores.sql.base import Sql

__all__ = ["Pruner"]

_DOCS, _VERSIONS, _SNAPSHOTS, _ENTRIES = knowledge_documents, knowledge_versions, knowledge_snapshots, knowledge_entries
_BLOBS = ("text_digest", "raw_digest", "boxes_digest", "kept_digest")
_IN_LIST = 500
"""Values a statement may list: SQLite bounds its parameters."""


class _Version(NamedTuple):
    document: DocumentId
    text: str
    raw: str


class _Plan(NamedTuple):
    """What goes."""

    snapshots: tuple[SnapshotId, ...]
    entries: frozenset[str]
    versions: tuple[_Version, ...]
    blobs: tuple[str, ...]
    """What nothing else of the tenant refers to."""


class Pruner:
    """Removes what is too old. Must not overlap with a run of the same collection.

    Args:
        sql: where the tables are.
        documents: the registry.
        blobs: texts, originals, boxes, kept passages and manifests.
    """

    def __init__(self, sql: Sql, documents: DocumentStore, blobs: Blobs) -> None:
        self._sql = sql
        self._documents = documents
        self._blobs = blobs

    async def prune(self, tenant: TenantId, collection: str, *, before: datetime, dry_run: bool = False) -> Pruned:
        """Remove snapshots that were replaced before a moment, with what only they hold.

        What the collection was at any moment since then stays, and so do the snapshot it is now, the one it is held
        at, and every version that one of those holds. Order: blobs, then the rows that know them; whatever stops it,
        doing it again does the rest. Nothing is read when no snapshot is that old.
        """
        old, kept = await self._parted(tenant, collection, before)
        if not old:
            return Pruned(collection, 0, 0, 0)
        plan = await self._plan(tenant, collection, old, kept, before)
        if not dry_run:
            for digest in plan.blobs:
                await self._blobs.delete(tenant, digest)
            await self._forget(tenant, collection, plan)
        return Pruned(collection, len(plan.snapshots), len(plan.versions), len(plan.blobs))

    async def _parted(
        self, tenant: TenantId, collection: str, before: datetime
    ) -> tuple[list[Snapshot], list[Snapshot]]:
        """Snapshots that go, and those that stay."""
        newest_first = await self._documents.snapshots(tenant, collection)
        state = await self._documents.collection(tenant, collection)
        named = {state.snapshot_id, state.hold.snapshot if state.hold else None} if state else set()
        # The newest of the old ones is what the collection was at that moment.
        first_old = next((at for at, one in enumerate(newest_first) if one.created_at < before), len(newest_first))
        old = [one for one in newest_first[first_old + 1 :] if one.id not in named]
        gone = {one.id for one in old}
        return old, [one for one in newest_first if one.id not in gone]

    async def _plan(
        self,
        tenant: TenantId,
        collection: str,
        old: Sequence[Snapshot],
        kept: Sequence[Snapshot],
        before: datetime,
    ) -> _Plan:
        going, staying = await self._listed(tenant, old), await self._listed(tenant, kept)
        entries = frozenset(digest for digests in going.values() for digest in digests) - {
            digest for digests in staying.values() for digest in digests
        }
        mentioned = sorted({*going, *staying})

        def read(connection: Connection) -> _Plan:
            held = {
                (row.id, row.text_digest)
                for row in connection.execute(
                    sa.select(_DOCS.c.id, _DOCS.c.text_digest).where(
                        _DOCS.c.tenant == tenant, _DOCS.c.collection == collection
                    )
                )
            }
            held |= set(_texts(connection, tenant, {digest for digests in staying.values() for digest in digests}))
            versions: list[_Version] = []
            named: set[str] = set()
            for row in _rows(connection, tenant, mentioned):
                if row.ingested_at < before and (row.document_id, row.text_digest) not in held:
                    versions.append(_Version(DocumentId(row.document_id), row.text_digest, row.raw_digest))
                    named |= {getattr(row, name) for name in _BLOBS} - {""}
            blobs = [digest for digest in sorted(named) if not _is_used(connection, tenant, digest, besides=versions)]
            manifests = [one.id for one in old if not _is_elsewhere(connection, tenant, collection, one.id)]
            return _Plan(tuple(one.id for one in old), entries, tuple(versions), (*blobs, *manifests))

        return await self._sql.read(read)

    async def _listed(self, tenant: TenantId, snapshots: Sequence[Snapshot]) -> dict[DocumentId, set[str]]:
        """Digests of the entries of every document in these snapshots."""
        found: dict[DocumentId, set[str]] = {}
        for one in snapshots:
            try:
                manifest: Mapping[DocumentId, str] = read_manifest(await self._blobs.get(tenant, one.id))
            except (NotFound, InvalidInput):
                continue  # begun by a run that was stopped, or of a version that kept no entries
            for document, digest in manifest.items():
                found.setdefault(document, set()).add(digest)
        return found

    async def _forget(self, tenant: TenantId, collection: str, plan: _Plan) -> None:
        def write(connection: Connection) -> None:
            for one in plan.versions:
                connection.execute(
                    sa.delete(_VERSIONS).where(
                        _VERSIONS.c.tenant == tenant,
                        _VERSIONS.c.document_id == one.document,
                        _VERSIONS.c.text_digest == one.text,
                        _VERSIONS.c.raw_digest == one.raw,
                    )
                )
            for part in _parts(sorted(plan.entries)):
                connection.execute(sa.delete(_ENTRIES).where(_ENTRIES.c.tenant == tenant, _ENTRIES.c.digest.in_(part)))
            for part in _parts(plan.snapshots):
                connection.execute(
                    sa.delete(_SNAPSHOTS).where(
                        _SNAPSHOTS.c.tenant == tenant,
                        _SNAPSHOTS.c.collection == collection,
                        _SNAPSHOTS.c.id.in_(part),
                    )
                )

        await self._sql.write(write)


# Any would be said of every row here: SQLAlchemy's rows carry no column types.
def _rows(connection: Connection, tenant: TenantId, documents: Sequence[DocumentId]) -> Iterator[sa.Row[tuple[object]]]:
    for part in _parts(documents):
        where = (_VERSIONS.c.tenant == tenant, _VERSIONS.c.document_id.in_(part))
        yield from connection.execute(sa.select(_VERSIONS).where(*where)).all()


def _texts(connection: Connection, tenant: TenantId, digests: Collection[str]) -> Iterator[tuple[str, str]]:
    """Document and text of entries."""
    for part in _parts(sorted(digests)):
        where = (_ENTRIES.c.tenant == tenant, _ENTRIES.c.digest.in_(part))
        for row in connection.execute(sa.select(_ENTRIES.c.document_id, _ENTRIES.c.content).where(*where)):
            yield row.document_id, str(row.content["text_digest"])


def _is_used(connection: Connection, tenant: TenantId, digest: str, *, besides: Sequence[_Version]) -> bool:
    either = sa.or_(*(_VERSIONS.c[name] == digest for name in _BLOBS))
    query = sa.select(_VERSIONS.c.document_id, _VERSIONS.c.text_digest, _VERSIONS.c.raw_digest)
    known = frozenset(besides)
    rows = connection.execute(query.where(_VERSIONS.c.tenant == tenant, either))
    if any(_Version(DocumentId(r.document_id), r.text_digest, r.raw_digest) not in known for r in rows):
        return True
    return is_kept_for_a_space(connection, tenant, digest)


def _is_elsewhere(connection: Connection, tenant: TenantId, collection: str, snapshot: SnapshotId) -> bool:
    """Empty collections have one manifest together."""
    where = (_SNAPSHOTS.c.tenant == tenant, _SNAPSHOTS.c.collection != collection, _SNAPSHOTS.c.id == snapshot)
    return connection.execute(sa.select(_SNAPSHOTS.c.id).where(*where)).first() is not None


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IN_LIST):
        yield values[start : start + _IN_LIST]
