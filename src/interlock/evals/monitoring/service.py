"""The door of monitoring: samples, what detectors remember, alerts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.evals import monitor_store as store
from interlock.evals.monitoring.types import Alert, AlertKind, Sample
from interlock.stores.sql.base import Sql

__all__ = ["Monitors"]

_OVERSEE = (Role.DEVELOPER, Role.OPERATOR, Role.RISK)
_SEE_ALERTS = (*_OVERSEE, Role.REVIEWER, Role.AUDITOR)
_TO_BE_SCORED = timedelta(days=1)
"""Beyond its age the text of a sample waits so long for a budget."""
_ROWS = timedelta(days=365)
_log = logging.getLogger("interlock.monitor")


class Monitors:
    """What is watched of all apps."""

    def __init__(self, sql: Sql, audit: AuditLog) -> None:
        self._sql = sql
        self._audit = audit

    async def take(self, ctx: Context, sample: Sample, *, most_per_day: int) -> bool:
        """Store a sampled answer; False when the day has enough."""

        def write(conn: Any) -> bool:  # Any: SQLAlchemy's connection
            since = now() - timedelta(days=1)
            if store.count_since(conn, ctx.tenant, sample.app, since) >= most_per_day:
                return False
            store.add_sample(conn, ctx.tenant, sample)
            return True

        return await self._sql.write(write)

    async def waiting(self, ctx: Context, app: str, *, limit: int = 100) -> Sequence[Sample]:
        """Samples to score, oldest first."""
        return await self._sql.read(lambda conn: store.waiting(conn, ctx.tenant, app, limit))

    async def count_waiting(self, ctx: Context, app: str) -> int:
        """How many wait to be scored."""
        return await self._sql.read(lambda conn: store.count_waiting(conn, ctx.tenant, app))

    async def scored(self, ctx: Context, sample: Sample, *, keep: bool) -> bool:
        """Store what scoring gave; False when another worker was first."""
        return await self._sql.write(lambda conn: store.put_scores(conn, ctx.tenant, sample, keep=keep))

    async def spent_today(self, ctx: Context, app: str) -> int:
        """Billionths of a dollar that scoring has cost in the last day."""
        since = now() - timedelta(days=1)
        return await self._sql.read(lambda conn: store.spent_since(conn, ctx.tenant, app, since))

    async def samples(
        self, ctx: Context, app: str, *, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Sample]:
        """Newest first. Needs the role developer, operator or risk: they hold what people asked. Raises: Forbidden."""
        ctx.require(*_OVERSEE)
        return await self._sql.read(lambda conn: store.samples_of(conn, ctx.tenant, app, since=since, limit=limit))

    async def tidy(self, ctx: Context, keep_days: Callable[[str], float]) -> int:
        """Remove text past its age, scored or not, and samples after a year; gives of how many text went.

        Args:
            keep_days: of an app, also of one that the workspace has no more.
        """

        def write(conn: Any) -> int:  # Any: SQLAlchemy's connection
            gone = 0
            for app in store.apps_with_samples(conn, ctx.tenant):
                before = now() - timedelta(days=keep_days(app))
                gone += store.drop_content(conn, ctx.tenant, app, before=before, waiting_before=before - _TO_BE_SCORED)
            store.drop_rows(conn, ctx.tenant, now() - _ROWS)
            return gone

        return await self._sql.write(write)

    # Any: JSON values.
    async def state(self, ctx: Context, app: str, name: str) -> tuple[dict[str, Any], int]:
        """What was stored under a name, and its version; empty and 0 where there is nothing."""
        return await self._sql.read(lambda conn: store.state_of(conn, ctx.tenant, app, name))

    # Any: as above.
    async def remember(self, ctx: Context, app: str, name: str, state: dict[str, Any], *, version: int) -> bool:
        """Store it; False when another worker was first."""
        return await self._sql.write(lambda conn: store.put_state(conn, ctx.tenant, app, name, state, version=version))

    async def claim(self, ctx: Context, app: str, name: str, *, every: timedelta) -> bool:
        """Whether it is this worker's turn to do something that is done once in a while."""
        state, version = await self.state(ctx, app, name)
        at = now()
        if state and datetime.fromisoformat(state["at"]) + every > at:
            return False
        return await self.remember(ctx, app, name, {"at": at.isoformat()}, version=version)

    async def alarm(
        self,
        ctx: Context,
        app: str,
        kind: AlertKind,
        subject: str,
        *,
        release: str = "",
        facts: Mapping[str, float | str | int],
        traces: Sequence[str] = (),
    ) -> Alert:
        """Raise an alert: stored, in the audit log, in the log."""
        alert = Alert(f"al_{secrets.token_hex(8)}", app, kind, subject, release, now(), facts, tuple(traces))
        await self._sql.write(lambda conn: store.add_alert(conn, ctx.tenant, alert))
        details: dict[str, str | int | bool] = {"kind": kind, "subject": subject, "release": release}
        event = AuditEvent(ctx.tenant, ctx.principal.id, "monitor.alert", app, "ok", {**details, "alert": alert.id})
        await self._audit.append(event)
        _log.warning("monitor: %s of %s (%s): interlock monitor alerts", kind, app, subject)
        return alert

    async def alerts(
        self, ctx: Context, *, app: str | None = None, open_only: bool = False, limit: int = 100
    ) -> Sequence[Alert]:
        """Newest first. Needs an overseeing role, reviewer or auditor. Raises: Forbidden."""
        ctx.require(*_SEE_ALERTS)
        return await self._sql.read(
            lambda conn: store.alerts_of(conn, ctx.tenant, app=app, open_only=open_only, limit=limit)
        )

    async def acknowledge(self, ctx: Context, alert: str) -> None:
        """Somebody has looked at it; audited. Needs the role developer, operator or risk. Raises: NotFound."""
        ctx.require(*_OVERSEE)
        await self._sql.write(lambda conn: store.acknowledge(conn, ctx.tenant, alert, ctx.principal.id))
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, "monitor.acknowledge", alert, "ok"))

    async def forget(self, ctx: Context, documents: Collection[str], asker: str | None = None) -> int:
        """Remove what was written from these documents, or asked by this person; gives how many samples it was."""
        return await self._sql.write(lambda conn: store.forget(conn, ctx.tenant, documents, asker))

    async def mentions(self, ctx: Context, documents: Collection[str], asker: str | None = None) -> int:
        """How many are still there."""
        return await self._sql.read(lambda conn: store.mentions(conn, ctx.tenant, documents, asker))
