"""What the lane knows: keys and models that were asked for a moment ago, ready to be looked up.

The lane never waits for a database or a secret store. What it does not know it hands over to the ordinary path, and
learns it meanwhile. What it knows is looked up anew every half second while it is used, so that a revoked key, a
rotated provider key and a changed route are noticed within a second; a key that this process revokes, at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from interlock.app import App
from interlock.core.context import Context, Principal
from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId
from interlock.cost.service import Costs
from interlock.cost.terms import Terms
from interlock.gateway.health import Health, TargetHealth
from interlock.gateway.ports import Forwarding, Forwards
from interlock.gateway.retry import RetryBudget
from interlock.gateway.routing import USUAL_OUTPUT_TOKENS, Need, ordered
from interlock.gateway.routing import Facts as RoutingFacts
from interlock.gateway.service import sticky_unit
from interlock.gateway.turns import Turns
from interlock.gateway.types import RouteSpec, Target
from interlock.server.lane.upstream import Origin, Pool, Pools

__all__ = ["Caller", "Facts", "Lane", "Route"]

T = TypeVar("T")
_log = logging.getLogger("interlock.lane")
_FRESH_S = 0.5
_STALE_S = 1.0
_MOST = 10_000
_MOST_LEARNING = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified key."""

    tenant: TenantId
    principal: Principal
    payer: str
    """Tenant and key as one text."""


@dataclass(slots=True)
class Lane:
    """One target that requests can be forwarded to."""

    target: Target
    name: str
    quoted: str
    """The name as JSON."""
    to: Forwarding
    pool: Pool
    head: bytes
    """Request line and headers, up to and with ``content-length: ``."""
    health: TargetHealth
    turns: Turns
    retries: RetryBudget
    context_tokens: int
    most_output_tokens: int
    """Of an answer that nobody set a limit to."""
    own_key: bool = False
    """Its key is this tenant's alone."""
    terms: dict[str, Terms] = field(default_factory=dict)
    """What each caller pays here, by `Caller.payer`."""

    def terms_of(self, caller: Caller, costs: Costs) -> Terms:
        """What a caller pays here, by the rules and prices of now."""
        terms = self.terms.get(caller.payer)
        if terms is None or terms.generation != costs.generation:
            if len(self.terms) >= _MOST:
                self.terms.clear()
            target = self.target
            terms = costs.terms(caller.tenant, caller.principal, target.provider, target.model)
            self.terms[caller.payer] = terms
        return terms


@dataclass(slots=True)
class Route:
    """A model name that one caller may ask for."""

    spec: RouteSpec
    lanes: tuple[Lane | None, ...]
    """In order; None where a target needs the ordinary path."""
    refused: tuple[tuple[str, str], ...]
    """Targets that may never be asked, with the code of the reason."""
    health: Health
    """Of all targets."""
    policy: RoutingFacts
    """What the strategy goes by, besides health."""
    unfit_until: float = 0.0
    """While an upstream answers in a way that the lane cannot forward."""

    def choose(self, at: float, input_tokens: int, limit: int | None, caller: Caller) -> tuple[Lane, str] | None:
        """The target to ask, and why others are not, as the route's header tells it; None: take the ordinary path.

        Args:
            at: monotonic seconds.
            limit: output tokens asked for.
        """
        if at < self.unfit_until:
            return None
        chosen = self._first(at) if self.spec.strategy == "fallback" else self._drawn(at, input_tokens, limit, caller)
        if chosen is None or chosen.health.cool_until > at or input_tokens // 2 > chosen.context_tokens:
            return None
        return chosen, self._passed(at)

    def _first(self, at: float) -> Lane | None:
        for lane in self.lanes:
            if lane is None:
                return None
            if lane.health.opened_at is None:
                return lane
            if not lane.health.is_resting(at):
                # A probe: its outcome decides about the target, so it goes where every outcome is understood.
                return None
        return None

    def _drawn(self, at: float, input_tokens: int, limit: int | None, caller: Caller) -> Lane | None:
        """By the same rule as `gateway.routing.plan`, which is asked only where every target could be the lane's:
        a choice among some of them would shift the shares of all.
        """
        fit: dict[Target, Lane] = {}
        for lane in self.lanes:
            if lane is None or input_tokens // 2 > lane.context_tokens:
                return None
            if lane.health.opened_at is not None:
                if lane.health.is_resting(at):
                    continue
                return None
            fit[lane.target] = lane
        if not fit:
            return None
        spec = self.spec
        need = Need(False, False, False, input_tokens, spec.limit(limit) or USUAL_OUTPUT_TOKENS)
        unit = "" if spec.sticky == "none" else sticky_unit(Context(caller.tenant, caller.principal), spec)
        return fit[ordered(spec, list(fit), need, self.health, self.policy, unit=unit, at=at)[0]]

    def _passed(self, at: float) -> str:
        told = [f"; {name}={code}" for name, code in self.refused]
        for lane in self.lanes:
            if lane is not None and lane.health.opened_at is not None and lane.health.is_resting(at):
                told.append(f"; {lane.name}=breaker_open")
        return "".join(told)


@dataclass(slots=True)
class _Known(Generic[T]):
    value: T | None
    at: float
    learning: bool = False


@dataclass(slots=True)
class _Table(Generic[T]):
    rows: dict[object, _Known[T]] = field(default_factory=dict)


class Facts:
    """Of one server process."""

    def __init__(self, app: App, pools: Pools, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._pools = pools
        self._loop = loop
        self._callers: _Table[Caller] = _Table()
        self._routes: _Table[Route] = _Table()
        self._access = app.parts.access
        self._gateway = app.parts.gateway
        self._generation = -1
        self._learning: set[asyncio.Task[None]] = set()

    def caller(self, authorization: bytes, at: float) -> Caller | None:
        """Who sent this header; None when that is not known (yet)."""
        generation = self._access.generation + self._gateway.generation
        if generation != self._generation:
            self.forget()
            self._generation = generation
        known = self._callers.rows.get(authorization)
        if known is not None and at - known.at < _FRESH_S:
            return known.value
        return self._find(self._callers, authorization, at, lambda: self._learn_caller(authorization))

    def route(self, caller: Caller, wire: str, model: str, at: float) -> Route | None:
        """What a model name stands for; None when that is not known (yet), or nothing the lane can forward to.

        Asked right after `caller`.
        """
        key = (caller.tenant, wire, model)
        known = self._routes.rows.get(key)
        if known is not None and at - known.at < _FRESH_S:
            return known.value
        return self._find(self._routes, key, at, lambda: self._learn_route(caller, wire, model))

    def forget(self) -> None:
        """Know nothing any more: a key was revoked, or the configuration changed."""
        self._callers.rows.clear()
        self._routes.rows.clear()

    def _find(self, table: _Table[T], key: object, at: float, learn: Callable[[], Awaitable[T | None]]) -> T | None:
        known = table.rows.get(key)
        if known is None:
            if len(table.rows) >= _MOST:
                table.rows.clear()
            # Until it is learnt there is nothing, and nobody else begins to learn it.
            known = table.rows[key] = _Known(None, at - _STALE_S)
        if not known.learning and len(self._learning) < _MOST_LEARNING:
            known.learning = True
            task = self._loop.create_task(self._learn(table, key, known, learn))
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)
        return known.value if at - known.at < _STALE_S else None

    async def _learn(
        self, table: _Table[T], key: object, known: _Known[T], learn: Callable[[], Awaitable[T | None]]
    ) -> None:
        generation, began = self._generation, time.monotonic()
        value: T | None = None
        try:
            value = await learn()
        except InterlockError:
            # The ordinary path says what is wrong.
            pass
        except Exception as error:  # noqa: BLE001 - a border: the ordinary path serves
            _log.warning("the fast lane could not learn: %s", type(error).__name__)
        finally:
            known.learning = False
            if generation == self._generation and table.rows.get(key) is known:
                known.value, known.at = value, began

    async def _learn_caller(self, authorization: bytes) -> Caller | None:
        scheme, _, secret = authorization.decode("ascii").partition(" ")
        if scheme != "Bearer" or not secret.startswith("il_"):
            return None
        ctx = await self._app.parts.access.authenticate(bearer=secret, behalf=None, loopback=False)
        return Caller(ctx.tenant, ctx.principal, f"{ctx.tenant}/{ctx.principal.id}/{ctx.principal.key_id}")

    async def _learn_route(self, caller: Caller, wire: str, model: str) -> Route | None:
        gateway = self._app.parts.gateway
        if model.startswith("app/"):
            return None
        spec = gateway.route(model)
        if spec.strategy == "cascade" or not _is_plain(spec):
            return None
        if spec.strategy != "fallback" and wire == "openai.embeddings":
            # That path does not take over what was drawn here.
            return None
        ctx = Context(caller.tenant, caller.principal)
        fit = gateway.fit_plan(ctx, spec)
        lanes = [await self._lane(ctx, wire, target) for target in fit.order]
        if not any(lane is not None for lane in lanes):
            return None
        refused = tuple((row.target, row.code) for row in fit.refused)
        return Route(spec, tuple(lanes), refused, gateway.health, gateway.facts)

    async def _lane(self, ctx: Context, wire: str, target: Target) -> Lane | None:
        attempts = self._app.parts.gateway.attempts
        provider = attempts.provider(target.provider)
        if not isinstance(provider, Forwards):
            return None
        to = await provider.forwarding(ctx, wire, target.model)
        if to is None:
            return None
        split = urlsplit(to.url)
        host = split.hostname or ""
        if not f"{host}{target}".isascii() or (split.scheme in getproxies() and not proxy_bypass(host)):
            return None
        tls = split.scheme == "https"
        port = split.port or (443 if tls else 80)
        path = split.path + (f"?{split.query}" if split.query else "")
        named = host if ":" not in host else f"[{host}]"
        headers = {
            "host": named if split.port is None else f"{named}:{port}",
            **to.headers,
            "accept-encoding": "identity",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if not lines.isascii() or lines.count("\r\n") != len(headers) or "content-length" in headers:
            return None
        health, known = attempts.health, attempts.profile(target)
        return Lane(
            target=target,
            name=str(target),
            quoted=msgspec.json.encode(str(target)).decode(),
            to=to,
            pool=self._pools.of(Origin(host, port, tls)),
            head=f"POST {path} HTTP/1.1\r\n{lines}content-length: ".encode(),
            health=health.of(str(target)),
            turns=attempts.turns(target.provider),
            retries=attempts.retries(target.provider),
            context_tokens=known.context_tokens or _ANY_LENGTH,
            most_output_tokens=known.max_output_tokens,
            own_key=attempts.has_own_key(ctx.tenant, target.provider),
        )


_ANY_LENGTH = 1 << 62
_KNOWN_FIELDS = frozenset(
    {
        "targets", "strategy", "weights", "require", "sticky", "cascade", "smaller", "temperature", "top_p", "seed",
        "max_output_tokens", "total_timeout_s", "try_timeout_s", "first_token_timeout_s", "retries", "priority",
        "degrade",
    }
)  # fmt: skip
"""Fields of a route that the lane honours, or that matter only once its first try has failed."""


def _is_plain(spec: RouteSpec) -> bool:
    """False when the route asks for more than forwarding: a shadow, a cache, a check of the answer."""
    if spec.downgrade_at is not None:
        return False
    return all(
        name in _KNOWN_FIELDS or getattr(spec, name) == field.get_default(call_default_factory=True)
        for name, field in type(spec).model_fields.items()
    )
