"""Look at the rollouts that are under way: read what their units met, judge it, move them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import Conflict
from interlock.flows.parts import Parts
from interlock.releases.rollouts.types import Rollout, UnitOutcome
from interlock.stores.events.base import UnitRow

__all__ = ["complaints", "look_at", "look_at_due", "outcome_of"]

_log = logging.getLogger("interlock.rollout")


async def look_at(parts: Parts, ctx: Context, rollout: Rollout) -> Rollout:
    """One look at one rollout. Raises: Conflict: somebody else moved it meanwhile."""
    rows = await parts.observe.units(ctx, rollout.id, since=rollout.started_at)
    # What was copied in the shadow is no evidence of what people were served later.
    tried = "shadow" if rollout.in_shadow else "candidate"
    said = await complaints(parts, ctx, rollout.id, rollout.started_at)
    outcomes = [
        outcome_of(row, "candidate" if row.arm == tried else "control", said)
        for row in rows
        if row.arm in {tried, "control"}
    ]
    return await parts.releases.rollouts.look(ctx, rollout, outcomes)


async def complaints(parts: Parts, ctx: Context, rollout: str, since: datetime) -> Mapping[tuple[str, str], int] | None:
    """How many answers each unit complained of, by arm; None where nobody has said anything of any."""
    rows = await parts.observe.opinions(ctx, rollout, since=since)
    return {(row.unit, row.arm): row.complaints for row in rows} if rows else None


def outcome_of(row: UnitRow, arm: str, said: Mapping[tuple[str, str], int] | None) -> UnitOutcome:
    """What telemetry says of a unit, as rollouts and experiments judge it.

    Args:
        said: of `complaints`. Where nobody ever says anything, that nobody complains means nothing.
    """
    return UnitOutcome(
        unit=row.unit,
        arm=arm,
        first_ns=row.first_ns,
        requests=row.requests,
        error=row.error,
        declined=row.declined,
        blocked=row.blocked,
        unsupported=row.unsupported,
        complaint=None if said is None else min(1.0, said.get((row.unit, row.arm), 0) / row.requests),
        log_latency=row.log_latency,
        log_cost=row.log_cost,
        latency_s=row.latency_s,
        cost_nano=row.cost_nano,
    )


async def look_at_due(parts: Parts, ctx: Context) -> float:
    """Look at every rollout of the tenant whose time has come; gives seconds until the next is due, a minute at most.

    Several workers may do so at once: the first to store what it found wins, the others leave it at that.
    """
    wait = 60.0
    for rollout in await parts.releases.rollouts.list(ctx, active=True, limit=1000):
        every = rollout.spec.check_every_s
        if rollout.checked_at is not None:
            left = every - (now() - rollout.checked_at).total_seconds()
            if left > 0:
                wait = min(wait, left)
                continue
        try:
            await look_at(parts, ctx, rollout)
        except Conflict:
            _log.info("rollout %s was looked at elsewhere", rollout.id)
        wait = min(wait, every)
    return wait
