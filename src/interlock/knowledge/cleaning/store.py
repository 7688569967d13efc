"""Tables of cleaning: what each document looks like, what people decided, contexts that a model wrote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import DocumentId, TenantId
from interlock.knowledge.cleaning.signatures import Signature
from interlock.knowledge.cleaning.types import CleaningFacts, Decision
from interlock.stores.sql.base import Sql, UtcDateTime, metadata

__all__ = [
    "Cleaned",
    "CleanedStore",
    "facts_from",
    "facts_to",
    "forget_cleaned",
    "forget_shape",
    "knowledge_cleaned",
    "knowledge_contexts",
    "knowledge_decisions",
]

knowledge_cleaned = sa.Table(
    "knowledge_cleaned",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("text_digest", sa.Text, nullable=False),
    sa.Column("passages_digest", sa.Text, nullable=False),
    sa.Column("exact", sa.Text, nullable=False),
    sa.Column("critical", sa.Text, nullable=False),
    sa.Column("words", sa.Integer, nullable=False),
    sa.Column("minhash", sa.LargeBinary, nullable=False),
    sa.Column("blocks", sa.LargeBinary, nullable=False),
    sa.Column("left_out", sa.LargeBinary, nullable=False),
    sa.Column("layout", sa.LargeBinary, nullable=False),
    sa.Index("ix_knowledge_cleaned_tenant_collection", "tenant", "collection"),
)
"""One row a document. `passages_digest` is that of the passages in the index, empty when there are none; `layout` is
what the chunker needs beside the text."""

knowledge_decisions = sa.Table(
    "knowledge_decisions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("text_digest", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Index("ix_knowledge_decisions_tenant_collection", "tenant", "collection"),
)
"""About one text of a document: another text is judged anew."""

knowledge_contexts = sa.Table(
    "knowledge_contexts",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)
"""`key` is the digest of what was asked: model, title, headings and the passage."""

_C, _D, _X = knowledge_cleaned, knowledge_decisions, knowledge_contexts
_IN_LIST = 500
_LIGHT = (_C.c.document_id, _C.c.text_digest, _C.c.passages_digest, _C.c.exact, _C.c.critical, _C.c.words, _C.c.minhash)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is remembered of one document's text."""

    id: DocumentId
    text_digest: str
    passages_digest: str
    signature: Signature
    blocks: bytes
    left_out: frozenset[bytes]
    layout: bytes = b""
    """Empty where it was not asked for."""


def facts_to(facts: CleaningFacts) -> object:
    """As JSON."""
    return {name: value for name, value in msgspec.to_builtins(facts).items() if value not in (None, "", 0, [], {})}


# Any: JSON on its way in.
def facts_from(stored: Any) -> CleaningFacts:
    """Out of what `facts_to` of this or another version wrote."""
    return msgspec.convert(stored or {}, type=CleaningFacts)


def forget_cleaned(connection: Connection, tenant: TenantId, document: DocumentId) -> None:
    """As part of a document's deletion."""
    for table in (_C, _D, _X):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant, table.c.document_id == document))


def forget_shape(connection: Connection, tenant: TenantId, document: DocumentId) -> None:
    """What the document looks like, where its passages leave the index. What people decided stays."""
    connection.execute(sa.delete(_C).where(_C.c.tenant == tenant, _C.c.document_id == document))


class CleanedStore:
    """Reads and writes the tables; every method takes the tenant."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def save(self, tenant: TenantId, collection: str, rows: Sequence[Cleaned]) -> None:
        """Insert or replace. A row with an empty layout keeps the one that is stored."""

        def write(connection: Connection) -> None:
            for row in rows:
                values: dict[str, object] = {
                    "collection": collection,
                    "text_digest": row.text_digest,
                    "passages_digest": row.passages_digest,
                    "exact": row.signature.exact,
                    "critical": row.signature.critical,
                    "words": row.signature.words,
                    "minhash": row.signature.minhash,
                    "blocks": row.blocks,
                    "left_out": b"".join(sorted(row.left_out)),
                }
                if row.layout:
                    values["layout"] = row.layout
                where = (_C.c.tenant == tenant, _C.c.document_id == row.id)
                if connection.execute(sa.update(_C).where(*where).values(**values)).rowcount == 0:
                    values = {"layout": b"", **values}
                    connection.execute(sa.insert(_C).values(tenant=tenant, document_id=row.id, **values))

        if rows:
            await self._sql.write(write)

    async def shaped(self, tenant: TenantId, collection: str) -> frozenset[DocumentId]:
        """Documents of a collection of which it is known what they look like."""

        def read(connection: Connection) -> frozenset[DocumentId]:
            where = (_C.c.tenant == tenant, _C.c.collection == collection)
            return frozenset(map(DocumentId, connection.execute(sa.select(_C.c.document_id).where(*where)).scalars()))

        return await self._sql.read(read)

    async def forget_shapes(self, tenant: TenantId, ids: Collection[DocumentId]) -> None:
        """Passages of these are written otherwise than by a run: the next one reads them again."""

        def write(connection: Connection) -> None:
            for one in sorted(ids):
                forget_shape(connection, tenant, one)

        await self._sql.write(write)

    async def rows(self, tenant: TenantId, collection: str) -> dict[DocumentId, Cleaned]:
        """All of a collection without layouts: some 700 bytes a document, and 8 a block."""

        def read(connection: Connection) -> dict[DocumentId, Cleaned]:
            where = (_C.c.tenant == tenant, _C.c.collection == collection)
            query = sa.select(*_LIGHT, _C.c.blocks, _C.c.left_out).where(*where)
            return {DocumentId(row.document_id): _cleaned(row) for row in connection.execute(query)}

        return await self._sql.read(read)

    async def by_id(self, tenant: TenantId, ids: Collection[DocumentId]) -> dict[DocumentId, Cleaned]:
        """With layouts; unknown ids are absent."""
        wanted = sorted(ids)

        def read(connection: Connection) -> dict[DocumentId, Cleaned]:
            found: dict[DocumentId, Cleaned] = {}
            for start in range(0, len(wanted), _IN_LIST):
                where = (_C.c.tenant == tenant, _C.c.document_id.in_(wanted[start : start + _IN_LIST]))
                for row in connection.execute(sa.select(_C).where(*where)):
                    found[DocumentId(row.document_id)] = _cleaned(row, layout=row.layout)
            return found

        return await self._sql.read(read)

    async def decisions(self, tenant: TenantId, collection: str) -> dict[tuple[DocumentId, str], Decision]:
        """Of a collection, by document and text."""

        def read(connection: Connection) -> dict[tuple[DocumentId, str], Decision]:
            where = (_D.c.tenant == tenant, _D.c.collection == collection)
            found = [
                Decision(DocumentId(r.document_id), r.text_digest, r.verdict, r.decided_by, r.decided_at)
                for r in connection.execute(sa.select(_D).where(*where))
            ]
            return {(one.document, one.text_digest): one for one in found}

        return await self._sql.read(read)

    async def decide(self, tenant: TenantId, collection: str, decision: Decision) -> None:
        """Write it down; the last one about a text counts."""

        def write(connection: Connection) -> None:
            where = (
                _D.c.tenant == tenant,
                _D.c.document_id == decision.document,
                _D.c.text_digest == decision.text_digest,
            )
            connection.execute(sa.delete(_D).where(*where))
            connection.execute(
                sa.insert(_D).values(
                    tenant=tenant,
                    document_id=decision.document,
                    text_digest=decision.text_digest,
                    collection=collection,
                    verdict=decision.verdict,
                    decided_by=decision.by,
                    decided_at=decision.at,
                )
            )

        await self._sql.write(write)

    async def contexts(self, tenant: TenantId, document: DocumentId) -> dict[str, str]:
        """What a model wrote about a document's passages, by key."""

        def read(connection: Connection) -> dict[str, str]:
            where = (_X.c.tenant == tenant, _X.c.document_id == document)
            return {row.key: row.text for row in connection.execute(sa.select(_X.c.key, _X.c.text).where(*where))}

        return await self._sql.read(read)

    async def keep_contexts(
        self, tenant: TenantId, document: DocumentId, new: dict[str, str], gone: Collection[str]
    ) -> None:
        """Add contexts, and forget those of passages that are no more."""

        def write(connection: Connection) -> None:
            of_document = (_X.c.tenant == tenant, _X.c.document_id == document)
            for key in sorted({*new, *gone}):
                connection.execute(sa.delete(_X).where(*of_document, _X.c.key == key))
            rows = [{"tenant": tenant, "document_id": document, "key": k, "text": t} for k, t in new.items()]
            if rows:
                connection.execute(sa.insert(_X), rows)

        if new or gone:
            await self._sql.write(write)


# Any: SQLAlchemy's row carries no column types.
def _cleaned(row: Any, layout: bytes = b"") -> Cleaned:
    gone = bytes(row.left_out)
    return Cleaned(
        DocumentId(row.document_id),
        row.text_digest,
        row.passages_digest,
        Signature(row.exact, row.critical, row.words, bytes(row.minhash)),
        bytes(row.blocks),
        frozenset(gone[at : at + 8] for at in range(0, len(gone), 8)),
        bytes(layout),
    )
