"""The ledger table. Rows are only ever added."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import ReleaseId, TenantId, TraceId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.types import LedgerEntry, Spend
from interlock.stores.sql.base import Json, UtcDateTime, insert_rows, metadata

__all__ = [
    "Charged",
    "delete_rule",
    "entries",
    "insert_all",
    "matching",
    "orphans",
    "put_rule",
    "rule_stamps",
    "rules",
    "spend",
]

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    sa.Column("end_user", sa.String(256), nullable=False),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("release", sa.String(80)),
    sa.Column("trace_id", sa.String(32), nullable=False),
    sa.Column("provider", sa.String(64), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("estimated", sa.Boolean, nullable=False),
    sa.Column("cost_nano", sa.BigInteger),
    sa.Column("price", sa.String(256), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("cache_write_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("tags", Json),
    sa.Index("ix_ledger_tenant_at", "tenant", "at"),
    sa.Index("ix_ledger_tenant_trace_id", "tenant", "trace_id"),
)

limit_rules = sa.Table(
    "limit_rules",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("spec", Json, nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)


def _values(entry: LedgerEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "tenant": entry.tenant,
        "at": entry.at,
        "principal": entry.principal,
        "end_user": entry.end_user,
        "app": entry.app,
        "release": entry.release,
        "trace_id": entry.trace_id,
        "provider": entry.provider,
        "model": entry.model,
        "input_tokens": entry.usage.input_tokens,
        "output_tokens": entry.usage.output_tokens,
        "cached_tokens": entry.usage.cached_tokens,
        "cache_write_tokens": entry.usage.cache_write_tokens,
        "reasoning_tokens": entry.usage.reasoning_tokens,
        "estimated": entry.usage.estimated,
        "cost_nano": None if entry.cost is None else entry.cost.nano,
        "price": entry.price,
        "outcome": entry.outcome,
        "tags": dict(entry.tags) or None,
    }


_COLUMNS = tuple(column.name for column in ledger.columns)


class Charged(Protocol):
    """A call that was charged, by whatever path."""

    def entry(self) -> LedgerEntry:
        """Its row."""

    def row(self) -> tuple[object, ...]:
        """The same in the order of the table's columns, as SQLite stores them."""


def insert_all(conn: Connection, rows: Sequence[LedgerEntry | Charged]) -> None:
    """Add rows; all or none. A second row of an id is left out, so a call is never charged twice."""
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        insert = postgresql.insert(ledger).on_conflict_do_nothing(index_elements=["id"])
        conn.execute(insert, [_values(row if isinstance(row, LedgerEntry) else row.entry()) for row in rows])
    else:
        once = "ON CONFLICT (id) DO NOTHING"
        values = [_sqlite_row(row) if isinstance(row, LedgerEntry) else row.row() for row in rows]
        insert_rows(conn, "ledger", _COLUMNS, values, also=once)


def _sqlite_row(entry: LedgerEntry) -> tuple[object, ...]:
    """Values in the order of the table's columns, as SQLAlchemy's types would store them."""
    usage = entry.usage
    return (
        entry.id,
        entry.tenant,
        (entry.at if entry.at.tzinfo is UTC else entry.at.astimezone(UTC)).isoformat(" ", "microseconds")[:26],
        entry.principal,
        entry.end_user,
        entry.app,
        entry.release,
        entry.trace_id,
        entry.provider,
        entry.model,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        None if entry.cost is None else entry.cost.nano,
        entry.price,
        entry.outcome,
        usage.cache_write_tokens,
        json.dumps(dict(entry.tags)) if entry.tags else None,
    )


def entries(conn: Connection, tenant: TenantId, *, trace_id: str | None, limit: int) -> list[LedgerEntry]:
    """Newest first."""
    query = sa.select(ledger).where(ledger.c.tenant == tenant).order_by(ledger.c.at.desc()).limit(limit)
    if trace_id is not None:
        query = query.where(ledger.c.trace_id == trace_id)
    return [_entry(row) for row in conn.execute(query)]


def _entry(row: sa.Row[tuple[object, ...]]) -> LedgerEntry:
    return LedgerEntry(
        id=row.id,
        tenant=TenantId(row.tenant),
        at=row.at,
        principal=row.principal,
        end_user=row.end_user,
        app=row.app,
        release=None if row.release is None else ReleaseId(row.release),
        trace_id=TraceId(row.trace_id),
        provider=row.provider,
        model=row.model,
        usage=Usage(
            row.input_tokens,
            row.output_tokens,
            row.cached_tokens,
            row.reasoning_tokens,
            row.estimated,
            row.cache_write_tokens,
        ),
        cost=None if row.cost_nano is None else Money(row.cost_nano),
        price=row.price,
        outcome=row.outcome,
        tags=row.tags or {},
    )


def spend(
    conn: Connection,
    tenant: TenantId,
    *,
    by: str,
    since: datetime,
    until: datetime,
    users: Sequence[str] | None = None,
) -> list[Spend]:
    """Sums by one of `app`, `model`, `provider`, `principal`, `end_user`, largest cost first.

    Args:
        users: only rows of these end users, as the ledger writes them.
    """
    column = {
        "app": ledger.c.app,
        "model": ledger.c.model,
        "provider": ledger.c.provider,
        "principal": ledger.c.principal,
        "end_user": ledger.c.end_user,
    }[by]
    total = sa.func.coalesce(sa.func.sum(ledger.c.cost_nano), 0)
    query = (
        sa.select(
            column.label("key"),
            sa.func.count().label("calls"),
            sa.func.sum(sa.case((ledger.c.cost_nano.is_(None), 1), else_=0)).label("unpriced"),
            sa.func.sum(ledger.c.input_tokens).label("inputs"),
            sa.func.sum(ledger.c.output_tokens).label("outputs"),
            total.label("cost"),
        )
        .where(ledger.c.tenant == tenant, ledger.c.at >= since, ledger.c.at < until)
        .group_by(column)
        .order_by(total.desc(), column)
    )
    if users is not None:
        query = query.where(ledger.c.end_user.in_(users))
    rows = conn.execute(query)
    return [Spend(r.key, r.calls, int(r.unpriced), int(r.inputs), int(r.outputs), Money(int(r.cost))) for r in rows]


def rules(conn: Connection, tenant: TenantId) -> list[tuple[dict[str, object], str, datetime]]:
    """A tenant's run-time limit rules by name: spec, who set it, when."""
    query = sa.select(limit_rules).where(limit_rules.c.tenant == tenant).order_by(limit_rules.c.name)
    return [(row.spec, row.created_by, row.created_at) for row in conn.execute(query)]


def rule_stamps(conn: Connection) -> dict[str, frozenset[tuple[str, datetime]]]:
    """For each tenant with run-time rules, their names and when each was set: changes when any of them does."""
    found: dict[str, set[tuple[str, datetime]]] = {}
    for row in conn.execute(sa.select(limit_rules.c.tenant, limit_rules.c.name, limit_rules.c.created_at)):
        found.setdefault(row.tenant, set()).add((row.name, row.created_at))
    return {tenant: frozenset(stamps) for tenant, stamps in found.items()}


def matching(conn: Connection, tenant: TenantId, since: datetime) -> Iterator[LedgerEntry]:
    """Rows of a tenant from `since` on, oldest first, without holding all of them in memory."""
    query = sa.select(ledger).where(ledger.c.tenant == tenant, ledger.c.at >= since).order_by(ledger.c.at)
    for row in conn.execution_options(yield_per=5000).execute(query):
        yield _entry(row)


def orphans(conn: Connection, tenant: TenantId, *, limit: int) -> list[LedgerEntry]:
    """Rows of calls whose end nobody saw, newest first."""
    mine = sa.and_(ledger.c.tenant == tenant, ledger.c.outcome == "orphaned")
    query = sa.select(ledger).where(mine).order_by(ledger.c.at.desc()).limit(limit)
    return [_entry(row) for row in conn.execute(query)]


def put_rule(conn: Connection, tenant: TenantId, name: str, spec: dict[str, object], *, by: str, at: datetime) -> None:
    """Store a rule, replacing the tenant's rule of that name."""
    delete_rule(conn, tenant, name)
    conn.execute(limit_rules.insert().values(tenant=tenant, name=name, spec=spec, created_by=by, created_at=at))


def delete_rule(conn: Connection, tenant: TenantId, name: str) -> bool:
    """Remove a rule; True when it was there."""
    where = sa.and_(limit_rules.c.tenant == tenant, limit_rules.c.name == name)
    return conn.execute(sa.delete(limit_rules).where(where)).rowcount > 0
