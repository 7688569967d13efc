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

from interlock.app import App
from interlock.core.context import Context, Principal
from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId
from interlock.gateway.health import TargetHealth
from interlock.gateway.ports import Forwarding, Forwards
from interlock.gateway.profiles import profile
from interlock.gateway.retry import RetryBudget
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


@dataclass(slots=True)
class Lane:
    """One target that requests can be forwarded to."""

    target: Target
    name: str
    to: Forwarding
    pool: Pool
    head: bytes
    """Request line and headers, up to and with ``content-length: ``."""
    health: TargetHealth
    turns: Turns
    retries: RetryBudget
    context_tokens: int


@dataclass(slots=True)
class Route:
    """A model name that one caller may ask for."""

    spec: RouteSpec
    lanes: tuple[Lane | None, ...]
    """In order; None where a target needs the ordinary path."""
    unfit_until: float = 0.0
    """While an upstream answers in a way that the lane cannot forward."""

    def choose(self, at: float, input_tokens: int) -> tuple[Lane, str] | None:
        """The first target that may be asked, and why the ones before it were not; None: take the ordinary path."""
        if at < self.unfit_until:
            return None
        passed = ""
        for lane in self.lanes:
            if lane is None:
                return None
            health = lane.health
            if health.opened_at is not None:
                if health.is_resting(at):
                    passed += f"; {lane.name}=breaker_open"
                    continue
                # A probe: its outcome decides about the target, so it goes where every outcome is understood.
                return None
            if health.cool_until > at or input_tokens // 2 > lane.context_tokens:
                return None
            return lane, passed
        return None


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
        self._generation: tuple[object, ...] = ()
        self._learning: set[asyncio.Task[None]] = set()

    def caller(self, authorization: bytes, at: float) -> Caller | None:
        """Who sent this header; None when that is not known (yet)."""
        return self._find(self._callers, authorization, at, lambda: self._learn_caller(authorization))

    def route(self, caller: Caller, wire: str, model: str, at: float) -> Route | None:
        """What a model name stands for; None when that is not known (yet), or nothing the lane can forward to."""
        key = (caller.tenant, wire, model)
        return self._find(self._routes, key, at, lambda: self._learn_route(caller, wire, model))

    def forget(self) -> None:
        """Know nothing any more: a key was revoked, or the configuration changed."""
        self._callers.rows.clear()
        self._routes.rows.clear()

    def _find(self, table: _Table[T], key: object, at: float, learn: Callable[[], Awaitable[T | None]]) -> T | None:
        generation = (self._app.parts.access.generation, self._app.parts.gateway.generation)
        if generation != self._generation:
            self.forget()
            self._generation = generation
        known = table.rows.get(key)
        if known is not None and at - known.at < _FRESH_S:
            return known.value
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
        return Caller(ctx.tenant, ctx.principal)

    async def _learn_route(self, caller: Caller, wire: str, model: str) -> Route | None:
        gateway = self._app.parts.gateway
        if model.startswith("app/"):
            return None
        spec = gateway.route(model)
        if spec.strategy != "fallback" or not _is_plain(spec):
            return None
        ctx = Context(caller.tenant, caller.principal)
        lanes = [await self._lane(ctx, wire, target) for target in gateway.fit_targets(ctx, spec)]
        return Route(spec, tuple(lanes)) if any(lane is not None for lane in lanes) else None

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
        health = attempts.health
        return Lane(
            target=target,
            name=str(target),
            to=to,
            pool=self._pools.of(Origin(host, port, tls)),
            head=f"POST {path} HTTP/1.1\r\n{lines}content-length: ".encode(),
            health=health.of(str(target)),
            turns=attempts.turns(target.provider),
            retries=attempts.retries(target.provider),
            context_tokens=profile(target.model).context_tokens,
        )


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
