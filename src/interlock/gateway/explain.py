"""Why a request would go where: every target of a route, its place in the order or the reason against it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from interlock.core.context import Context
from interlock.core.messages import Usage
from interlock.gateway.checking import targets_of
from interlock.gateway.health import BreakerState
from interlock.gateway.register import SOON_DAYS
from interlock.gateway.routing import Need, approval_of
from interlock.gateway.service import Gateway
from interlock.gateway.types import Approval, ModelProfile, RouteSpec, Strategy, Target

__all__ = ["Explained", "TargetState", "Told", "Why", "explain", "states", "told_by_name"]


@dataclass(frozen=True, slots=True)
class TargetState:
    """How one target is doing, as this worker sees it."""

    target: str
    breaker: BreakerState
    cooling: bool
    """True while its provider's Retry-After lasts: it is asked last then."""
    latency_s: float | None
    """Decayed mean time to the first token; None before the first answer."""
    error_rate: float
    """Share of failed calls in the breaker's window."""
    in_flight: int
    calls: int
    failures: int
    rejected: int
    queued: int
    """Calls that wait for a turn at its provider."""
    last_error: str
    unanswered: int = 0
    """Calls in a row, up to the newest, that failed or were turned away by its provider's limits."""


@dataclass(frozen=True, slots=True)
class Why:
    """One target in an explanation."""

    target: str
    position: int | None
    """1 is asked first; None: it may not be asked."""
    code: str
    """Why not, for machines; empty when it may."""
    reason: str
    warnings: tuple[str, ...]
    """What will change: a last day that is near."""
    profile: ModelProfile
    approval: Approval | None
    price_per_million: Decimal | None
    """Dollars for a million input and a million output tokens; None when unpriced."""
    state: TargetState


@dataclass(frozen=True, slots=True)
class Explained:
    """The whole explanation."""

    model: str
    strategy: Strategy
    regions: tuple[tuple[str, ...], ...]
    """Each a set of allowed regions; all of them hold: the tenant's, the route's, the request's."""
    pressure: float
    """How far the caller's fullest money budget is used, 0 to 1."""
    downgraded: bool
    """True when that makes the cheapest target go first."""
    targets: tuple[Why, ...]
    last_resort: tuple[Why, ...]
    """Targets of `smaller`, when the route degrades to them."""

    @property
    def chosen(self) -> str | None:
        """The target that would be asked first."""
        return next((row.target for row in self.targets if row.position == 1), None)


def explain(
    gateway: Gateway,
    ctx: Context,
    model: str,
    need: Need,
    *,
    route: RouteSpec | None = None,
    regions: Sequence[str] = (),
    pressure: float = 0.0,
) -> Explained:
    """Plan a request without sending it.

    Weighted and latency routes draw for each request, so that another time another target may come first; a sticky
    route draws the same for the same caller. Raises: NotFound, InvalidInput: no such model.
    """
    route = route or gateway.route(model)
    residency = tuple(gateway.settings.residency.get(ctx.tenant, ()))
    return Explained(
        model=model,
        strategy=route.strategy,
        regions=tuple(found for found in (residency, tuple(route.require.regions), tuple(regions)) if found),
        pressure=pressure,
        downgraded=route.downgrade_at is not None and pressure >= route.downgrade_at,
        targets=_rows(gateway, ctx, need, route, regions=regions, pressure=pressure, last_resort=False),
        last_resort=_rows(gateway, ctx, need, route, regions=regions, pressure=pressure, last_resort=True)
        if "smaller" in route.degrade
        else (),
    )


def _rows(
    gateway: Gateway,
    ctx: Context,
    need: Need,
    route: RouteSpec,
    *,
    regions: Sequence[str],
    pressure: float,
    last_resort: bool,
) -> tuple[Why, ...]:
    planned = gateway.plan_for(need, route, ctx=ctx, regions=regions, pressure=pressure, last_resort=last_resort)
    rows = [_why(gateway, target, position, "", "") for position, target in enumerate(planned.order, 1)]
    rows += [_why(gateway, Target.parse(row.target), None, row.code, row.reason) for row in planned.refused]
    return tuple(rows)


def _why(gateway: Gateway, target: Target, position: int | None, code: str, reason: str) -> Why:
    facts = gateway.facts
    approval = approval_of(facts.register, target)
    warnings = []
    if approval is not None and approval.deprecated_on is not None:
        left = (approval.deprecated_on - facts.today()).days
        if 0 < left <= SOON_DAYS:
            warnings.append(f"it is used until {approval.deprecated_on.isoformat()}, {left} days from now")
    million = Usage(1_000_000, 1_000_000)
    price = facts.prices.price(target.provider, target.model, million) if facts.prices is not None else None
    return Why(
        target=str(target),
        position=position,
        code=code,
        reason=reason,
        warnings=tuple(warnings),
        profile=facts.profile(target),
        approval=approval,
        price_per_million=None if price is None else price.decimal(),
        state=_state(gateway, str(target)),
    )


MOST_TOLD = 300
"""Targets that are told of by name because they served."""


def told_by_name(gateway: Gateway, more: Collection[str] = ()) -> set[str]:
    """Targets that were called and that are shown each for itself: those of routes and of providers' `models`, and up
    to `MOST_TOLD` others that have served. Callers name models, so the rest are counted together.

    Args:
        more: targets that are configured elsewhere, such as those of apps.
    """
    settings = gateway.settings
    configured = {str(Target.parse(name)) for route in gateway.routes.values() for _, name in targets_of(route)}
    configured |= {str(Target(name, model)) for name, entry in settings.providers.items() for model in entry.models}
    configured |= {str(Target.parse(name)) for name in more}
    known = gateway.health.targets
    served = [name for name, state in list(known.items()) if state.served and name not in configured]
    return {name for name in configured if name in known} | set(served[:MOST_TOLD])


class Told(NamedTuple):
    """How the targets are doing that were called since start."""

    states: Sequence[TargetState]
    """By name."""
    others: int
    """How many more names callers made up, none of which has served."""


def states(gateway: Gateway, more: Collection[str] = ()) -> Told:
    """Targets that were called since start. `more`: see `told_by_name`."""
    names = told_by_name(gateway, more)
    return Told([_state(gateway, name) for name in sorted(names)], len(gateway.health.targets) - len(names))


def _state(gateway: Gateway, name: str) -> TargetState:
    at = gateway.health.clock()
    known = gateway.health.targets.get(name)
    queue = gateway.attempts.queues.get(Target.parse(name).provider)
    waiting = queue.waiting if queue is not None else 0
    if known is None:
        return TargetState(name, "closed", False, None, 0.0, 0, 0, 0, 0, waiting, "")
    return TargetState(
        name,
        known.state(at),
        known.is_cooling(at),
        known.latency_s,
        known.error_rate(at),
        known.in_flight,
        known.calls,
        known.failures,
        known.rejected,
        waiting,
        known.last_error,
        known.unanswered,
    )
