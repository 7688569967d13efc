"""Tables of knowledge: the registry of documents, their versions, and the snapshots of collections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.ids import DocumentId, SnapshotId, TenantId
from interlock.knowledge.cleaning.store import facts_from, facts_to, forget_cleaned, forget_shape
from interlock.knowledge.history.tables import forget_entries, note_back, note_retired
from interlock.knowledge.history.types import Hold
from interlock.knowledge.infos import InfoReader
from interlock.knowledge.questions.tables import forget_questions
from interlock.knowledge.spaces.tables import forget_known, is_kept_for_a_space, kept_for_spaces
from interlock.knowledge.types import DocumentInfo, PageReview, Snapshot
from interlock.stores.sql.base import Json, Sql, UtcDateTime, metadata

__all__ = [
    "CollectionState",
    "DocumentStore",
    "Noted",
    "StoredDocument",
    "blobs_nobody_uses",
    "document_id",
    "knowledge_collections",
    "knowledge_documents",
    "knowledge_snapshots",
    "knowledge_versions",
]

knowledge_documents = sa.Table(
    "knowledge_documents",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("raw_digest", sa.Text, nullable=False),
    sa.Column("seen_digest", sa.Text, nullable=False),
    sa.Column("text_digest", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("pages", sa.Integer, nullable=True),
    sa.Column("passages", sa.Integer, nullable=False),
    sa.Column("readers", Json, nullable=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("own_metadata", Json, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("error_message", sa.Text, nullable=False),
    sa.Column("ingested_at", UtcDateTime, nullable=True),
    sa.Column("checked_at", UtcDateTime, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("languages", Json, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("name_hint", sa.Text, nullable=False),
    sa.Column("stated_readers", Json, nullable=True),
    sa.Column("quality", sa.Float, nullable=False),
    sa.Column("review", Json, nullable=False),
    sa.Column("cleaning", Json, nullable=False),
    sa.Index("ix_knowledge_documents_tenant_collection", "tenant", "collection"),
)
"""One row a source item. `own_metadata` is what the document and its source system say, before the file's rules;
`origin` is the name of its source, `version` what that called its content, `stated_readers` whom it named."""

knowledge_versions = sa.Table(
    "knowledge_versions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("text_digest", sa.Text, primary_key=True),
    sa.Column("raw_digest", sa.Text, primary_key=True),
    sa.Column("ingested_at", UtcDateTime, nullable=False),
    sa.Column("boxes_digest", sa.Text, nullable=False),
    sa.Column("kept_digest", sa.Text, nullable=False),
)
"""Every version that was ever searchable, so that old citations resolve and an erasure finds all of it."""

knowledge_collections = sa.Table(
    "knowledge_collections",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, primary_key=True),
    sa.Column("embedder", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("snapshot_id", sa.Text, nullable=False),
    sa.Column("snapshot_revision", sa.BigInteger, nullable=False),
    sa.Column("settled", sa.Text, nullable=False),
    sa.Column("held_snapshot", sa.Text, nullable=False),
    sa.Column("held_by", sa.Text, nullable=False),
    sa.Column("held_at", UtcDateTime, nullable=True),
    sa.Column("legs", Json, nullable=True),
)
"""`embedder` is the embedding space that answers. `revision` counts changes; the snapshot is current while its revision
is the collection's. `settled` names the revision, and the settings, at which its documents were last compared with one
another. `held_…` is set while its content must stay as it is. `legs` is what :mod:`~interlock.knowledge.legs` found."""

knowledge_snapshots = sa.Table(
    "knowledge_snapshots",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("documents", sa.Integer, nullable=False),
    sa.Column("passages", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)
"""The manifest itself is the blob whose digest is the id."""

_DOCS, _VERSIONS = knowledge_documents, knowledge_versions
_COLLECTIONS, _SNAPSHOTS = knowledge_collections, knowledge_snapshots
# Made once: every search asks them.
_INFOS = sa.select(*InfoReader.columns(_DOCS)).where(
    _DOCS.c.tenant == sa.bindparam("tenant"), _DOCS.c.id.in_(sa.bindparam("ids", expanding=True))
)
_REVISION = sa.select(_COLLECTIONS.c.revision).where(
    _COLLECTIONS.c.tenant == sa.bindparam("tenant"), _COLLECTIONS.c.collection == sa.bindparam("collection")
)
_SPOKEN = (
    sa.select(sa.cast(_DOCS.c.languages, sa.Text), sa.cast(_DOCS.c.readers, sa.Text))
    .where(
        _DOCS.c.tenant == sa.bindparam("tenant"),
        _DOCS.c.collection == sa.bindparam("collection"),
        _DOCS.c.text_digest != "",
    )
    .distinct()
)
# And these for every document of an ingest.
_CHANGE = sa.update(_DOCS).where(_DOCS.c.tenant == sa.bindparam("of_tenant"), _DOCS.c.id == sa.bindparam("of_id"))
_ADD, _ADD_VERSION = sa.insert(_DOCS), sa.insert(_VERSIONS)
_VERSION = sa.select(_VERSIONS).where(
    *(_VERSIONS.c[name] == sa.bindparam(name) for name in ("tenant", "document_id", "text_digest", "raw_digest"))
)
_REMEMBERED = 10_000
"""Collections whose languages are kept in memory."""
_FACTS_OF = 16
"""Collections whose documents' facts are kept in memory."""
_IN_LIST = 500
"""Ids a statement may list: SQLite bounds its parameters."""


def document_id(tenant: TenantId, collection: str, source: str) -> DocumentId:
    """The same path of the same collection is the same document for ever."""
    key = f"{tenant}\0{collection}\0{source}"
    return DocumentId("doc_" + hashlib.sha256(key.encode()).hexdigest()[:26])


class CollectionState(NamedTuple):
    """Where a collection stands."""

    embedder: str
    revision: int
    snapshot_id: SnapshotId | None
    """None when the collection changed since the last snapshot."""
    settled: str = ""
    """Revision and settings at which its documents were last compared."""
    hold: Hold | None = None
    """Set while its content must stay as it is."""
    # Any: JSON of `LegHealth`.
    legs: Mapping[str, Any] | None = None
    """Which legs of its searches are of use; None while nobody looked."""


class StoredDocument(NamedTuple):
    """A row, and what its document said about itself."""

    info: DocumentInfo
    own_metadata: dict[str, str]
    origin: str = ""
    """Name of the source it came from; empty for what was stored before sources had names."""
    version: str = ""
    """The version at which its bytes were last looked at; empty when they must be looked at again."""
    name_hint: str = ""
    stated: frozenset[str] | None = None
    """Readers by the source system; None when the rules of the file decide."""
    boxes_digest: str | None = None
    """Of the boxes of its text, empty for none; None leaves what is stored as it is."""
    kept_digest: str | None = None
    """Of its passages with their vectors; None leaves what is stored as it is."""


class Noted(NamedTuple):
    """What a run learned about a document whose content did not change."""

    id: DocumentId
    origin: str
    version: str
    name_hint: str


class _Languages(NamedTuple):
    """Of one revision of a collection."""

    revision: int
    readers: dict[str, frozenset[str]]
    """By language: everybody who may read one of its documents."""


class DocumentStore:
    """Reads and writes the tables; every method takes the tenant."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._languages: dict[tuple[TenantId, str], _Languages] = {}
        self._facts: dict[tuple[TenantId, str], tuple[int, list[DocumentInfo]]] = {}

    async def collection(self, tenant: TenantId, collection: str) -> CollectionState | None:
        """State of a collection, None when nothing was ever ingested."""

        def read(connection: Connection) -> CollectionState | None:
            return _collection(connection, tenant, collection)

        return await self._sql.read(read)

    async def languages(self, tenant: TenantId, collection: str, readers: frozenset[str]) -> frozenset[str]:
        """Languages of a collection's documents that `readers` may read. Remembered until the collection changes."""
        key = (tenant, collection)
        known = self._languages.get(key)

        def read(connection: Connection) -> _Languages | None:
            asked = {"tenant": tenant, "collection": collection}
            revision = connection.execute(_REVISION, asked).scalar()
            if revision is None:
                return None
            if known is not None and known.revision == revision:
                return known
            spoken: dict[str, set[str]] = {}
            for languages, allowed in connection.execute(_SPOKEN, asked):
                for code in json.loads(languages):
                    spoken.setdefault(code, set()).update(json.loads(allowed))
            return _Languages(revision, {code: frozenset(who) for code, who in spoken.items()})

        found = await self._sql.read(read)
        if found is None:
            return frozenset()
        if len(self._languages) >= _REMEMBERED:
            self._languages.clear()
        self._languages[key] = found
        return frozenset(code for code, who in found.readers.items() if not who.isdisjoint(readers))

    async def collection_names(self, tenant: TenantId) -> list[str]:
        """Every collection that was ever ingested, by name."""

        def read(connection: Connection) -> list[str]:
            query = sa.select(_COLLECTIONS.c.collection).where(_COLLECTIONS.c.tenant == tenant)
            return list(connection.execute(query.order_by(_COLLECTIONS.c.collection)).scalars())

        return await self._sql.read(read)

    async def documents(self, tenant: TenantId, collection: str | None = None) -> list[StoredDocument]:
        """All documents by collection and source path."""

        def read(connection: Connection) -> list[StoredDocument]:
            query = sa.select(_DOCS).where(_DOCS.c.tenant == tenant)
            if collection is not None:
                query = query.where(_DOCS.c.collection == collection)
            rows = connection.execute(query.order_by(_DOCS.c.collection, _DOCS.c.source)).mappings()
            return [_stored(row) for row in rows]

        return await self._sql.read(read)

    async def facts(self, tenant: TenantId, collection: str) -> list[DocumentInfo]:
        """A collection's documents in no order. Those of the last collections asked for are kept until they change."""
        key = (tenant, collection)
        state = await self.collection(tenant, collection)
        known = self._facts.get(key)
        if state is None:
            return []
        if known is not None and known[0] == state.revision:
            return known[1]
        infos = [stored.info for stored in await self.documents(tenant, collection)]
        self._facts.pop(key, None)
        while len(self._facts) >= _FACTS_OF:
            self._facts.pop(next(iter(self._facts)))
        # Read after the revision: newer facts under an older number are read again next time, never the other way.
        self._facts[key] = (state.revision, infos)
        return infos

    async def by_id(self, tenant: TenantId, ids: Collection[DocumentId]) -> dict[DocumentId, DocumentInfo]:
        """Documents by id; unknown ids are absent."""
        wanted = sorted(ids)

        def read(connection: Connection) -> dict[DocumentId, DocumentInfo]:
            found: dict[DocumentId, DocumentInfo] = {}
            reader = InfoReader()
            for start in range(0, len(wanted), _IN_LIST):
                part = {"tenant": tenant, "ids": wanted[start : start + _IN_LIST]}
                for row in connection.execute(_INFOS, part):
                    info = reader.read(row)
                    found[info.id] = info
            return found

        return await self._sql.read(read) if wanted else {}

    async def origins(self, tenant: TenantId, ids: Collection[DocumentId]) -> frozenset[str]:
        """Names of the sources that documents came from."""
        wanted = sorted(ids)[:_IN_LIST]

        def read(connection: Connection) -> frozenset[str]:
            query = sa.select(_DOCS.c.origin).where(_DOCS.c.tenant == tenant, _DOCS.c.id.in_(wanted)).distinct()
            return frozenset(connection.execute(query).scalars())

        return await self._sql.read(read) if wanted else frozenset()

    async def stored(self, tenant: TenantId, document: DocumentId) -> StoredDocument | None:
        """One document with what it says of itself."""

        def read(connection: Connection) -> StoredDocument | None:
            query = sa.select(_DOCS).where(_DOCS.c.tenant == tenant, _DOCS.c.id == document)
            row = connection.execute(query).mappings().first()
            return None if row is None else _stored(row)

        return await self._sql.read(read)

    async def save(self, tenant: TenantId, documents: Sequence[StoredDocument], *, embedder: str) -> list[str]:
        """Insert or replace documents of one collection, in one transaction that also counts its revision up.

        Gives the digests of what was replaced and that nothing of the tenant refers to any more.
        """
        if not documents:
            return []
        collection = documents[0].info.collection

        def write(connection: Connection) -> list[str]:
            replaced = {digest for document in documents for digest in _save(connection, tenant, document)} - {""}
            note_back(connection, tenant, {document.info.id for document in documents})
            _touch(connection, tenant, collection, embedder)
            return [digest for digest in sorted(replaced) if not _is_used(connection, tenant, digest)]

        return await self._sql.write(write)

    async def announce(self, tenant: TenantId, documents: Sequence[StoredDocument]) -> list[str]:
        """Note versions that are about to be searchable, so that a citation of one resolves from the first moment on.

        What a run that ends here leaves is a version nobody finds; the next run makes it whole, or it goes with its
        document. Gives the digests of what was replaced and that nothing of the tenant refers to any more.
        """

        def write(connection: Connection) -> list[str]:
            replaced = {digest for document in documents for digest in _save_version(connection, tenant, document)}
            return [digest for digest in sorted(replaced - {""}) if not _is_used(connection, tenant, digest)]

        return await self._sql.write(write) if documents else []

    async def adopt(self, tenant: TenantId, collection: str, embedder: str) -> None:
        """Let a collection with nothing to be found be of another embedding space."""

        def write(connection: Connection) -> None:
            where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
            connection.execute(sa.update(_COLLECTIONS).where(*where).values(embedder=embedder))

        await self._sql.write(write)

    async def mark_checked(self, tenant: TenantId, ids: Collection[DocumentId], at: datetime) -> None:
        """The sources of these documents were compared and had not changed."""
        wanted = sorted(ids)

        def write(connection: Connection) -> None:
            for start in range(0, len(wanted), _IN_LIST):
                part = wanted[start : start + _IN_LIST]
                where = (_DOCS.c.tenant == tenant, _DOCS.c.id.in_(part))
                connection.execute(sa.update(_DOCS).where(*where).values(checked_at=at))

        if wanted:
            await self._sql.write(write)

    async def note(self, tenant: TenantId, noted: Collection[Noted]) -> None:
        """Remember origins and versions; the collection stays as it is."""
        rows = [{"b_id": n.id, "b_origin": n.origin, "b_version": n.version, "b_hint": n.name_hint} for n in noted]

        def write(connection: Connection) -> None:
            statement = (
                sa.update(_DOCS)
                .where(_DOCS.c.tenant == tenant, _DOCS.c.id == sa.bindparam("b_id"))
                .values(
                    origin=sa.bindparam("b_origin"),
                    version=sa.bindparam("b_version"),
                    name_hint=sa.bindparam("b_hint"),
                )
            )
            connection.execute(statement, rows)

        if rows:
            await self._sql.write(write)

    async def retire(self, tenant: TenantId, collection: str, ids: Collection[DocumentId], *, embedder: str) -> None:
        """Take documents out of the registry; their versions stay until they are deleted."""
        wanted = sorted(ids)

        def write(connection: Connection) -> None:
            for one in wanted:
                connection.execute(sa.delete(_DOCS).where(_DOCS.c.tenant == tenant, _DOCS.c.id == one))
                forget_shape(connection, tenant, one)
            note_retired(connection, tenant, collection, wanted, now())
            _touch(connection, tenant, collection, embedder)

        if wanted:
            await self._sql.write(write)

    async def hold(self, tenant: TenantId, collection: str, hold: Hold | None) -> None:
        """Keep a collection's content as it is, or with None release it."""

        def write(connection: Connection) -> None:
            values: dict[str, object] = {"held_snapshot": "", "held_by": "", "held_at": None}
            if hold is not None:
                values = {"held_snapshot": hold.snapshot, "held_by": hold.by, "held_at": hold.at}
            where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
            connection.execute(sa.update(_COLLECTIONS).where(*where).values(**values))

        await self._sql.write(write)

    async def delete(
        self, tenant: TenantId, collection: str, ids: Collection[DocumentId], *, embedder: str
    ) -> list[str]:
        """Remove documents, retired ones too, with their versions and what snapshots say of them.

        Gives the blob digests nothing of the tenant refers to any more.
        """
        wanted = sorted(ids)

        def write(connection: Connection) -> list[str]:
            digests: set[str] = set()
            for one in wanted:
                digests |= _forget_versions(connection, tenant, one)
                connection.execute(sa.delete(_DOCS).where(_DOCS.c.tenant == tenant, _DOCS.c.id == one))
                forget_cleaned(connection, tenant, one)
                forget_questions(connection, tenant, one)
                note_back(connection, tenant, [one])
            _touch(connection, tenant, collection, embedder)
            return [digest for digest in sorted(digests) if not _is_used(connection, tenant, digest)]

        return await self._sql.write(write) if wanted else []

    async def only_of(self, tenant: TenantId, ids: Collection[DocumentId]) -> list[str]:
        """Digests of blobs that these documents refer to, and nothing else of the tenant."""
        wanted = sorted(ids)

        def read(connection: Connection) -> list[str]:
            mine: set[str] = set()
            for one in wanted:
                where = (_VERSIONS.c.tenant == tenant, _VERSIONS.c.document_id == one)
                for version in connection.execute(sa.select(_VERSIONS).where(*where)):
                    mine |= _blobs_of(version)
                mine |= kept_for_spaces(connection, tenant, one)
            return [digest for digest in sorted(mine) if not _is_used(connection, tenant, digest, besides=wanted)]

        return await self._sql.read(read)

    async def forget_versions(self, tenant: TenantId, document: DocumentId) -> list[str]:
        """Remove all versions of a document; give the blob digests that nothing of the tenant refers to any more."""

        def write(connection: Connection) -> list[str]:
            digests = _forget_versions(connection, tenant, document)
            return [digest for digest in sorted(digests) if not _is_used(connection, tenant, digest)]

        return await self._sql.write(write)

    async def settle(self, tenant: TenantId, collection: str, settled: str) -> None:
        """Note at which revision the documents of a collection were compared; empty when they must be anew."""

        def write(connection: Connection) -> None:
            where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
            connection.execute(sa.update(_COLLECTIONS).where(*where).values(settled=settled))

        await self._sql.write(write)

    # Any: JSON of `LegHealth`.
    async def keep_legs(self, tenant: TenantId, collection: str, legs: Mapping[str, Any]) -> None:
        """Keep which legs of a collection's searches are of use."""

        def write(connection: Connection) -> None:
            where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
            connection.execute(sa.update(_COLLECTIONS).where(*where).values(legs=dict(legs)))

        await self._sql.write(write)

    async def has_version(self, tenant: TenantId, document: DocumentId, text_digest: str) -> bool:
        """Whether the document ever had this text."""

        def read(connection: Connection) -> bool:
            where = (
                _VERSIONS.c.tenant == tenant,
                _VERSIONS.c.document_id == document,
                _VERSIONS.c.text_digest == text_digest,
            )
            return connection.execute(sa.select(_VERSIONS.c.raw_digest).where(*where)).first() is not None

        return await self._sql.read(read)

    async def boxes_digest(self, tenant: TenantId, document: DocumentId, text_digest: str) -> str:
        """Digest of the boxes of a version; empty when it has none."""
        return await self._digest_beside(tenant, document, text_digest, _VERSIONS.c.boxes_digest)

    async def kept_digest(self, tenant: TenantId, document: DocumentId, text_digest: str) -> str:
        """Digest of the passages of a version with their vectors; empty when they are not kept."""
        return await self._digest_beside(tenant, document, text_digest, _VERSIONS.c.kept_digest)

    async def _digest_beside(
        self, tenant: TenantId, document: DocumentId, text_digest: str, column: sa.Column[str]
    ) -> str:
        def read(connection: Connection) -> str:
            where = (
                _VERSIONS.c.tenant == tenant,
                _VERSIONS.c.document_id == document,
                _VERSIONS.c.text_digest == text_digest,
                column != "",
            )
            query = sa.select(column).where(*where).order_by(_VERSIONS.c.ingested_at.desc()).limit(1)
            return connection.execute(query).scalar() or ""

        return await self._sql.read(read)

    async def save_snapshot(self, tenant: TenantId, snapshot: Snapshot, *, revision: int) -> None:
        """Record the snapshot of a revision; a newer revision keeps the collection's pointer stale."""

        def write(connection: Connection) -> None:
            where = (
                _SNAPSHOTS.c.tenant == tenant,
                _SNAPSHOTS.c.collection == snapshot.collection,
                _SNAPSHOTS.c.id == snapshot.id,
            )
            of_collection = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == snapshot.collection)
            before = connection.execute(sa.select(_COLLECTIONS.c.snapshot_id).where(*of_collection)).scalar()
            if connection.execute(sa.select(_SNAPSHOTS.c.id).where(*where)).first() is not None:
                if before != snapshot.id:
                    # The content came back to what it was: it is the newest again.
                    moment = sa.update(_SNAPSHOTS).where(*where).values(created_at=snapshot.created_at)
                    connection.execute(moment)
            else:
                connection.execute(
                    sa.insert(_SNAPSHOTS).values(
                        tenant=tenant,
                        collection=snapshot.collection,
                        id=snapshot.id,
                        documents=snapshot.documents,
                        passages=snapshot.passages,
                        created_at=snapshot.created_at,
                    )
                )
            connection.execute(
                sa.update(_COLLECTIONS)
                .where(*of_collection)
                .values(snapshot_id=snapshot.id, snapshot_revision=revision)
            )

        await self._sql.write(write)

    async def snapshot(self, tenant: TenantId, collection: str, snapshot: SnapshotId) -> Snapshot | None:
        """One recorded snapshot."""
        return next((s for s in await self.snapshots(tenant, collection) if s.id == snapshot), None)

    async def snapshots(self, tenant: TenantId, collection: str) -> list[Snapshot]:
        """Recorded snapshots, newest first."""

        def read(connection: Connection) -> list[Snapshot]:
            where = (_SNAPSHOTS.c.tenant == tenant, _SNAPSHOTS.c.collection == collection)
            query = sa.select(_SNAPSHOTS).where(*where).order_by(_SNAPSHOTS.c.created_at.desc())
            return [
                Snapshot(SnapshotId(row.id), row.collection, row.documents, row.passages, row.created_at)
                for row in connection.execute(query)
            ]

        return await self._sql.read(read)


def _collection(connection: Connection, tenant: TenantId, collection: str) -> CollectionState | None:
    where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
    row = connection.execute(sa.select(_COLLECTIONS).where(*where)).first()
    if row is None:
        return None
    current = row.snapshot_id and row.snapshot_revision == row.revision
    hold = None if row.held_at is None else Hold(SnapshotId(row.held_snapshot), row.held_by, row.held_at)
    snapshot = SnapshotId(row.snapshot_id) if current else None
    return CollectionState(row.embedder, row.revision, snapshot, row.settled, hold, row.legs)


def _touch(connection: Connection, tenant: TenantId, collection: str, embedder: str) -> None:
    where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
    changed = connection.execute(
        # Which space answers is for `adopt` and for a switch to say: a writer that began before must not undo one.
        sa.update(_COLLECTIONS).where(*where).values(revision=_COLLECTIONS.c.revision + 1)
    )
    if changed.rowcount == 0:
        connection.execute(
            sa.insert(_COLLECTIONS).values(
                tenant=tenant,
                collection=collection,
                embedder=embedder,
                revision=1,
                snapshot_id="",
                snapshot_revision=0,
                held_snapshot="",
                held_by="",
                held_at=None,
                settled="",
            )
        )


def _save(connection: Connection, tenant: TenantId, document: StoredDocument) -> list[str]:
    """Gives the digests of what it replaced."""
    info = document.info
    values = {
        "collection": info.collection,
        "source": info.source,
        "title": info.title,
        "media_type": info.media_type,
        "raw_digest": info.raw_digest,
        "seen_digest": info.seen_digest,
        "text_digest": info.text_digest,
        "size_bytes": info.size_bytes,
        "pages": info.pages,
        "passages": info.passages,
        "readers": sorted(info.readers),
        "metadata": dict(info.metadata),
        "own_metadata": document.own_metadata,
        "state": info.state,
        "error_code": info.error_code,
        "error_message": info.error_message,
        "ingested_at": info.ingested_at,
        "checked_at": info.checked_at,
        "fingerprint": info.fingerprint,
        "languages": list(info.languages),
        "origin": document.origin,
        "version": document.version,
        "name_hint": document.name_hint,
        "stated_readers": None if document.stated is None else sorted(document.stated),
        "quality": info.quality,
        "review": [[page, score, list(reasons)] for page, score, reasons in info.review],
        "cleaning": facts_to(info.cleaning),
    }
    if connection.execute(_CHANGE, {**values, "of_tenant": tenant, "of_id": info.id}).rowcount == 0:
        connection.execute(_ADD, {**values, "tenant": tenant, "id": info.id})
    return _save_version(connection, tenant, document) if info.text_digest else []


def _save_version(connection: Connection, tenant: TenantId, document: StoredDocument) -> list[str]:
    """Gives the digests of what it replaced."""
    info = document.info
    version = {
        "tenant": tenant,
        "document_id": info.id,
        "text_digest": info.text_digest,
        "raw_digest": info.raw_digest,
    }
    beside = {"boxes_digest": document.boxes_digest, "kept_digest": document.kept_digest}
    known = connection.execute(_VERSION, version).mappings().first()
    if known is None:
        given = {name: digest or "" for name, digest in beside.items()}
        connection.execute(_ADD_VERSION, {**version, "ingested_at": info.ingested_at or now(), **given})
        return []
    new = {name: digest for name, digest in beside.items() if digest is not None and digest != known[name]}
    if not new:
        return []
    connection.execute(sa.update(_VERSIONS).filter_by(**version).values(**new))
    return [known[name] for name in new]


# Any: SQLAlchemy's rows carry no column types.
def _blobs_of(version: Any) -> set[str]:
    return {version.text_digest, version.raw_digest, version.boxes_digest, version.kept_digest} - {""}


def _forget_versions(connection: Connection, tenant: TenantId, document: DocumentId) -> set[str]:
    """Gives the blobs they named."""
    of_document = (_VERSIONS.c.tenant == tenant, _VERSIONS.c.document_id == document)
    named: set[str] = set()
    for version in connection.execute(sa.select(_VERSIONS).where(*of_document)):
        named |= _blobs_of(version)
    connection.execute(sa.delete(_VERSIONS).where(*of_document))
    named |= forget_known(connection, tenant, document)
    forget_entries(connection, tenant, document)
    return named


def _is_used(connection: Connection, tenant: TenantId, digest: str, *, besides: Collection[DocumentId] = ()) -> bool:
    either = sa.or_(
        _VERSIONS.c.text_digest == digest,
        _VERSIONS.c.raw_digest == digest,
        _VERSIONS.c.boxes_digest == digest,
        _VERSIONS.c.kept_digest == digest,
    )
    query = sa.select(_VERSIONS.c.document_id).where(_VERSIONS.c.tenant == tenant, either).distinct()
    known = frozenset(besides)
    if any(row.document_id not in known for row in connection.execute(query)):
        return True
    return is_kept_for_a_space(connection, tenant, digest, besides=besides)


def blobs_nobody_uses(connection: Connection, tenant: TenantId, digests: Collection[str]) -> list[str]:
    """Those of `digests` that nothing of the tenant refers to."""
    return [digest for digest in sorted(digests) if not _is_used(connection, tenant, digest)]


# Any: SQLAlchemy's row mapping carries no column types.
def _stored(row: Any) -> StoredDocument:
    info = DocumentInfo(
        id=DocumentId(row["id"]),
        collection=row["collection"],
        source=row["source"],
        title=row["title"],
        media_type=row["media_type"],
        raw_digest=row["raw_digest"],
        text_digest=row["text_digest"],
        size_bytes=row["size_bytes"],
        pages=row["pages"],
        passages=row["passages"],
        readers=frozenset(row["readers"]),
        metadata=dict(row["metadata"]),
        languages=tuple(row["languages"]),
        state=row["state"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        ingested_at=row["ingested_at"],
        checked_at=row["checked_at"],
        fingerprint=row["fingerprint"],
        seen_digest=row["seen_digest"],
        quality=row["quality"],
        review=tuple(PageReview(page, score, tuple(reasons)) for page, score, reasons in row["review"]),
        cleaning=facts_from(row["cleaning"]),
    )
    stated = row["stated_readers"]
    return StoredDocument(
        info,
        dict(row["own_metadata"]),
        row["origin"],
        row["version"],
        row["name_hint"],
        None if stated is None else frozenset(stated),
    )
