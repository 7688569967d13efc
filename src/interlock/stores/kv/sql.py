"""Key-value store over the relational one: state that several workers share without a further server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import ReturningInsert

from interlock.core.errors import Conflict
from interlock.core.ids import TenantId
from interlock.stores.kv.base import Granted
from interlock.stores.sql import Sql, metadata, read_committed

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = ["SqlKv", "SqlLease", "kv_entries", "kv_grants", "kv_leases"]

kv_entries = sa.Table(
    "kv_entries",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, index=True),
)
"""Cached values and counters. `expires_ms` is Unix milliseconds, NULL for ever; a counter is a decimal number."""

kv_leases = sa.Table(
    "kv_leases",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
)
"""Leases. A row stays when its lease ends, so that the token only ever grows."""

kv_grants = sa.Table(
    "kv_grants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("counter", sa.Text, primary_key=True),
    sa.Column("slot", sa.BigInteger, primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, index=True),
)
"""Units of quotas handed out, by slot of time. `expires_ms` as in `kv_entries`."""

_SWEEP_EVERY_S = 30.0
_SWEEP_ROWS = 1000


class SqlKv:
    """A `Kv` over any `Sql`.

    Args:
        sql: a migrated database.
        clock_ms: Unix milliseconds; by default the database server's clock on PostgreSQL, so that workers on several
            machines agree, and this machine's on SQLite.
    """

    def __init__(self, sql: Sql, *, clock_ms: Callable[[], int] | None = None) -> None:
        self._sql = sql
        self._clock_ms = clock_ms
        self._swept_at = time.monotonic()

    async def get(self, tenant: TenantId, key: str) -> bytes | None:
        """See `Kv.get`."""

        def read(connection: Connection) -> bytes | None:
            return connection.execute(
                sa.select(kv_entries.c.value).where(self._at(tenant, key), self._live(connection))
            ).scalar()

        return await self._sql.read(read)

    async def set(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> None:
        """See `Kv.set`."""

        def write(connection: Connection) -> None:
            read_committed(connection)
            self._put(connection, tenant, key, value, self._expiry(connection, ttl_s))

        await self._sql.write(write)
        await self._sweep_sometimes()

    async def add(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> bool:
        """See `Kv.add`."""

        def write(connection: Connection) -> bool:
            read_committed(connection)
            self._drop_expired(connection, tenant, key)
            return self._insert(connection, tenant, key, value, self._expiry(connection, ttl_s))

        added = await self._sql.write(write)
        await self._sweep_sometimes()
        return added

    async def delete(self, tenant: TenantId, key: str) -> bool:
        """See `Kv.delete`."""

        def write(connection: Connection) -> bool:
            read_committed(connection)
            self._drop_expired(connection, tenant, key)
            return connection.execute(sa.delete(kv_entries).where(self._at(tenant, key))).rowcount > 0

        return await self._sql.write(write)

    async def delete_prefix(self, tenant: TenantId, prefix: str) -> int:
        """See `Kv.delete_prefix`."""

        def write(connection: Connection) -> int:
            read_committed(connection)
            starts = sa.func.substr(kv_entries.c.key, 1, len(prefix)) == prefix
            live = self._live(connection)
            of_tenant = kv_entries.c.tenant == tenant
            return connection.execute(sa.delete(kv_entries).where(of_tenant, starts, live)).rowcount

        return await self._sql.write(write)

    async def increment(
        self, tenant: TenantId, key: str, amount: int = 1, *, limit: int | None = None, ttl_s: float | None = None
    ) -> int | None:
        """See `Kv.increment`. Raises: Conflict: the key holds something that is not a number."""

        def write(connection: Connection) -> int | None:
            read_committed(connection)
            self._drop_expired(connection, tenant, key)
            fits = limit is None or amount <= limit
            if fits and self._insert(connection, tenant, key, b"%d" % amount, self._expiry(connection, ttl_s)):
                return amount
            stored = connection.execute(
                sa.select(kv_entries.c.value).where(self._at(tenant, key)).with_for_update()
            ).scalar()
            if stored is None:
                return None  # nothing there, and the first step alone would pass the limit
            value = counted(stored, key) + amount
            if limit is not None and value > limit:
                return None
            connection.execute(sa.update(kv_entries).where(self._at(tenant, key)).values(value=b"%d" % value))
            return value

        value = await self._sql.write(write)
        await self._sweep_sometimes()
        return value

    async def grant(
        self,
        tenant: TenantId,
        counter: str,
        amount: int,
        *,
        limit: int,
        slot: int = 0,
        span: int = 1,
        at_least: int | None = None,
        ttl_s: float | None = None,
    ) -> Granted:
        """See `Kv.grant`."""

        def write(connection: Connection) -> Granted:
            read_committed(connection)
            _lock_counter(connection, tenant, counter)
            of_counter = sa.and_(kv_grants.c.tenant == tenant, kv_grants.c.counter == counter)
            expired = kv_grants.c.expires_ms <= self._now_ms(connection)
            connection.execute(sa.delete(kv_grants).where(of_counter, expired))
            left = max(0, limit - self._granted(connection, tenant, counter, slot, span))
            given = min(amount, left)
            if given < (amount if at_least is None else at_least) or given <= 0:
                return Granted(0, left)
            insert = _insert_into(connection, kv_grants).values(
                tenant=tenant, counter=counter, slot=slot, amount=given, expires_ms=self._expiry(connection, ttl_s)
            )
            keys = ["tenant", "counter", "slot"]
            added = {"amount": kv_grants.c.amount + given}
            connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=added))
            return Granted(given, left - given)

        granted = await self._sql.write(write)
        await self._sweep_sometimes()
        return granted

    async def give_back(self, tenant: TenantId, counter: str, amount: int, *, slot: int = 0) -> None:
        """See `Kv.give_back`."""

        def write(connection: Connection) -> None:
            read_committed(connection)
            rest = sa.case((kv_grants.c.amount > amount, kv_grants.c.amount - amount), else_=0)
            where = sa.and_(kv_grants.c.tenant == tenant, kv_grants.c.counter == counter, kv_grants.c.slot == slot)
            connection.execute(sa.update(kv_grants).where(where).values(amount=rest))

        await self._sql.write(write)

    async def granted(self, tenant: TenantId, counter: str, *, slot: int = 0, span: int = 1) -> int:
        """See `Kv.granted`."""
        return await self._sql.read(lambda connection: self._granted(connection, tenant, counter, slot, span))

    async def counters(self, tenant: TenantId, prefix: str) -> list[str]:
        """See `Kv.counters`."""

        def read(connection: Connection) -> list[str]:
            row = kv_grants.c
            live = sa.or_(row.expires_ms.is_(None), row.expires_ms > self._now_ms(connection))
            starts = sa.func.substr(row.counter, 1, len(prefix)) == prefix
            names = sa.select(row.counter).where(row.tenant == tenant, starts, live).distinct()
            # Sorted here: databases collate names in ways of their own.
            return sorted(connection.execute(names.limit(1000)).scalars())

        return await self._sql.read(read)

    def _granted(self, connection: Connection, tenant: TenantId, counter: str, slot: int, span: int) -> int:
        row = kv_grants.c
        live = sa.or_(row.expires_ms.is_(None), row.expires_ms > self._now_ms(connection))
        of_window = sa.and_(row.tenant == tenant, row.counter == counter, row.slot > slot - span, row.slot <= slot)
        total = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(row.amount), 0)).where(of_window, live))
        return int(total.scalar_one())

    async def acquire(self, tenant: TenantId, name: str, *, holder: str, ttl_s: float) -> SqlLease | None:
        """See `Kv.acquire`. The same holder gets it again with a new token: its earlier lease object is lost."""

        def write(connection: Connection) -> int | None:
            read_committed(connection)
            now_ms = self._now_ms(connection)
            values = {"holder": holder, "expires_ms": now_ms + _ms(ttl_s)}
            insert = _insert_into(connection, kv_leases).values(tenant=tenant, name=name, token=1, **values)
            if _stored(connection, insert.on_conflict_do_nothing().returning(kv_leases.c.token)):
                return 1
            taken = connection.execute(
                sa.update(kv_leases)
                .where(kv_leases.c.tenant == tenant, kv_leases.c.name == name)
                .where(sa.or_(kv_leases.c.expires_ms <= now_ms, kv_leases.c.holder == holder))
                .values(token=kv_leases.c.token + 1, **values)
                .returning(kv_leases.c.token)
            )
            return taken.scalar()

        token = await self._sql.write(write)
        return None if token is None else SqlLease(self, tenant, name, holder, token, ttl_s)

    async def sweep(self) -> int:
        """Remove up to 1,000 expired values of all tenants; how many went. Writers call it now and then."""

        def write(connection: Connection) -> int:
            read_committed(connection)
            expired = sa.select(kv_entries.c.tenant, kv_entries.c.key).where(sa.not_(self._live(connection)))
            rows = connection.execute(expired.limit(_SWEEP_ROWS)).all()
            for tenant, key in rows:
                self._drop_expired(connection, tenant, key)
            connection.execute(sa.delete(kv_grants).where(kv_grants.c.expires_ms <= self._now_ms(connection)))
            return len(rows)

        return await self._sql.write(write)

    async def close(self) -> None:
        """Nothing to let go of: the database belongs to its owner."""

    async def _sweep_sometimes(self) -> None:
        if time.monotonic() - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            await self.sweep()

    async def _renew(self, lease: SqlLease, ttl_s: float) -> bool:
        def write(connection: Connection) -> bool:
            read_committed(connection)
            now_ms = self._now_ms(connection)
            # An expired lease that nobody took is still its holder's; one that was released has expiry 0.
            mine = sa.update(kv_leases).where(_mine(lease), kv_leases.c.expires_ms > 0)
            return connection.execute(mine.values(expires_ms=now_ms + _ms(ttl_s))).rowcount > 0

        return await self._sql.write(write)

    async def _release(self, lease: SqlLease) -> None:
        def write(connection: Connection) -> None:
            read_committed(connection)
            connection.execute(sa.update(kv_leases).where(_mine(lease)).values(expires_ms=0))

        await self._sql.write(write)

    def _now_ms(self, connection: Connection) -> int:
        if self._clock_ms is not None:
            return self._clock_ms()
        if connection.dialect.name == "postgresql":
            now = sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            return int(connection.execute(now).scalar_one())
        return time.time_ns() // 1_000_000

    def _expiry(self, connection: Connection, ttl_s: float | None) -> int | None:
        return None if ttl_s is None else self._now_ms(connection) + _ms(ttl_s)

    def _at(self, tenant: TenantId, key: str) -> sa.ColumnElement[bool]:
        return sa.and_(kv_entries.c.tenant == tenant, kv_entries.c.key == key)

    def _live(self, connection: Connection) -> sa.ColumnElement[bool]:
        expires = kv_entries.c.expires_ms
        return sa.or_(expires.is_(None), expires > self._now_ms(connection))

    def _drop_expired(self, connection: Connection, tenant: TenantId, key: str) -> None:
        connection.execute(sa.delete(kv_entries).where(self._at(tenant, key), sa.not_(self._live(connection))))

    def _insert(self, connection: Connection, tenant: TenantId, key: str, value: bytes, expires_ms: int | None) -> bool:
        insert = _insert_into(connection, kv_entries).values(tenant=tenant, key=key, value=value, expires_ms=expires_ms)
        return _stored(connection, insert.on_conflict_do_nothing().returning(kv_entries.c.key))

    def _put(self, connection: Connection, tenant: TenantId, key: str, value: bytes, expires_ms: int | None) -> None:
        changes = {"value": value, "expires_ms": expires_ms}
        insert = _insert_into(connection, kv_entries).values(tenant=tenant, key=key, **changes)
        connection.execute(insert.on_conflict_do_update(index_elements=["tenant", "key"], set_=changes))


@dataclass(frozen=True, slots=True)
class SqlLease:
    """A lease held in `kv_leases`."""

    kv: SqlKv
    tenant: TenantId
    name: str
    holder: str
    token: int
    ttl_s: float

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self.kv._renew(self, self.ttl_s)

    async def release(self) -> None:
        """See `Lease.release`."""
        await self.kv._release(self)


def _lock_counter(connection: Connection, tenant: TenantId, counter: str) -> None:
    # A window is the sum of several rows: two who read it before either writes would both be granted. SQLite has one
    # writer at a time anyhow.
    if connection.dialect.name == "postgresql":
        name = f"{len(tenant)}:{tenant}{counter}"
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7))"), {"name": name})


def counted(stored: bytes, key: str) -> int:
    """The number a counter holds. Raises: Conflict: it is not one."""
    try:
        return int(stored)
    except ValueError as error:
        raise Conflict(f"the key {key!r} holds a value, not a counter", hint="use another key") from error


def _insert_into(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)


# Any: the row type of one returned column.
def _stored(connection: Connection, insert: ReturningInsert[Any]) -> bool:
    # The row count of an insert is not reliable on every driver; a returned row is.
    return connection.execute(insert).first() is not None


def _mine(lease: SqlLease) -> sa.ColumnElement[bool]:
    row = kv_leases.c
    return sa.and_(row.tenant == lease.tenant, row.name == lease.name, row.token == lease.token)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
