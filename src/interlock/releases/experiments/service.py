"""The door of experiments: plan, start, look, stop, conclude. The plan is frozen before the first unit."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InvalidInput, NotFound
from interlock.core.ids import AppName, TenantId, new_id
from interlock.core.release import Assignment
from interlock.releases import experiment_store as store
from interlock.releases import rollout_store
from interlock.releases import store as release_store
from interlock.releases.experiments.analysing import analyse
from interlock.releases.experiments.assigning import arm_of, unit_of
from interlock.releases.experiments.preferring import UnitPreference, prefer
from interlock.releases.experiments.types import SERVING, Experiment, Plan, Report, State
from interlock.releases.rollouts.assigning import unit_hash
from interlock.releases.rollouts.service import Chosen
from interlock.releases.rollouts.types import UnitOutcome
from interlock.stores.sql.base import Sql

__all__ = ["Experiments"]

_SYSTEM = "experiment"
"""Who ends an experiment when no person does."""
_BOTH = "interleaved"
"""The arm of who has passages of both."""


class Experiments:
    """All experiments of the installation."""

    def __init__(self, sql: Sql, audit: AuditLog, *, clock: Callable[[], datetime] = now) -> None:
        self._sql = sql
        self._audit = audit
        self._clock = clock

    async def plan(self, ctx: Context, app: AppName, plan: Plan, *, reason: str = "") -> Experiment:
        """Keep a frozen plan. The same plan again is the one that is kept already, while it has not begun.

        Raises: Forbidden; InvalidInput: it is not for the caller's tenant.
        """
        ctx.require(Role.DEVELOPER, Role.OPERATOR)
        tenants = plan.spec.eligible.tenants
        if tenants and ctx.tenant not in tenants:
            raise InvalidInput("the plan is for other tenants", param="eligible.tenants")
        at = self._clock()
        made = Experiment(
            id=new_id("exp"),
            app=app,
            channel=plan.spec.channel,
            state="planned",
            plan=plan,
            seed=secrets.token_hex(8),
            planned_at=at,
            started_at=None,
            checked_at=None,
            by=ctx.principal.id,
            reason=reason or "planned",
        )

        def write(conn: Connection) -> tuple[Experiment, bool]:
            if (known := store.planned_as(conn, ctx.tenant, plan.digest)) is not None:
                return known, False
            store.insert(conn, ctx.tenant, made)
            store.log(conn, ctx.tenant, made, "plan", by=ctx.principal.id, at=at)
            return made, True

        kept, new = await self._sql.write(write)
        if new:
            await self._told(ctx.tenant, ctx.principal.id, kept, "plan")
        return kept

    async def start(self, ctx: Context, experiment: str, *, reason: str = "") -> Experiment:
        """Give units to arms from now on. What the variants had to show before is asked by the caller.

        Raises: Forbidden; Conflict: it began before, its plan is not the one that was frozen, the channel points at
            another release than the control or is under a rollout or another experiment, or an arm's release is
                retired.
        """
        ctx.require(Role.OPERATOR)
        found = await self.one(ctx, experiment)
        if found.state != "planned":
            raise Conflict(
                f"the experiment {found.id!r} is {found.state}: one that was begun cannot begin again",
                param="experiment",
                hint="interlock experiment plan FILE",
            )
        if not found.intact:
            raise Conflict(f"the plan of {found.id!r} is not the one that was frozen", param="experiment")
        at = self._clock()
        begun = replace(
            found, state="running", started_at=at, by=ctx.principal.id, reason=reason or "started", report=None
        )

        def write(conn: Connection) -> Experiment:
            _refuse_busy(conn, ctx.tenant, begun)
            stored = store.update(conn, ctx.tenant, begun)
            store.log(conn, ctx.tenant, stored, "start", by=ctx.principal.id, at=at)
            return stored

        stored = await self._sql.write(write)
        await self._told(ctx.tenant, ctx.principal.id, stored, "start")
        return stored

    async def one(self, ctx: Context, experiment: str) -> Experiment:
        """An experiment by its id. Raises: NotFound."""
        found = await self._sql.read(lambda conn: store.one(conn, ctx.tenant, experiment))
        if found is None:
            raise NotFound(f"no experiment {experiment[:64]!r}", param="experiment", hint="interlock experiment list")
        return found

    async def list(
        self, ctx: Context, *, app: AppName | None = None, serving: bool = False, limit: int = 50
    ) -> Sequence[Experiment]:
        """Newest first."""
        return await self._sql.read(
            lambda conn: store.experiments_of(conn, ctx.tenant, app=app, serving=serving, limit=limit)
        )

    async def history(self, ctx: Context, experiment: str) -> Sequence[store.Noted]:
        """Every change with the numbers it rested on, oldest first. Raises: NotFound."""
        await self.one(ctx, experiment)
        return await self._sql.read(lambda conn: store.events_of(conn, ctx.tenant, experiment))

    async def assign(self, ctx: Context, app: AppName, channel: str) -> Chosen | None:
        """Who serves this caller; None when the channel is under no experiment or the caller does not take part."""
        found = await self._sql.read(lambda conn: store.serving_of(conn, ctx.tenant, app, channel))
        if found is None:
            return None
        plan = found.plan
        unit = unit_of(ctx, plan.spec.unit)
        arm = None if unit is None else arm_of(plan, found.seed, ctx, unit)
        if unit is None or arm is None:
            return None
        if plan.spec.kind == "interleave":
            given = Assignment(found.id, _BOTH, unit_hash(found.seed, unit), interleaved=plan.arms[1].release)
            return Chosen(plan.control.release, given)
        return Chosen(arm.release, Assignment(found.id, arm.name, unit_hash(found.seed, unit)))

    async def look(
        self, ctx: Context, experiment: Experiment, outcomes: Sequence[UnitOutcome] | Sequence[UnitPreference]
    ) -> Experiment:
        """Judge what has been seen since it began, and do what follows from it.

        Args:
            outcomes: one a unit and arm; of interleaved searches one preference a unit.

        Raises: Conflict: somebody else changed it meanwhile; look at it again.
        """
        if experiment.state != "running" or experiment.started_at is None:
            return experiment
        at = self._clock()
        preferences = [each for each in outcomes if isinstance(each, UnitPreference)]
        met = [each for each in outcomes if isinstance(each, UnitOutcome)]
        interleaved = experiment.plan.spec.kind == "interleave"
        report = prefer(experiment.plan, preferences) if interleaved else analyse(experiment.plan, met)
        seen = replace(experiment, report=report, checked_at=at, reason=report.reason, by=_SYSTEM)
        if report.verdict == "harmful":
            return await self._move(ctx.tenant, replace(seen, state="stopped"), "stop", _SYSTEM)
        if report.verdict == "invalid":
            return await self._move(ctx.tenant, replace(seen, state="broken"), "break", _SYSTEM)
        if report.settled:
            return await self._move(ctx.tenant, replace(seen, state="decided"), "decide", _SYSTEM)
        days = experiment.plan.spec.max_days
        if at - experiment.started_at > timedelta(days=days):
            over = replace(seen, state="decided", reason=f"after {days:g} days: {report.reason}")
            return await self._move(ctx.tenant, over, "decide", _SYSTEM)
        return await self._sql.write(lambda conn: store.update(conn, ctx.tenant, seen))

    async def stop(self, ctx: Context, experiment: str, reason: str) -> Experiment:
        """End it without a verdict: everybody is served by the channel's release again, at once.

        Raises: Forbidden, NotFound; InvalidInput: no reason; Conflict: it is over.
        """
        return await self._end(ctx, experiment, reason, action="stop", state="stopped", where={*SERVING, "planned"})

    async def conclude(self, ctx: Context, experiment: str, reason: str) -> Experiment:
        """End it with the verdict of its last look; what was decided stays with it as the reason.

        Raises: as `stop`; Conflict: it was not looked at yet.
        """
        found = await self.one(ctx, experiment)
        if found.state in SERVING and found.report is None:
            raise Conflict(
                f"the experiment {found.id!r} was not looked at yet",
                param="experiment",
                hint=f"interlock experiment status {found.id} --look",
            )
        return await self._end(ctx, experiment, reason, action="conclude", state="concluded", where=SERVING)

    async def _end(
        self, ctx: Context, experiment: str, reason: str, *, action: str, state: State, where: Collection[State]
    ) -> Experiment:
        ctx.require(Role.OPERATOR)
        if not reason.strip():
            raise InvalidInput("say why: the reason stays with the record", param="reason", hint="--reason TEXT")
        found = await self.one(ctx, experiment)
        if found.state not in where:
            raise Conflict(f"the experiment {found.id!r} is {found.state}", param="experiment")
        changed = replace(found, state=state, reason=reason[:1000], by=ctx.principal.id)
        return await self._move(ctx.tenant, changed, action, ctx.principal.id)

    async def _move(self, tenant: TenantId, experiment: Experiment, action: str, by: str) -> Experiment:
        at = self._clock()

        def write(conn: Connection) -> Experiment:
            stored = store.update(conn, tenant, experiment)
            store.log(conn, tenant, stored, action, by=by, at=at)
            return stored

        stored = await self._sql.write(write)
        await self._told(tenant, by, stored, action)
        return stored

    async def _told(self, tenant: TenantId, by: str, experiment: Experiment, action: str) -> None:
        plan = experiment.plan
        details: dict[str, str | int | bool] = {
            "app": experiment.app,
            "channel": experiment.channel,
            "state": experiment.state,
            "plan": plan.digest,
            "arms": ", ".join(f"{arm.name}={arm.release}" for arm in plan.arms)[:1000],
            "reason": experiment.reason[:500],
        }
        if experiment.report is not None:
            details |= _figures(experiment.report)
        await self._audit.append(AuditEvent(tenant, by, f"experiment.{action}", experiment.id, "ok", details))


def _figures(report: Report) -> dict[str, str | int | bool]:
    told: dict[str, str | int | bool] = {
        "verdict": report.verdict,
        "units": ", ".join(f"{each.name}={each.units}" for each in report.counts),
    }
    for check in report.comparisons:
        if check.role != "exploratory":
            told[f"{check.role}.{check.arm}.{check.measure}"] = (
                f"{check.verdict}: {check.value:.4g} against {check.control:.4g}, difference {check.difference:.4g} in "
                f"({check.low:.4g}, {check.high:.4g})" + ("" if check.p is None else f", p {check.p:.3g}")
            )
    return told


def _refuse_busy(conn: Connection, tenant: TenantId, experiment: Experiment) -> None:
    """Raises: Conflict: the channel serves something else, or an arm's release may not be served."""
    app, channel = experiment.app, experiment.channel
    for arm in experiment.plan.arms:
        release_store.refuse_retired(conn, tenant, app, arm.release)
    control = experiment.plan.control.release
    if release_store.pointer(conn, tenant, app, channel) != control:
        raise Conflict(
            f"{app}@{channel} does not point at the control of {experiment.id!r}: people outside the experiment, and "
            "all of them after it, would be served by a release that was not compared",
            param="arms.0",
            hint="interlock experiment plan FILE",
        )
    if (rollout := rollout_store.active_of(conn, tenant, app, channel)) is not None:
        raise Conflict(f"{app}@{channel} is under the rollout {rollout.id!r}", param="channel")
    if (other := store.serving_of(conn, tenant, app, channel)) is not None:
        raise Conflict(
            f"{app}@{channel} is under the experiment {other.id!r}",
            param="channel",
            hint=f"interlock experiment conclude {other.id} --reason TEXT",
        )
