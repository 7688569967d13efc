"""Reads and writes the tables of history; every method takes the tenant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import DocumentId, TenantId
from interlock.knowledge.history.tables import knowledge_entries, knowledge_erased, knowledge_retired
from interlock.stores.sql.base import Sql

__all__ = ["HistoryStore", "Retired"]

_ENTRIES, _RETIRED, _ERASED = knowledge_entries, knowledge_retired, knowledge_erased
_IN_LIST = 500
"""Values a statement may list: SQLite bounds its parameters."""


class Retired(NamedTuple):
    """A document that is found by nobody and is not removed yet."""

    id: DocumentId
    collection: str


class HistoryStore:
    """See the tables."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def scrub(self) -> bool:
        """See `Sql.scrub`."""
        return await self._sql.scrub()

    async def add_entries(
        self, tenant: TenantId, entries: Mapping[str, tuple[DocumentId, Mapping[str, object]]]
    ) -> None:
        """Store what is not there yet.

        Args:
            entries: document and content by digest.
        """

        def write(connection: Connection) -> None:
            held = _held(connection, tenant, entries)
            rows = [
                {"tenant": tenant, "digest": digest, "document_id": document, "content": dict(content)}
                for digest, (document, content) in entries.items()
                if digest not in held
            ]
            if rows:
                connection.execute(sa.insert(_ENTRIES), rows)

        if entries:
            await self._sql.write(write)

    async def entries(self, tenant: TenantId, digests: Collection[str]) -> dict[str, dict[str, object]]:
        """Contents by digest; what was erased is absent."""

        def read(connection: Connection) -> dict[str, dict[str, object]]:
            return _held(connection, tenant, digests)

        return await self._sql.read(read)

    async def contents_of(
        self, tenant: TenantId, documents: Collection[DocumentId] | None = None
    ) -> list[dict[str, object]]:
        """What snapshots say of these documents, or of all; several versions of one in no order."""

        def read(connection: Connection) -> list[dict[str, object]]:
            query = sa.select(_ENTRIES.c.content).where(_ENTRIES.c.tenant == tenant)
            if documents is None:
                return [row.content for row in connection.execute(query)]
            found: list[dict[str, object]] = []
            wanted = sorted(documents)
            for start in range(0, len(wanted), _IN_LIST):
                part = query.where(_ENTRIES.c.document_id.in_(wanted[start : start + _IN_LIST]))
                found.extend(row.content for row in connection.execute(part))
            return found

        return await self._sql.read(read)

    async def retired(self, tenant: TenantId, *, before: datetime, collection: str | None = None) -> list[Retired]:
        """Documents that were retired before a moment."""

        def read(connection: Connection) -> list[Retired]:
            where = [_RETIRED.c.tenant == tenant, _RETIRED.c.retired_at < before]
            if collection is not None:
                where.append(_RETIRED.c.collection == collection)
            rows = connection.execute(sa.select(_RETIRED).where(*where))
            return [Retired(DocumentId(row.document_id), row.collection) for row in rows]

        return await self._sql.read(read)

    async def is_retired(self, tenant: TenantId, document: DocumentId) -> Retired | None:
        """The document, when it is retired."""

        def read(connection: Connection) -> Retired | None:
            where = (_RETIRED.c.tenant == tenant, _RETIRED.c.document_id == document)
            row = connection.execute(sa.select(_RETIRED).where(*where)).first()
            return None if row is None else Retired(document, row.collection)

        return await self._sql.read(read)

    async def keep_out(self, tenant: TenantId, collection: str, ids: Collection[DocumentId], at: datetime) -> None:
        """No run brings these back."""

        def write(connection: Connection) -> None:
            for one in sorted(ids):
                connection.execute(sa.delete(_ERASED).where(_ERASED.c.tenant == tenant, _ERASED.c.document_id == one))
                row = {"tenant": tenant, "document_id": one, "collection": collection, "erased_at": at}
                connection.execute(sa.insert(_ERASED).values(**row))

        await self._sql.write(write)

    async def let_in(self, tenant: TenantId, document: DocumentId) -> bool:
        """Runs may bring it back. False when it was not kept out."""

        def write(connection: Connection) -> bool:
            where = (_ERASED.c.tenant == tenant, _ERASED.c.document_id == document)
            return connection.execute(sa.delete(_ERASED).where(*where)).rowcount > 0

        return await self._sql.write(write)

    async def is_kept_out(self, tenant: TenantId, document: DocumentId) -> str | None:
        """The collection that an erased document was in."""

        def read(connection: Connection) -> str | None:
            where = (_ERASED.c.tenant == tenant, _ERASED.c.document_id == document)
            return connection.execute(sa.select(_ERASED.c.collection).where(*where)).scalar()

        return await self._sql.read(read)

    async def kept_out(self, tenant: TenantId, collection: str) -> frozenset[DocumentId]:
        """What no run may bring back."""

        def read(connection: Connection) -> frozenset[DocumentId]:
            where = (_ERASED.c.tenant == tenant, _ERASED.c.collection == collection)
            rows = connection.execute(sa.select(_ERASED.c.document_id).where(*where))
            return frozenset(DocumentId(row.document_id) for row in rows)

        return await self._sql.read(read)


def _held(connection: Connection, tenant: TenantId, digests: Collection[str]) -> dict[str, dict[str, object]]:
    wanted = sorted(digests)
    found: dict[str, dict[str, object]] = {}
    for start in range(0, len(wanted), _IN_LIST):
        part = wanted[start : start + _IN_LIST]
        query = sa.select(_ENTRIES.c.digest, _ENTRIES.c.content)
        for row in connection.execute(query.where(_ENTRIES.c.tenant == tenant, _ENTRIES.c.digest.in_(part))):
            found[row.digest] = row.content
    return found
