"""Which arm a unit falls to: sticky, without a store. Who takes part and which arm it is are drawn apart."""

from __future__ import annotations

from interlock.core.context import Context
from interlock.releases.experiments.types import ExperimentSpec, Plan, PlannedArm, Unit
from interlock.releases.rollouts.assigning import bucket

__all__ = ["arm_of", "unit_of"]


def unit_of(ctx: Context, unit: Unit) -> str | None:
    """What is given to an arm in this request; None where it has none of that kind."""
    if unit == "user":
        return None if ctx.end_user is None else f"user:{ctx.end_user.id}"
    if unit == "conversation":
        return None if ctx.conversation is None else f"conversation:{ctx.conversation}"
    return ctx.assignment_unit


def arm_of(plan: Plan, seed: str, ctx: Context, unit: str) -> PlannedArm | None:
    """The unit's arm; None where it does not take part."""
    if not _is_eligible(plan.spec, ctx) or bucket(f"{seed}:traffic", unit) * 100 >= plan.spec.traffic:
        return None
    at, passed = bucket(seed, unit), 0.0
    for arm in plan.arms:
        passed += arm.share
        if at < passed:
            return arm
    # Shares sum to 1 but for rounding.
    return plan.arms[-1]


def _is_eligible(spec: ExperimentSpec, ctx: Context) -> bool:
    groups = spec.eligible.groups
    return not groups or (ctx.end_user is not None and not set(groups).isdisjoint(ctx.end_user.groups))
