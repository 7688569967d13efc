"""The door of rollouts: start, look, pause, resume, end by hand. A rollback is one row: the next request sees it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InvalidInput, NotFound
from interlock.core.ids import AppName, ReleaseId, TenantId, new_id
from interlock.core.release import Assignment, Copied
from interlock.releases import rollout_store as store
from interlock.releases import store as release_store
from interlock.releases.rollouts.analysing import analyse
from interlock.releases.rollouts.assigning import bucket, unit_hash
from interlock.releases.rollouts.types import ACTIVE, Arm, Rollout, RolloutSpec, State, UnitOutcome
from interlock.stores.sql.base import Sql

__all__ = ["Chosen", "Rollouts"]

_SYSTEM = "rollout"
"""Who moves a rollout when no person does."""


class Chosen(NamedTuple):
    """Which release serves a caller, and why."""

    release: ReleaseId
    assignment: Assignment


class Rollouts:
    """All rollouts of the installation."""

    def __init__(self, sql: Sql, audit: AuditLog, *, clock: Callable[[], datetime] = now) -> None:
        self._sql = sql
        self._audit = audit
        self._clock = clock

    async def start(
        self, ctx: Context, app: AppName, channel: str, *, candidate: ReleaseId, spec: RolloutSpec, reason: str
    ) -> Rollout:
        """Begin at the first step. What the candidate had to show before is asked by the caller.

        Raises: Forbidden; InvalidInput: the channel points nowhere, or at the candidate already; Conflict: the channel
            is under another rollout.
        """
        ctx.require(Role.OPERATOR)
        control = await self._sql.read(lambda conn: release_store.pointer(conn, ctx.tenant, app, channel))
        if control is None:
            raise InvalidInput(
                f"{app}@{channel} points at no release yet: there is nothing to compare with",
                param="channel",
                hint=f"interlock release point RELEASE --app {app} --channel {channel}",
            )
        if control == candidate:
            raise InvalidInput(f"{app}@{channel} points at this release already", param="release")
        at = self._clock()
        rollout = Rollout(
            id=new_id("roll"),
            app=app,
            channel=channel,
            state="canary" if spec.shadow is None else "shadow",
            control=control,
            candidate=candidate,
            spec=spec,
            seed=secrets.token_hex(8),
            step=0 if spec.shadow is None else -1,
            started_at=at,
            step_at=at,
            checked_at=None,
            by=ctx.principal.id,
            reason=reason or "started",
        )

        def write(conn: Connection) -> None:
            release_store.refuse_retired(conn, ctx.tenant, app, candidate)
            store.insert(conn, ctx.tenant, rollout)
            store.log(conn, ctx.tenant, rollout, "start", by=ctx.principal.id, at=at)

        await self._sql.write(write)
        await self._told(ctx.tenant, ctx.principal.id, rollout, "start")
        return rollout

    async def one(self, ctx: Context, rollout: str) -> Rollout:
        """A rollout by its id. Raises: NotFound."""
        found = await self._sql.read(lambda conn: store.one(conn, ctx.tenant, rollout))
        if found is None:
            raise NotFound(f"no rollout {rollout[:64]!r}", param="rollout", hint="interlock rollout list")
        return found

    async def list(
        self, ctx: Context, *, app: AppName | None = None, active: bool = False, limit: int = 50
    ) -> Sequence[Rollout]:
        """Newest first."""
        return await self._sql.read(
            lambda conn: store.rollouts_of(conn, ctx.tenant, app=app, active=active, limit=limit)
        )

    async def history(self, ctx: Context, rollout: str) -> Sequence[store.Happened]:
        """Every change with the numbers it rested on, oldest first. Raises: NotFound."""
        await self.one(ctx, rollout)
        return await self._sql.read(lambda conn: store.events_of(conn, ctx.tenant, rollout))

    async def assign(self, ctx: Context, app: AppName, channel: str) -> Chosen | None:
        """Who serves this caller; None when the channel is under no rollout. One indexed read."""
        found = await self._sql.read(lambda conn: store.active_of(conn, ctx.tenant, app, channel))
        if found is None:
            return None
        arm: Arm = "candidate" if bucket(found.seed, ctx.assignment_unit) * 100 < found.percent else "control"
        copied = None
        if found.state == "shadow" and found.spec.shadow is not None:
            wanted = found.spec.shadow
            copied = Copied(found.candidate, wanted.share, wanted.concurrency, wanted.max_per_hour)
        assignment = Assignment(found.id, arm, unit_hash(found.seed, ctx.assignment_unit), copied)
        return Chosen(found.candidate if arm == "candidate" else found.control, assignment)

    async def pause(self, ctx: Context, rollout: str, reason: str) -> Rollout:
        """Keep the split as it is until it is resumed. Raises: Conflict: it is over."""
        return await self._by_hand(ctx, rollout, "pause", reason, "paused")

    async def resume(self, ctx: Context, rollout: str, reason: str) -> Rollout:
        """Go on with the step it is in, counted from now. Raises: Conflict: it is over, or was not paused or held."""
        found = await self.one(ctx, rollout)
        if found.state not in {"paused", "held"}:
            raise Conflict(f"the rollout {found.id!r} is {found.state.replace('_', ' ')}, not paused", param="rollout")
        state: State = "shadow" if found.in_shadow else "canary"
        return await self._by_hand(ctx, rollout, "resume", reason, state, restart_step=True)

    async def roll_back(self, ctx: Context, rollout: str, reason: str) -> Rollout:
        """All units go back to the control, at once. Raises: Conflict: it is over."""
        return await self._by_hand(ctx, rollout, "roll_back", reason, "rolled_back")

    async def promote(self, ctx: Context, rollout: str, reason: str) -> Rollout:
        """Move the channel to the candidate although its proof is not whole. Raises: Conflict, InvalidInput."""
        return await self._by_hand(ctx, rollout, "promote", reason, "promoted")

    async def _by_hand(
        self, ctx: Context, rollout: str, action: str, reason: str, state: State, *, restart_step: bool = False
    ) -> Rollout:
        ctx.require(Role.OPERATOR)
        if not reason.strip():
            raise InvalidInput("say why: the reason stays with the record", param="reason", hint="--reason TEXT")
        found = await self.one(ctx, rollout)
        if found.state not in ACTIVE:
            raise Conflict(f"the rollout {found.id!r} is over: {found.state.replace('_', ' ')}", param="rollout")
        changed = replace(
            found,
            state=state,
            reason=reason,
            by=ctx.principal.id,
            step_at=self._clock() if restart_step else found.step_at,
        )
        return await self._move(ctx.tenant, changed, action, ctx.principal.id)

    async def look(self, ctx: Context, rollout: Rollout, outcomes: Sequence[UnitOutcome]) -> Rollout:
        """Judge what has been seen since it began, and do what follows from it.

        Raises: Conflict: somebody else moved it meanwhile; look at it again.
        """
        at = self._clock()
        if rollout.state == "holdout":
            ends = rollout.step_at + timedelta(days=rollout.spec.holdout_days)
            if at < ends:
                return rollout
            ended = replace(rollout, state="promoted", reason="the holdout is over", checked_at=at)
            return await self._move(ctx.tenant, ended, "end_holdout", _SYSTEM)
        if rollout.state not in {"shadow", "canary"}:
            return rollout
        spec = rollout.spec
        last = rollout.step == len(spec.steps) - 1
        finding = analyse(
            spec,
            outcomes,
            percent=rollout.percent,
            step_ns=int(rollout.step_at.timestamp() * 1e9),
            last=last,
            shadow=rollout.state == "shadow",
        )
        seen = replace(rollout, checks=finding.checks, checked_at=at)
        match finding.action:
            case "roll_back":
                harmed = replace(seen, state="rolled_back", reason=finding.reason, by=_SYSTEM)
                return await self._move(ctx.tenant, harmed, "roll_back", _SYSTEM)
            case "pause":
                broken = replace(seen, state="paused", reason=finding.reason, by=_SYSTEM)
                return await self._move(ctx.tenant, broken, "pause", _SYSTEM)
            case "advance" if (at - rollout.step_at).total_seconds() >= spec.min_step_s:
                return await self._advance(ctx.tenant, seen, finding.reason, last=last, at=at)
        if at - rollout.started_at > timedelta(days=spec.max_days):
            held = replace(seen, state="held", reason=f"after {spec.max_days:g} days: {finding.reason}", by=_SYSTEM)
            return await self._move(ctx.tenant, held, "hold", _SYSTEM)
        return await self._sql.write(lambda conn: store.update(conn, ctx.tenant, replace(seen, reason=finding.reason)))

    async def _advance(self, tenant: TenantId, seen: Rollout, reason: str, *, last: bool, at: datetime) -> Rollout:
        if not last:
            onward = replace(seen, state="canary", step=seen.step + 1, step_at=at, reason=reason, by=_SYSTEM)
            return await self._move(tenant, onward, "advance", _SYSTEM)
        state: State = "holdout" if seen.spec.holdout_percent else "promoted"
        done = replace(seen, state=state, step_at=at, reason=reason, by=_SYSTEM)
        return await self._move(tenant, done, "promote", _SYSTEM)

    async def _move(self, tenant: TenantId, rollout: Rollout, action: str, by: str) -> Rollout:
        """Store, log, and where it ends move the channel's pointer, in one transaction."""
        at = self._clock()

        def write(conn: Connection) -> Rollout:
            stored = store.update(conn, tenant, rollout)
            store.log(conn, tenant, stored, action, by=by, at=at)
            if stored.state in {"promoted", "holdout"}:
                release_store.move_channel(
                    conn,
                    tenant,
                    stored.app,
                    stored.channel,
                    release=stored.candidate,
                    by=f"{by}:{stored.id}"[:128],
                    reason=stored.reason,
                )
            return stored

        stored = await self._sql.write(write)
        await self._told(tenant, by, stored, action)
        return stored

    async def _told(self, tenant: TenantId, by: str, rollout: Rollout, action: str) -> None:
        details: dict[str, str | int | bool] = {
            "app": rollout.app,
            "channel": rollout.channel,
            "state": rollout.state,
            "percent": f"{rollout.percent:g}",
            "candidate": rollout.candidate,
            "control": rollout.control,
            "reason": rollout.reason[:500],
        }
        for check in rollout.checks:
            details[f"check.{check.measure}"] = (
                f"{check.verdict}: candidate {check.candidate:.4g}, control {check.control:.4g}, "
                f"harm {check.harm:.4g} in ({check.low:.4g}, {check.high:.4g}), margin {check.margin:g}, "
                f"units {check.units[0]}/{check.units[1]}"
            )
        await self._audit.append(AuditEvent(tenant, by, f"rollout.{action}", rollout.id, "ok", details))
