"""Tables of knowledge: the registry of documents, their versions, and the snapshots of collections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.ids import DocumentId, SnapshotId, TenantId
from interlock.knowledge.types import DocumentInfo, PageReview, Snapshot
from interlock.stores.sql.base import Json, Sql, UtcDateTime, metadata

__all__ = [
    "CollectionState",
    "DocumentStore",
    "Noted",
    "StoredDocument",
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
)
"""`revision` counts changes; the snapshot is current while its revision is the collection's."""

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


class Noted(NamedTuple):
    """What a run learned about a document whose content did not change."""

    id: DocumentId
    origin: str
    version: str
    name_hint: str


class DocumentStore:
    """Reads and writes the tables; every method takes the tenant."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._languages: dict[tuple[TenantId, str], tuple[int, frozenset[str]]] = {}
        self._facts: dict[tuple[TenantId, str], tuple[int, list[DocumentInfo]]] = {}

    async def collection(self, tenant: TenantId, collection: str) -> CollectionState | None:
        """State of a collection, None when nothing was ever ingested."""

        def read(connection: Connection) -> CollectionState | None:
            return _collection(connection, tenant, collection)

        return await self._sql.read(read)

    async def languages(self, tenant: TenantId, collection: str) -> frozenset[str]:
        """Languages of a collection's documents. Remembered until the collection changes."""
        key = (tenant, collection)
        known = self._languages.get(key)

        def read(connection: Connection) -> tuple[int, frozenset[str]] | None:
            state = _collection(connection, tenant, collection)
            if state is None:
                return None
            if known is not None and known[0] == state.revision:
                return known
            of_collection = (_DOCS.c.tenant == tenant, _DOCS.c.collection == collection, _DOCS.c.text_digest != "")
            rows = connection.execute(sa.select(sa.cast(_DOCS.c.languages, sa.Text)).where(*of_collection).distinct())
            return state.revision, frozenset(code for row in rows for code in json.loads(row[0]))

        found = await self._sql.read(read)
        if found is None:
            return frozenset()
        if len(self._languages) >= _REMEMBERED:
            self._languages.clear()
        self._languages[key] = found
        return found[1]

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
            for start in range(0, len(wanted), _IN_LIST):
                part = wanted[start : start + _IN_LIST]
                query = sa.select(_DOCS).where(_DOCS.c.tenant == tenant, _DOCS.c.id.in_(part))
                for row in connection.execute(query).mappings():
                    info = _stored(row).info
                    found[info.id] = info
            return found

        return await self._sql.read(read)

    async def save(self, tenant: TenantId, documents: Sequence[StoredDocument], *, embedder: str) -> list[str]:
        """Insert or replace documents of one collection, in one transaction that also counts its revision up.

        Gives the digests of boxes that were replaced and that nothing of the tenant refers to any more.
        """
        if not documents:
            return []
        collection = documents[0].info.collection

        def write(connection: Connection) -> list[str]:
            replaced = {_save(connection, tenant, document) for document in documents} - {""}
            _touch(connection, tenant, collection, embedder)
            return [digest for digest in sorted(replaced) if not _is_used(connection, tenant, digest)]

        return await self._sql.write(write)

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

    async def delete(
        self, tenant: TenantId, collection: str, ids: Collection[DocumentId], *, embedder: str
    ) -> list[str]:
        """Remove documents and their versions; give the blob digests nothing of the tenant refers to any more."""
        wanted = sorted(ids)

        def write(connection: Connection) -> list[str]:
            digests: set[str] = set()
            for one in wanted:
                of_document = (_VERSIONS.c.tenant == tenant, _VERSIONS.c.document_id == one)
                for version in connection.execute(sa.select(_VERSIONS).where(*of_document)):
                    digests |= {version.text_digest, version.raw_digest, version.boxes_digest} - {""}
                connection.execute(sa.delete(_VERSIONS).where(*of_document))
                connection.execute(sa.delete(_DOCS).where(_DOCS.c.tenant == tenant, _DOCS.c.id == one))
            _touch(connection, tenant, collection, embedder)
            return [digest for digest in sorted(digests) if not _is_used(connection, tenant, digest)]

        return await self._sql.write(write) if wanted else []

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

        def read(connection: Connection) -> str:
            where = (
                _VERSIONS.c.tenant == tenant,
                _VERSIONS.c.document_id == document,
                _VERSIONS.c.text_digest == text_digest,
                _VERSIONS.c.boxes_digest != "",
            )
            query = sa.select(_VERSIONS.c.boxes_digest).where(*where).order_by(_VERSIONS.c.ingested_at.desc()).limit(1)
            row = connection.execute(query).first()
            return str(row.boxes_digest) if row else ""

        return await self._sql.read(read)

    async def save_snapshot(self, tenant: TenantId, snapshot: Snapshot, *, revision: int) -> None:
        """Record the snapshot of a revision; a newer revision keeps the collection's pointer stale."""

        def write(connection: Connection) -> None:
            where = (
                _SNAPSHOTS.c.tenant == tenant,
                _SNAPSHOTS.c.collection == snapshot.collection,
                _SNAPSHOTS.c.id == snapshot.id,
            )
            if connection.execute(sa.select(_SNAPSHOTS.c.id).where(*where)).first() is None:
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
                .where(_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == snapshot.collection)
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
    return CollectionState(row.embedder, row.revision, SnapshotId(row.snapshot_id) if current else None)


def _touch(connection: Connection, tenant: TenantId, collection: str, embedder: str) -> None:
    where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
    changed = connection.execute(
        sa.update(_COLLECTIONS).where(*where).values(revision=_COLLECTIONS.c.revision + 1, embedder=embedder)
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
            )
        )


def _save(connection: Connection, tenant: TenantId, document: StoredDocument) -> str:
    """Gives the digest of the boxes it replaced, else nothing."""
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
    }
    where = (_DOCS.c.tenant == tenant, _DOCS.c.id == info.id)
    if connection.execute(sa.update(_DOCS).where(*where).values(**values)).rowcount == 0:
        connection.execute(sa.insert(_DOCS).values(tenant=tenant, id=info.id, **values))
    if info.text_digest:
        version = {
            "tenant": tenant,
            "document_id": info.id,
            "text_digest": info.text_digest,
            "raw_digest": info.raw_digest,
        }
        known = connection.execute(sa.select(_VERSIONS.c.boxes_digest).filter_by(**version)).first()
        boxes = document.boxes_digest
        if known is None:
            at = info.ingested_at or now()
            connection.execute(sa.insert(_VERSIONS).values(**version, ingested_at=at, boxes_digest=boxes or ""))
        elif boxes is not None and boxes != known.boxes_digest:
            connection.execute(sa.update(_VERSIONS).filter_by(**version).values(boxes_digest=boxes))
            return str(known.boxes_digest)
    return ""


def _is_used(connection: Connection, tenant: TenantId, digest: str) -> bool:
    either = sa.or_(
        _VERSIONS.c.text_digest == digest, _VERSIONS.c.raw_digest == digest, _VERSIONS.c.boxes_digest == digest
    )
    query = sa.select(_VERSIONS.c.document_id).where(_VERSIONS.c.tenant == tenant, either).limit(1)
    return connection.execute(query).first() is not None


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
