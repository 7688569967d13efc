"""Tables: experiments, and what happened to each."""

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
from interlock.releases.experiments.planning import digest_of
from interlock.releases.experiments.types import (
    SERVING,
    Experiment,
    ExperimentSpec,
    Forecast,
    Plan,
    PlannedArm,
    Report,
)
from interlock.stores.sql.base import BigId, Json, UtcDateTime, metadata

__all__ = ["Noted", "events_of", "experiments_of", "insert", "log", "one", "planned_as", "serving_of", "update"]

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("app", sa.String(64), nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("plan", Json, nullable=False),
    sa.Column("seed", sa.String(64), nullable=False),
    sa.Column("planned_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=True),
    sa.Column("checked_at", UtcDateTime, nullable=True),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("report", Json, nullable=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_experiments_tenant_app_channel", "tenant", "app", "channel"),
)

events = sa.Table(
    "experiment_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("experiment", sa.String(64), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("by", sa.String(128), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("report", Json, nullable=True),
    sa.Index("ix_experiment_events_tenant_experiment", "tenant", "experiment"),
)


class Noted(msgspec.Struct, frozen=True):
    """One change of an experiment."""

    at: datetime
    by: str
    action: str
    state: str
    reason: str
    report: Report | None
    """The numbers it rested on."""


def insert(conn: Connection, tenant: TenantId, experiment: Experiment) -> None:
    """Record a new one."""
    conn.execute(experiments.insert().values(tenant=tenant, id=experiment.id, **_values(experiment)))


def update(conn: Connection, tenant: TenantId, experiment: Experiment) -> Experiment:
    """Store a changed one; its plan stays. Raises: Conflict: it was changed meanwhile, by somebody else."""
    stored = replace(experiment, version=experiment.version + 1)
    changed = {name: value for name, value in _values(stored).items() if name not in {"plan", "digest"}}
    done = conn.execute(
        experiments.update()
        .where(
            experiments.c.tenant == tenant,
            experiments.c.id == experiment.id,
            experiments.c.version == experiment.version,
        )
        .values(**changed)
    )
    if done.rowcount != 1:
        raise Conflict(f"the experiment {experiment.id!r} was changed meanwhile", retryable=True, hint="look again")
    return stored


def log(conn: Connection, tenant: TenantId, experiment: Experiment, action: str, *, by: str, at: datetime) -> None:
    """Write down what was done to it and why."""
    conn.execute(
        events.insert().values(
            tenant=tenant,
            experiment=experiment.id,
            at=at,
            by=by,
            action=action,
            state=experiment.state,
            reason=experiment.reason,
            report=_report_json(experiment.report),
        )
    )


def one(conn: Connection, tenant: TenantId, experiment: str) -> Experiment | None:
    """One experiment."""
    row = conn.execute(
        sa.select(experiments).where(experiments.c.tenant == tenant, experiments.c.id == experiment)
    ).one_or_none()
    return None if row is None else _experiment(row)


def planned_as(conn: Connection, tenant: TenantId, digest: str) -> Experiment | None:
    """The one that was planned just so and has not begun."""
    row = conn.execute(
        sa.select(experiments).where(
            experiments.c.tenant == tenant, experiments.c.digest == digest, experiments.c.state == "planned"
        )
    ).first()
    return None if row is None else _experiment(row)


def serving_of(conn: Connection, tenant: TenantId, app: AppName, channel: str) -> Experiment | None:
    """The one that gives units of a channel to arms."""
    row = conn.execute(
        sa.select(experiments)
        .where(
            experiments.c.tenant == tenant,
            experiments.c.app == app,
            experiments.c.channel == channel,
            experiments.c.state.in_(sorted(SERVING)),
        )
        .order_by(experiments.c.started_at)
        .limit(1)
    ).first()
    return None if row is None else _experiment(row)


def experiments_of(
    conn: Connection, tenant: TenantId, *, app: AppName | None = None, serving: bool = False, limit: int = 50
) -> list[Experiment]:
    """Newest first."""
    wanted = sa.select(experiments).where(experiments.c.tenant == tenant)
    if app is not None:
        wanted = wanted.where(experiments.c.app == app)
    if serving:
        wanted = wanted.where(experiments.c.state.in_(sorted(SERVING)))
    return [_experiment(row) for row in conn.execute(wanted.order_by(experiments.c.planned_at.desc()).limit(limit))]


def events_of(conn: Connection, tenant: TenantId, experiment: str) -> Sequence[Noted]:
    """What happened, oldest first."""
    rows = conn.execute(
        sa.select(events).where(events.c.tenant == tenant, events.c.experiment == experiment).order_by(events.c.id)
    )
    return [Noted(r.at, r.by, r.action, r.state, r.reason, _report(r.report)) for r in rows]


def _values(experiment: Experiment) -> dict[str, Any]:  # Any: columns of unlike types
    return {
        "app": experiment.app,
        "channel": experiment.channel,
        "state": experiment.state,
        "digest": experiment.plan.digest,
        "plan": _plan_json(experiment.plan),
        "seed": experiment.seed,
        "planned_at": experiment.planned_at,
        "started_at": experiment.started_at,
        "checked_at": experiment.checked_at,
        "by": experiment.by,
        "reason": experiment.reason,
        "report": _report_json(experiment.report),
        "version": experiment.version,
    }


def _experiment(row: Any) -> Experiment:  # Any: a row of unlike columns
    return Experiment(
        id=row.id,
        app=AppName(row.app),
        channel=row.channel,
        state=row.state,
        plan=_plan(row.plan, row.digest),
        seed=row.seed,
        planned_at=row.planned_at,
        started_at=row.started_at,
        checked_at=row.checked_at,
        by=row.by,
        reason=row.reason,
        report=_report(row.report),
        version=row.version,
        intact=digest_of(row.plan) == row.digest,
    )


# Any below: JSON.
def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "spec": plan.spec.model_dump(mode="json"),
        "arms": [asdict(arm) for arm in plan.arms],
        "tightest_at": plan.tightest_at,
        "forecast": asdict(plan.forecast),
    }


def _plan(stored: Any, digest: str) -> Plan:
    return Plan(
        ExperimentSpec.model_validate(stored["spec"], extra="ignore"),
        tuple(PlannedArm(arm["name"], ReleaseId(arm["release"]), arm["share"]) for arm in stored["arms"]),
        stored["tightest_at"],
        msgspec.convert(stored["forecast"], Forecast),
        digest,
    )


def _report_json(report: Report | None) -> Any:
    return None if report is None else msgspec.to_builtins(report)


def _report(stored: Any) -> Report | None:
    return None if stored is None else msgspec.convert(stored, Report)
