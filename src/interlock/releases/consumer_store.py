"""Table: teams that read an app's answers, each with the schema that it reads them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.canonical import digest_json
from interlock.core.ids import AppName, TenantId
from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = ["Consumer", "consumers_of", "remove_consumer", "set_consumer"]

consumers = sa.Table(
    "release_consumers",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("schema", Json, nullable=False),
    sa.Column("contact", sa.String(200), nullable=False),
    sa.Column("set_by", sa.String(128), nullable=False),
    sa.Column("set_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Somebody who reads an app's answers."""

    name: str
    # Any: a JSON Schema.
    schema: Mapping[str, Any]
    """What it can read."""
    contact: str
    """Whom to ask: a team, an address, a channel."""
    set_by: str
    set_at: datetime

    @property
    def digest(self) -> str:
        """Of the schema."""
        return digest_json(self.schema)


def consumers_of(conn: Connection, tenant: TenantId, app: AppName) -> list[Consumer]:
    """By name."""
    rows = conn.execute(
        sa.select(consumers).where(consumers.c.tenant == tenant, consumers.c.app == app).order_by(consumers.c.name)
    )
    return [Consumer(r.name, r.schema, r.contact, r.set_by, r.set_at) for r in rows]


def set_consumer(conn: Connection, tenant: TenantId, app: AppName, consumer: Consumer) -> bool:
    """Record one, or what it reads now; True where it is new."""
    where = (consumers.c.tenant == tenant, consumers.c.app == app, consumers.c.name == consumer.name)
    values = {
        "schema": dict(consumer.schema),
        "contact": consumer.contact,
        "set_by": consumer.set_by,
        "set_at": consumer.set_at,
    }
    if conn.execute(consumers.update().where(*where).values(**values)).rowcount:
        return False
    conn.execute(consumers.insert().values(tenant=tenant, app=app, name=consumer.name, **values))
    return True


def remove_consumer(conn: Connection, tenant: TenantId, app: AppName, name: str) -> bool:
    """False when there was none."""
    found = conn.execute(
        consumers.delete().where(consumers.c.tenant == tenant, consumers.c.app == app, consumers.c.name == name)
    )
    return bool(found.rowcount)
