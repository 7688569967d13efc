"""Tables: rollouts, and what happened to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.errors import Conflict
from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.releases.rollouts.types import ACTIVE, Check, Rollout, RolloutSpec
from interlock.stores.sql.base import BigId, Json, UtcDateTime, metadata

__all__ = ["Happened", "active_of", "events_of", "insert", "log", "one", "rollouts_of", "update"]

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("control", sa.String(80), nullable=False),
    sa.Column("candidate", sa.String(80), nullable=False),
    sa.Column("spec", Json, nullable=False),
    sa.Column("seed", sa.String(64), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("step_at", UtcDateTime, nullable=False),
    sa.Column("checked_at", UtcDateTime, nullable=True),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("checks", Json, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_rollouts_tenant_app_channel", "tenant", "app", "channel"),
)

events = sa.Table(
    "rollout_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("rollout", sa.String(64), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("percent", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("checks", Json, nullable=False),
    sa.Index("ix_rollout_events_tenant_rollout", "tenant", "rollout"),
)


class Happened(msgspec.Struct, frozen=True):
    """One change of a rollout."""

    at: datetime
    by: str
    action: str
    state: str
    percent: float
    reason: str
    checks: tuple[Check, ...]
    """The numbers it rested on."""


def insert(conn: Connection, tenant: TenantId, rollout: Rollout) -> None:
    """Record a new one. Raises: Conflict: another one of the channel is not over."""
    if (other := active_of(conn, tenant, rollout.app, rollout.channel)) is not None:
        raise Conflict(
            f"the rollout {other.id!r} of {rollout.app}@{rollout.channel} is not over",
            param="channel",
            hint=f"interlock rollout show {other.id}",
        )
    conn.execute(rollouts.insert().values(tenant=tenant, id=rollout.id, **_values(rollout)))


def update(conn: Connection, tenant: TenantId, rollout: Rollout) -> Rollout:
    """Store a changed one. Raises: Conflict: it was changed meanwhile, by somebody else."""
    stored = replace(rollout, version=rollout.version + 1)
    done = conn.execute(
        rollouts.update()
        .where(rollouts.c.tenant == tenant, rollouts.c.id == rollout.id, rollouts.c.version == rollout.version)
        .values(**_values(stored))
    )
    if done.rowcount != 1:
        raise Conflict(f"the rollout {rollout.id!r} was changed meanwhile", retryable=True, hint="look at it again")
    return stored


def log(conn: Connection, tenant: TenantId, rollout: Rollout, action: str, *, by: str, at: datetime) -> None:
    """Write down what was done to it and why."""
    conn.execute(
        events.insert().values(
            tenant=tenant,
            rollout=rollout.id,
            at=at,
            by=by,
            action=action,
            state=rollout.state,
            percent=rollout.percent,
            reason=rollout.reason,
            checks=[asdict(check) for check in rollout.checks],
        )
    )


def one(conn: Connection, tenant: TenantId, rollout: str) -> Rollout | None:
    """One rollout."""
    row = conn.execute(sa.select(rollouts).where(rollouts.c.tenant == tenant, rollouts.c.id == rollout)).one_or_none()
    return None if row is None else _rollout(row)


def active_of(conn: Connection, tenant: TenantId, app: AppName, channel: str) -> Rollout | None:
    """The one that a channel is under."""
    row = conn.execute(
        sa.select(rollouts).where(
            rollouts.c.tenant == tenant,
            rollouts.c.app == app,
            rollouts.c.channel == channel,
            rollouts.c.state.in_(sorted(ACTIVE)),
        )
    ).one_or_none()
    return None if row is None else _rollout(row)


def rollouts_of(
    conn: Connection, tenant: TenantId, *, app: AppName | None = None, active: bool = False, limit: int = 50
) -> list[Rollout]:
    """Newest first."""
    wanted = sa.select(rollouts).where(rollouts.c.tenant == tenant)
    if app is not None:
        wanted = wanted.where(rollouts.c.app == app)
    if active:
        wanted = wanted.where(rollouts.c.state.in_(sorted(ACTIVE)))
    return [_rollout(row) for row in conn.execute(wanted.order_by(rollouts.c.started_at.desc()).limit(limit))]


def events_of(conn: Connection, tenant: TenantId, rollout: str) -> Sequence[Happened]:
    """What happened, oldest first."""
    rows = conn.execute(
        sa.select(events).where(events.c.tenant == tenant, events.c.rollout == rollout).order_by(events.c.id)
    )
    return [Happened(r.at, r.by, r.action, r.state, r.percent, r.reason, _checks(r.checks)) for r in rows]


def _values(rollout: Rollout) -> dict[str, Any]:  # Any: columns of unlike types
    return {
        "app": rollout.app,
        "channel": rollout.channel,
        "state": rollout.state,
        "control": rollout.control,
        "candidate": rollout.candidate,
        "spec": rollout.spec.model_dump(mode="json"),
        "seed": rollout.seed,
        "step": rollout.step,
        "started_at": rollout.started_at,
        "step_at": rollout.step_at,
        "checked_at": rollout.checked_at,
        "by": rollout.by,
        "reason": rollout.reason,
        "checks": [asdict(check) for check in rollout.checks],
        "version": rollout.version,
    }


def _rollout(row: Any) -> Rollout:  # Any: a row of unlike columns
    return Rollout(
        id=row.id,
        app=AppName(row.app),
        channel=row.channel,
        state=row.state,
        control=ReleaseId(row.control),
        candidate=ReleaseId(row.candidate),
        spec=RolloutSpec.model_validate(row.spec, extra="ignore"),
        seed=row.seed,
        step=row.step,
        started_at=row.started_at,
        step_at=row.step_at,
        checked_at=row.checked_at,
        by=row.by,
        reason=row.reason,
        checks=_checks(row.checks),
        version=row.version,
    )


def _checks(stored: Any) -> tuple[Check, ...]:  # Any: JSON
    return msgspec.convert(stored, tuple[Check, ...])
