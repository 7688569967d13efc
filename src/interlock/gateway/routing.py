"""Which targets may take a request, and in which order: a pure function of the route, the request and what is known.

Hard conditions come first and refuse a target with a reason, whatever the strategy: a request that must stay in a
region is refused rather than moved. The strategy then orders those that are left.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from interlock.core.errors import Forbidden, InterlockError, InvalidInput, Unavailable
from interlock.core.messages import ChatRequest, FilePart, ImagePart, ToolResultPart, Usage
from interlock.core.ports import PriceBook
from interlock.gateway.estimate import estimate_input
from interlock.gateway.health import Health
from interlock.gateway.profiles import profile
from interlock.gateway.types import (
    Approval,
    Considered,
    ModelFacts,
    ModelProfile,
    Requirements,
    RouteSpec,
    Target,
)

__all__ = [
    "USUAL_OUTPUT_TOKENS",
    "Conditions",
    "Facts",
    "Need",
    "Plan",
    "approval_of",
    "need_of",
    "no_target",
    "ordered",
    "plan",
]

_UNPRICED = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of whoever serves it."""

    tools: bool
    images: bool
    json_schema: bool
    input_tokens: int
    """Estimated."""
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the caller adds to a route's own requirements. It can only make them stricter."""

    regions: tuple[tuple[str, ...], ...] = ()
    """Each a set of allowed regions; all of them hold."""
    pressure: float = 0.0
    """How far the caller's fullest money budget is used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Targets to try, in order, and those that may not be tried."""

    order: tuple[Target, ...]
    refused: tuple[Considered, ...]
    retry_after_s: float | None = None
    """When a target that is only resting may be asked again."""


USUAL_OUTPUT_TOKENS = 1_000
"""For comparing prices, of a request that sets no limit."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What plans are made from, besides the request."""

    register: Mapping[str, Approval] = field(default_factory=dict)
    must_be_approved: bool = False
    prices: PriceBook | None = None
    today: Callable[[], date] = date.today
    draw: Callable[[], float] = random.random
    profiles: Mapping[str, Mapping[str, ModelFacts]] = field(default_factory=dict)
    """By provider, what the settings say of its models."""

    def profile(self, target: Target) -> ModelProfile:
        """What is known of a target's model."""
        return profile(target.model, self.profiles.get(target.provider, {}))


def need_of(request: ChatRequest, route: RouteSpec) -> Need:
    """Read what a request needs off its contents."""
    parts = [part for message in request.messages for part in message.parts]
    parts += [item for part in parts if isinstance(part, ToolResultPart) for item in part.content]
    return Need(
        tools=bool(request.tools),
        images=any(isinstance(part, (ImagePart, FilePart)) for part in parts),
        json_schema=bool(request.response_schema),
        input_tokens=estimate_input(request),
        output_tokens=route.limit(request.max_output_tokens) or USUAL_OUTPUT_TOKENS,
    )


def approval_of(register: Mapping[str, Approval], target: Target) -> Approval | None:
    """The register's most specific entry about a target: its name, then patterns, longest first."""
    name = f"{target.provider}/{target.model}"
    if name in register:
        return register[name]
    matching = [pattern for pattern in register if fnmatch.fnmatchcase(name, pattern)]
    return register[max(matching, key=len)] if matching else None


def plan(
    route: RouteSpec,
    need: Need,
    health: Health,
    facts: Facts,
    *,
    conditions: Conditions = Conditions(),
    unit: str = "",
    targets: Sequence[str] | None = None,
) -> Plan:
    """Order the targets of a route for one request.

    Args:
        unit: what sticky routing hashes (conversation or user); empty draws anew for each request.
        targets: instead of the route's own (its targets of last resort).
    """
    at = health.clock()
    fit: list[Target] = []
    refused: list[Considered] = []
    free_at: list[float] = []
    for name in targets if targets is not None else route.targets:
        target = Target.parse(name)
        why = _unfit(target, route.require, need, conditions, facts)
        if why is not None:
            refused.append(Considered(name, "refused", *why))
            continue
        state = health.of(str(target))
        if state.is_resting(at):
            free_at.append(state.free_at(at))
            refused.append(Considered(name, "refused", "breaker_open", _RESTING))
            continue
        fit.append(target)
    order = ordered(route, fit, need, health, facts, unit=unit, at=at, pressure=conditions.pressure)
    return Plan(tuple(order), tuple(refused), max(0.0, min(free_at) - at) if free_at else None)


_RESTING = "it failed repeatedly and rests; a probe decides when it is used again"


_POLICY = frozenset({"unregistered", "deprecated", "use", "region", "retention", "training"})


def no_target(plan: Plan) -> InterlockError:
    """What a caller is told when a plan has nobody to ask: whose fault it is decides about the status."""
    codes = {row.code for row in plan.refused}
    if codes == {"context"}:
        return InvalidInput(
            "the request does not fit the context of any target: "
            + "; ".join(f"{row.target}: {row.reason}" for row in plan.refused),
            param="messages",
            code="context_length_exceeded",
            hint="shorten it, or route it to a model with a larger context",
        )
    if codes and codes <= _POLICY:
        return Forbidden(
            "no target of the route is approved for this request: "
            + "; ".join(f"{row.target}: {row.reason}" for row in plan.refused),
            code="target_not_approved",
            param="model",
            hint="see why with: interlock route explain; approvals are in gateway.approvals",
        )
    reasons = "; ".join(f"{row.target}: {row.reason}" for row in plan.refused)
    resting = plan.retry_after_s is not None
    return Unavailable(
        f"no target of the route may take this request ({reasons})",
        code="targets_resting" if resting else "no_target",
        retryable=resting,
        retry_after_s=plan.retry_after_s,
        hint="see why with: interlock route explain",
    )


def _unfit(
    target: Target, require: Requirements, need: Need, conditions: Conditions, facts: Facts
) -> tuple[str, str] | None:
    """(code, reason) of the first condition that the target does not meet."""
    approval = approval_of(facts.register, target)
    if approval is None and facts.must_be_approved:
        return "unregistered", "it is not in gateway.approvals"
    if approval is not None and approval.deprecated_on is not None and facts.today() >= approval.deprecated_on:
        return "deprecated", f"it is out of use since {approval.deprecated_on.isoformat()}"
    why = _unapproved(approval, require, conditions)
    if why is not None:
        return why
    known = facts.profile(target)
    if require.tools and not known.tools:
        return "tools", "it cannot call tools"
    if (need.images or require.images) and not known.images and known.tier != "none":
        return "images", "it cannot read images or files"
    if require.json_schema and not known.json_schema:
        return "json_schema", "it cannot be held to a JSON Schema"
    if not known.context_tokens and require.min_context_tokens:
        return "context", f"its context is not known (gateway.providers.{target.provider}.profiles may say it)"
    if known.context_tokens < require.min_context_tokens:
        return "context", f"its context of {known.context_tokens:,} tokens is too small for the route"
    if 0 < known.context_tokens < need.input_tokens // 2:
        # Half the generous estimate: a request is turned away only when it certainly does not fit.
        return "context", f"the request does not fit its context of {known.context_tokens:,} tokens"
    if require.max_price_per_million is not None:
        price = _price(target, Need(False, False, False, 1_000_000, 1_000_000), facts)
        if price > Decimal(require.max_price_per_million):
            return "price", "it costs more than the route allows, or has no known price"
    return None


def _unapproved(approval: Approval | None, require: Requirements, conditions: Conditions) -> tuple[str, str] | None:
    known = approval or Approval(uses=[])
    if require.use is not None and require.use not in known.uses and "*" not in known.uses:
        return "use", f"it is not approved for the use {require.use!r}"
    for regions in (require.regions, *conditions.regions):
        if regions and not (known.regions and set(known.regions) <= set(regions)):
            # All of its regions must be allowed: a provider that may process elsewhere is no guarantee.
            return "region", f"it may process outside {', '.join(regions)}"
    if require.max_retention_days is not None and (
        known.retention_days is None or known.retention_days > require.max_retention_days
    ):
        return "retention", f"its provider may keep content longer than {require.max_retention_days} days"
    if require.no_training and known.trains_on_data is not False:
        return "training", "its provider may train on content"
    return None


def ordered(
    route: RouteSpec,
    fit: list[Target],
    need: Need,
    health: Health,
    facts: Facts,
    *,
    unit: str,
    at: float,
    pressure: float = 0.0,
) -> list[Target]:
    """Targets that may be asked, in the order of the route's strategy.

    Args:
        unit: see `plan`.
        at: monotonic seconds, of `health`'s clock.
        pressure: see `Conditions`.
    """
    order = _by_strategy(route, fit, need, health, facts, unit=unit, at=at)
    if route.downgrade_at is not None and pressure >= route.downgrade_at:
        order = sorted(order, key=lambda target: _price(target, need, facts))
    # A provider that asked to wait is asked last: its limit may be another tenant's, so it is not refused.
    return sorted(order, key=lambda target: health.of(str(target)).is_cooling(at))


def _by_strategy(
    route: RouteSpec, fit: list[Target], need: Need, health: Health, facts: Facts, *, unit: str, at: float
) -> list[Target]:
    if route.strategy == "cost":
        return sorted(fit, key=lambda target: _price(target, need, facts))
    if route.strategy == "weighted":
        return _weighted(route, fit, unit, facts)
    if route.strategy == "latency":
        return _fastest_first(fit, health, facts, unit=unit, at=at)
    return fit


def _weighted(route: RouteSpec, fit: list[Target], unit: str, facts: Facts) -> list[Target]:
    """Draw without replacement by weight; the same unit draws the same order while the same targets are fit.

    Each target's key is ``-ln(u) / weight`` (Efraimidis and Spirakis, 2006) with u from a hash of unit and target, so
    that a target that drops out moves only its own units.
    """

    def key(target: Target) -> float:
        weight = route.weights.get(str(target), 1.0)
        if weight <= 0:
            return math.inf
        return -math.log(_uniform(unit, str(target)) if unit else 1.0 - facts.draw()) / weight

    return sorted(fit, key=key)


def _fastest_first(fit: list[Target], health: Health, facts: Facts, *, unit: str, at: float) -> list[Target]:
    """The better of two drawn targets goes first (power of two choices), the others follow by expected wait."""

    def expected(target: Target) -> float:
        state = health.of(str(target))
        wait = state.expected_s(at)
        # A failing target is slow in effect: its callers wait for the next one as well.
        return wait * (1 + 4 * state.error_rate(at)) if wait else 0.0

    if len(fit) < 2:
        return fit
    if unit:
        drawn = sorted(fit, key=lambda target: _uniform(unit, str(target)))[:2]
    else:
        first = int(facts.draw() * len(fit))
        second = (first + 1 + int(facts.draw() * (len(fit) - 1))) % len(fit)
        drawn = [fit[first], fit[second]]
    best = min(drawn, key=expected)
    return [best, *sorted((target for target in fit if target != best), key=expected)]


def _uniform(unit: str, target: str) -> float:
    digest = hashlib.sha256(f"{unit}\0{target}".encode()).digest()
    return (int.from_bytes(digest[:8]) + 1) / (2**64 + 1)


def _price(target: Target, need: Need, facts: Facts) -> Decimal:
    """Dollars of this request at a target; infinite when it has no price."""
    if facts.prices is None:
        return Decimal(0)
    cost = facts.prices.price(target.provider, target.model, Usage(need.input_tokens, need.output_tokens))
    return _UNPRICED if cost is None else cost.decimal()
