"""Tables: sampled answers, what detectors have seen, alerts. Every function takes the tenant."""

from __future__ import annotations

import base64
import struct
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.errors import NotFound
from interlock.core.ids import TenantId
from interlock.evals.monitoring.types import Alert, Content, Sample
from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = [
    "acknowledge",
    "add_alert",
    "add_sample",
    "alerts_of",
    "apps_with_samples",
    "count_since",
    "count_waiting",
    "drop_content",
    "drop_rows",
    "forget",
    "mentions",
    "put_scores",
    "put_state",
    "samples_of",
    "spent_since",
    "state_of",
    "waiting",
]

samples = sa.Table(
    "monitor_samples",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("release", sa.String(80), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("asker", sa.String(200), nullable=False),
    sa.Column("documents", Json, nullable=False),
    sa.Column("content", Json, nullable=True),
    # Half-precision floats in base64: a question's place in the embedder's space.
    sa.Column("vector", sa.Text, nullable=False),
    sa.Column("scores", Json, nullable=True),
    sa.Column("scored_at", UtcDateTime, nullable=True),
    sa.Column("error", sa.String(64), nullable=False),
    sa.Column("cost_nano", sa.BigInteger, nullable=False),
    sa.Index("ix_monitor_samples_tenant_app_at", "tenant", "app", "at"),
)

states = sa.Table(
    "monitor_states",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("state", Json, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

alerts = sa.Table(
    "monitor_alerts",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("release", sa.String(80), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("facts", Json, nullable=False),
    sa.Column("traces", Json, nullable=False),
    sa.Column("acknowledged_by", sa.String(128), nullable=False),
    sa.Column("acknowledged_at", UtcDateTime, nullable=True),
    sa.Index("ix_monitor_alerts_tenant_at", "tenant", "at"),
)


def add_sample(conn: Connection, tenant: TenantId, given: Sample) -> None:
    """Store one; a trace that is there stays as it is."""
    where = (samples.c.tenant == tenant, samples.c.id == given.id)
    if given.content is None or conn.execute(sa.select(samples.c.id).where(*where)).first() is not None:
        return
    conn.execute(
        samples.insert().values(
            tenant=tenant,
            id=given.id,
            app=given.app,
            release=given.release,
            at=given.at,
            asker=given.asker,
            documents=list(given.documents),
            content=_storable({"turns": list(given.content.turns), "output": given.content.output}),
            vector="",
            scores=None,
            scored_at=None,
            error="",
            cost_nano=0,
        )
    )


def count_since(conn: Connection, tenant: TenantId, app: str, since: datetime) -> int:
    """Samples taken since."""
    where = (samples.c.tenant == tenant, samples.c.app == app, samples.c.at >= since)
    return conn.scalar(sa.select(sa.func.count()).select_from(samples).where(*where)) or 0


def spent_since(conn: Connection, tenant: TenantId, app: str, since: datetime) -> int:
    """Billionths of a dollar that scoring has cost since."""
    where = (samples.c.tenant == tenant, samples.c.app == app, samples.c.scored_at >= since)
    return int(conn.scalar(sa.select(sa.func.sum(samples.c.cost_nano)).where(*where)) or 0)


def waiting(conn: Connection, tenant: TenantId, app: str, limit: int) -> list[Sample]:
    """Samples that are not scored, oldest first."""
    where = (samples.c.tenant == tenant, samples.c.app == app, samples.c.scored_at.is_(None))
    rows = conn.execute(sa.select(samples).where(*where).order_by(samples.c.at, samples.c.id).limit(limit))
    return [_sample(row) for row in rows]


def count_waiting(conn: Connection, tenant: TenantId, app: str) -> int:
    """Samples that are not scored."""
    where = (samples.c.tenant == tenant, samples.c.app == app, samples.c.scored_at.is_(None))
    return conn.scalar(sa.select(sa.func.count()).select_from(samples).where(*where)) or 0


def put_scores(conn: Connection, tenant: TenantId, given: Sample, *, keep: bool) -> bool:
    """What scoring gave; False when another worker was first, or it was erased.

    Args:
        keep: its text stays until it is past its age.
    """
    values: dict[str, Any] = {  # Any: columns of several types
        "scores": dict(given.scores or {}),
        "scored_at": now(),
        "error": given.error,
        "cost_nano": given.cost_nano,
        "vector": _packed(given.vector),
    }
    if not keep:
        values["content"] = sa.null()
    where = (samples.c.tenant == tenant, samples.c.id == given.id, samples.c.scored_at.is_(None))
    return conn.execute(samples.update().where(*where).values(**values)).rowcount == 1


def samples_of(
    conn: Connection, tenant: TenantId, app: str, *, since: datetime | None = None, limit: int = 1000
) -> list[Sample]:
    """Scored and unscored ones, newest first."""
    where = [samples.c.tenant == tenant, samples.c.app == app]
    if since is not None:
        where.append(samples.c.at >= since)
    rows = conn.execute(sa.select(samples).where(*where).order_by(samples.c.at.desc(), samples.c.id).limit(limit))
    return [_sample(row) for row in rows]


def apps_with_samples(conn: Connection, tenant: TenantId) -> list[str]:
    """By name, whether the workspace still has them or not."""
    rows = conn.execute(sa.select(samples.c.app).where(samples.c.tenant == tenant).distinct().order_by(samples.c.app))
    return [row.app for row in rows]


def drop_content(conn: Connection, tenant: TenantId, app: str, *, before: datetime, waiting_before: datetime) -> int:
    """Remove the text of samples that were taken before; gives how many.

    Args:
        waiting_before: of those that were never scored, which they then never are.
    """
    own = (samples.c.tenant == tenant, samples.c.app == app)
    never = samples.c.scored_at.is_(None)
    expired = {"scored_at": now(), "error": "expired", "scores": {}, "content": sa.null()}
    done = conn.execute(samples.update().where(*own, never, samples.c.at < waiting_before).values(**expired)).rowcount
    found = conn.execute(sa.select(samples.c.id).where(*own, samples.c.at < before, samples.c.vector != "")).all()
    if found:
        conn.execute(samples.update().where(*own, ~never, samples.c.at < before).values(content=sa.null(), vector=""))
    return done + len(found)


def drop_rows(conn: Connection, tenant: TenantId, before: datetime) -> int:
    """Remove samples that were taken before; gives how many."""
    return conn.execute(samples.delete().where(samples.c.tenant == tenant, samples.c.at < before)).rowcount


def state_of(conn: Connection, tenant: TenantId, app: str, name: str) -> tuple[dict[str, Any], int]:
    """What somebody has stored under a name, and its version; empty and 0 where there is nothing."""
    where = (states.c.tenant == tenant, states.c.app == app, states.c.name == name)
    row = conn.execute(sa.select(states.c.state, states.c.version).where(*where)).one_or_none()
    return ({}, 0) if row is None else (dict(row.state), int(row.version))


# Any: JSON values.
def put_state(conn: Connection, tenant: TenantId, app: str, name: str, state: dict[str, Any], *, version: int) -> bool:
    """Store it if it still has the version that was read; False when somebody else was first."""
    where = (states.c.tenant == tenant, states.c.app == app, states.c.name == name)
    if version == 0:
        if conn.execute(sa.select(states.c.version).where(*where)).first() is not None:
            return False
        conn.execute(states.insert().values(tenant=tenant, app=app, name=name, state=state, version=1))
        return True
    done = conn.execute(
        states.update().where(*where, states.c.version == version).values(state=state, version=version + 1)
    )
    return done.rowcount == 1


def add_alert(conn: Connection, tenant: TenantId, given: Alert) -> None:
    """Store one."""
    conn.execute(
        alerts.insert().values(
            tenant=tenant,
            id=given.id,
            app=given.app,
            kind=given.kind,
            subject=given.subject,
            release=given.release,
            at=given.at,
            facts=dict(given.facts),
            traces=list(given.traces),
            acknowledged_by="",
            acknowledged_at=None,
        )
    )


def alerts_of(
    conn: Connection, tenant: TenantId, *, app: str | None = None, open_only: bool = False, limit: int = 100
) -> list[Alert]:
    """Newest first."""
    where = [alerts.c.tenant == tenant]
    if app is not None:
        where.append(alerts.c.app == app)
    if open_only:
        where.append(alerts.c.acknowledged_at.is_(None))
    rows = conn.execute(sa.select(alerts).where(*where).order_by(alerts.c.at.desc(), alerts.c.id).limit(limit))
    return [
        Alert(
            row.id,
            row.app,
            row.kind,
            row.subject,
            row.release,
            row.at,
            row.facts,
            tuple(row.traces),
            row.acknowledged_by,
            row.acknowledged_at,
        )
        for row in rows
    ]


def acknowledge(conn: Connection, tenant: TenantId, alert: str, by: str) -> None:
    """Somebody has seen it. Raises: NotFound."""
    where = (alerts.c.tenant == tenant, alerts.c.id == alert)
    if conn.execute(alerts.update().where(*where).values(acknowledged_by=by, acknowledged_at=now())).rowcount != 1:
        raise NotFound(f"no alert {alert[:64]!r}", param="alert", hint="interlock monitor alerts")


def mentions(conn: Connection, tenant: TenantId, documents: Collection[str], asker: str | None) -> int:
    """Samples whose text was written from these documents, or asked by this person."""
    return len(_concerned(conn, tenant, documents, asker))


def forget(conn: Connection, tenant: TenantId, documents: Collection[str], asker: str | None) -> int:
    """Remove them, and what detectors have learnt of their apps' questions; gives how many there were."""
    found = _concerned(conn, tenant, documents, asker)
    for app in {app for _, app in found}:
        # What is usual is told by vectors of single questions: it is learnt anew.
        conn.execute(states.delete().where(states.c.tenant == tenant, states.c.app == app, states.c.name == "inputs"))
    for one, _ in found:
        conn.execute(samples.delete().where(samples.c.tenant == tenant, samples.c.id == one))
    return len(found)


def _concerned(
    conn: Connection, tenant: TenantId, documents: Collection[str], asker: str | None
) -> list[tuple[str, str]]:
    wanted = set(documents)
    columns = (samples.c.id, samples.c.app, samples.c.asker, samples.c.documents)
    return [
        (row.id, row.app)
        for row in conn.execute(sa.select(*columns).where(samples.c.tenant == tenant))
        if (asker is not None and row.asker == asker) or not wanted.isdisjoint(row.documents)
    ]


# Any: JSON values.
def _storable(value: Any) -> Any:
    """PostgreSQL stores neither the character NUL nor half a surrogate pair; both say nothing to a reader."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {name: _storable(each) for name, each in value.items()}
    return [_storable(each) for each in value] if isinstance(value, list | tuple) else value


def _packed(vector: Sequence[float] | None) -> str:
    return "" if vector is None else base64.b64encode(struct.pack(f"<{len(vector)}e", *vector)).decode()


# Any: a row of unlike columns.
def _sample(row: Any) -> Sample:
    packed = base64.b64decode(row.vector)
    return Sample(
        id=row.id,
        app=row.app,
        release=row.release,
        at=row.at,
        content=None if row.content is None else Content(row.content["turns"], row.content["output"]),
        vector=struct.unpack(f"<{len(packed) // 2}e", packed) if packed else None,
        scores=None if row.scored_at is None else dict(row.scores or {}),
        error=row.error,
        cost_nano=row.cost_nano,
        documents=tuple(row.documents),
        asker=row.asker,
    )
