"""The ledger table. Rows are only ever added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import ReleaseId, TenantId, TraceId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.types import LedgerEntry, Spend
from interlock.stores.sql.base import UtcDateTime, metadata

__all__ = ["entries", "insert_all", "spend"]

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
    sa.Index("ix_ledger_tenant_at", "tenant", "at"),
    sa.Index("ix_ledger_tenant_trace_id", "tenant", "trace_id"),
)


def _insert(conn: Connection, entry: LedgerEntry) -> None:
    conn.execute(
        ledger.insert().values(
            id=entry.id,
            tenant=entry.tenant,
            at=entry.at,
            principal=entry.principal,
            end_user=entry.end_user,
            app=entry.app,
            release=entry.release,
            trace_id=entry.trace_id,
            provider=entry.provider,
            model=entry.model,
            input_tokens=entry.usage.input_tokens,
            output_tokens=entry.usage.output_tokens,
            cached_tokens=entry.usage.cached_tokens,
            reasoning_tokens=entry.usage.reasoning_tokens,
            estimated=entry.usage.estimated,
            cost_nano=None if entry.cost is None else entry.cost.nano,
            price=entry.price,
            outcome=entry.outcome,
        )
    )


def insert_all(conn: Connection, rows: Sequence[LedgerEntry]) -> None:
    """Add rows; all or none. A second row of an id is refused by the key, so a call is never charged twice."""
    for row in rows:
        _insert(conn, row)


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
        usage=Usage(row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens, row.estimated),
        cost=None if row.cost_nano is None else Money(row.cost_nano),
        price=row.price,
        outcome=row.outcome,
    )


def spend(conn: Connection, tenant: TenantId, *, by: str, since: datetime, until: datetime) -> list[Spend]:
    """Sums by one of `app`, `model`, `provider`, `principal`, `end_user`, largest cost first."""
    column = {
        "app": ledger.c.app,
        "model": ledger.c.model,
        "provider": ledger.c.provider,
        "principal": ledger.c.principal,
        "end_user": ledger.c.end_user,
    }[by]
    total = sa.func.coalesce(sa.func.sum(ledger.c.cost_nano), 0)
    rows = conn.execute(
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
    return [Spend(r.key, r.calls, int(r.unpriced), int(r.inputs), int(r.outputs), Money(int(r.cost))) for r in rows]
