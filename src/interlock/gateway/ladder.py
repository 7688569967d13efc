"""One request's way down: a kept answer, the targets, and then what the route's `degrade` has instead."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from interlock.core.context import Context
from interlock.core.errors import InterlockError, Unavailable
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.core.ports import Meter
from interlock.gateway.cache.service import PROVIDER as CACHE
from interlock.gateway.cache.service import AnswerCache, CacheCall
from interlock.gateway.cache.types import CacheScope, CacheStatus
from interlock.gateway.call import Call
from interlock.gateway.posting import chain, posted
from interlock.gateway.routing import Plan
from interlock.gateway.types import Considered, RouteSpec, Target

__all__ = ["Ladder", "cache_call", "targets"]

_DECIDES_NOTHING = frozenset(
    {"cache", "shadow", "priority", "retries", "total_timeout_s", "try_timeout_s", "first_token_timeout_s", "degrade"}
    | {"smaller", "prompt_cache", "refuse_retry_after_s", "downgrade_at"}
)
"""Fields of a route that do not change what an answer says: answers of last resort are never kept."""


def cache_call(
    ctx: Context,
    request: ChatRequest,
    route: RouteSpec,
    scope: CacheScope,
    *,
    name: str,
    residency: tuple[str, ...],
) -> CacheCall | None:
    """What decides about a kept answer of a request; None when its route keeps none."""
    if route.cache is None:
        return None
    decides = route.model_dump(mode="json", exclude=set(_DECIDES_NOTHING))
    return CacheCall(ctx, request, route.cache, scope, name, decides, residency)


async def targets(ctx: Context, route: RouteSpec, call: Call, plan: Plan) -> AsyncGenerator[ChatEvent, None]:
    """Events of a plan's answer after the route's `post`."""
    events = call.run(ctx, plan)
    hooks = chain(route.post)
    async with aclosing(posted(events, hooks) if hooks else events) as stream:
        async for event in stream:
            yield event


class Ladder:
    """One request.

    Args:
        plan: plans it now; True: with the targets of last resort.
        cache: where answers are kept.
        kept: what decides about its kept answer; None: there is none.
    """

    def __init__(
        self,
        ctx: Context,
        route: RouteSpec,
        call: Call,
        meter: Meter,
        *,
        plan: Callable[[bool], Plan],
        cache: AnswerCache | None,
        kept: CacheCall | None,
    ) -> None:
        self._ctx = ctx
        self._route = route
        self._call = call
        self._meter = meter
        self._plan = plan
        self._cache = cache if kept is not None else None
        self._kept = kept

    async def _ask(self, *, last_resort: bool = False) -> AsyncGenerator[ChatEvent, None]:
        # Planned when its first event is wanted, not before.
        planned = self._plan(last_resort)
        async with aclosing(targets(self._ctx, self._route, self._call, planned)) as events:
            async for event in events:
                yield event

    def _note(self, status: CacheStatus, target: str) -> None:
        served = self._call.served
        served.caches.append(status)
        if target:
            served.target = Target.parse(target)
            served.note(Considered(f"{CACHE}/{target}", "served"))

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        """The answer, or what the route's `degrade` has instead, step by step, until something was sent."""
        served, ctx, kept = self._call.served, self._ctx, self._kept
        first = (
            self._ask()
            if kept is None or self._cache is None
            else self._cache.stream(kept, self._meter, self._note, self._ask, target=lambda: str(served.target))
        )
        began = False
        try:
            async with aclosing(first) as events:
                async for event in events:
                    began = True
                    yield event
            return
        except InterlockError as error:
            if began or ctx.deadline.remaining_s() <= 0:
                raise
            failed = error
        for step in self._route.degrade:
            instead: AsyncGenerator[ChatEvent, None] | None = None
            if step == "smaller":
                instead = self._ask(last_resort=True)
            elif step == "cache" and kept is not None and self._cache is not None:
                instead = self._cache.stale(kept, self._meter, self._note)
            elif step == "refuse":
                raise Unavailable(
                    "no model can answer now",
                    code="degraded_refusal",
                    retry_after_s=failed.retry_after_s or self._route.refuse_retry_after_s,
                    hint="try again later; the operator sees why in the trace",
                ) from failed
            if instead is None:
                # `extractive` is the answer flow's: it quotes when the model's words do not come.
                continue
            try:
                async with aclosing(instead) as events:
                    async for event in events:
                        began, served.degraded = True, step
                        yield event
            except InterlockError as error:
                if began or ctx.deadline.remaining_s() <= 0:
                    raise
                failed = error if error.code != "no_target" else failed
            if began:
                return
        raise failed
