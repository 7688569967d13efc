"""The table of sources: where each one's listing goes on, and when it was last seen whole."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import TenantId
from interlock.stores.sql.base import Sql, UtcDateTime, metadata

__all__ = ["SourceState", "SourceStore", "knowledge_sources"]

knowledge_sources = sa.Table(
    "knowledge_sources",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("cursor", sa.Text, nullable=True),
    sa.Column("attempted_at", UtcDateTime, nullable=True),
    sa.Column("synced_at", UtcDateTime, nullable=True),
    sa.Column("full_at", UtcDateTime, nullable=True),
    sa.Column("wanted_at", UtcDateTime, nullable=True),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("error_message", sa.Text, nullable=False),
    sa.Column("told", sa.Text, nullable=False),
)
"""One row a source of a collection; `config` is the digest of the fields that a cursor depends on."""

_T = knowledge_sources


@dataclass(frozen=True, slots=True)
class SourceState:
    """Where a source stands."""

    config: str = ""
    cursor: str | None = None
    attempted_at: datetime | None = None
    """When a run last began with it."""
    synced_at: datetime | None = None
    """When the last run that saw all of its changes began: everything older is here."""
    full_at: datetime | None = None
    """When the last full listing that was completed began."""
    wanted_at: datetime | None = None
    """When somebody last said that it changed."""
    error_code: str = ""
    error_message: str = ""
    told: str = ""
    """The state that was last told to people."""


class SourceStore:
    """States of sources. Every method is about one tenant."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def states(self, tenant: TenantId, collection: str) -> dict[str, SourceState]:
        """By name."""

        def read(connection: Connection) -> dict[str, SourceState]:
            query = sa.select(_T).where(_T.c.tenant == tenant, _T.c.collection == collection)
            return {row["name"]: _state(row) for row in connection.execute(query).mappings()}

        return await self._sql.read(read)

    # Any: columns of several types.
    async def note(self, tenant: TenantId, collection: str, name: str, **values: Any) -> None:
        """Set some columns of a source; it is added when it is new."""

        def write(connection: Connection) -> None:
            where = (_T.c.tenant == tenant, _T.c.collection == collection, _T.c.name == name)
            if connection.execute(sa.update(_T).where(*where).values(**values)).rowcount == 0:
                blank = {"config": "", "error_code": "", "error_message": "", "told": ""}
                row = {"tenant": tenant, "collection": collection, "name": name, **blank, **values}
                connection.execute(sa.insert(_T).values(**row))

        await self._sql.write(write)

    async def keep_only(self, tenant: TenantId, collection: str, names: Collection[str]) -> None:
        """Forget the sources with other names: one that is named again begins anew."""

        def write(connection: Connection) -> None:
            where = (_T.c.tenant == tenant, _T.c.collection == collection, _T.c.name.not_in(names))
            connection.execute(sa.delete(_T).where(*where))

        await self._sql.write(write)

    async def read_anew(self, tenant: TenantId, collection: str, name: str | None = None) -> None:
        """Let the next run list a source in full, or all of a collection: changes alone would not bring back what was
        taken out of it here.
        """

        def write(connection: Connection) -> None:
            where = [_T.c.tenant == tenant, _T.c.collection == collection]
            if name is not None:
                where.append(_T.c.name == name)
            # A run under way may write its cursor afterwards; that it saw everything, only a full one does.
            connection.execute(sa.update(_T).where(*where).values(cursor=None, full_at=None))

        await self._sql.write(write)

    async def told(self, tenant: TenantId, collection: str, name: str, before: str, after: str) -> bool:
        """Note what is told now, if what was told is still `before`: of several that try, one may tell."""

        def write(connection: Connection) -> bool:
            where = (_T.c.tenant == tenant, _T.c.collection == collection, _T.c.name == name, _T.c.told == before)
            return connection.execute(sa.update(_T).where(*where).values(told=after)).rowcount > 0

        return await self._sql.write(write)


# Any: SQLAlchemy's row mapping carries no column types.
def _state(row: Any) -> SourceState:
    return SourceState(
        config=row["config"],
        cursor=row["cursor"],
        attempted_at=row["attempted_at"],
        synced_at=row["synced_at"],
        full_at=row["full_at"],
        wanted_at=row["wanted_at"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        told=row["told"],
    )
