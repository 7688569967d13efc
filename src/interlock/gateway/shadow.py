"""Copies of requests to a second target, after the answer: measured, compared, thrown away.

A copy is sent when the caller has its last byte, from a task of the gateway's own, with its own bounds. It never waits
in front of a caller, and nothing of it is kept but figures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.messages import ChatEvent, ChatRequest, Finish, TextDelta
from interlock.core.ports import Meter
from interlock.gateway.cache.types import CacheScope
from interlock.gateway.structured.recover import find_json
from interlock.gateway.types import Shadow, Target

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from interlock.gateway.call import Served

__all__ = ["Original", "ShadowMeter", "Shadows", "free_shadow_meter"]

_log = logging.getLogger("interlock.gateway")
_HOUR_S = 3600.0
Ask = Callable[[Context, ChatRequest, Target, Meter, float], "AsyncGenerator[ChatEvent, None]"]


class ShadowMeter(Protocol):
    """Opens a bill for copies of one request."""

    def __call__(self, ctx: Context, scope: CacheScope) -> AbstractAsyncContextManager[Meter]:
        """A meter whose rows are outcome `shadow`."""


@asynccontextmanager
async def free_shadow_meter(ctx: Context, scope: CacheScope) -> AsyncIterator[Meter]:
    """Charged to nobody."""
    from interlock.gateway.attempt import FreeMeter

    yield FreeMeter()


@dataclass(frozen=True, slots=True)
class Original:
    """The answer that the caller got."""

    events: Sequence[ChatEvent]
    seconds: float
    served: Served


class Shadows:
    """Copies under way in this worker.

    Args:
        ask: one target's events for a request, without fallback; the last argument is the longest time in seconds.
        meter: for routes that charge copies.
    """

    def __init__(
        self,
        ask: Ask,
        meter: ShadowMeter,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._ask = ask
        self._meter = meter
        self._clock = clock
        self._draw = draw
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self._sent: dict[str, deque[float]] = {}
        self.counts: Counter[str] = Counter()
        """`sent`, `failed`, `skipped`, `agreed`, `differed` in this worker."""

    def maybe(self, ctx: Context, request: ChatRequest, shadow: Shadow, scope: CacheScope, original: Original) -> None:
        """Send a copy if it is drawn and within bounds. Gives back at once."""
        if self._draw() >= shadow.share:
            return
        name = f"{ctx.tenant}/{scope.app}/{request.model}/{shadow.target}"
        tasks = self._tasks.setdefault(name, set())
        sent = self._sent.setdefault(name, deque())
        at = self._clock()
        while sent and sent[0] <= at - _HOUR_S:
            sent.popleft()
        if len(tasks) >= shadow.concurrency or len(sent) >= shadow.max_per_hour:
            self.counts["skipped"] += 1
            return
        sent.append(at)
        task = asyncio.ensure_future(self._copy(ctx, request, shadow, scope, original))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _copy(
        self, ctx: Context, request: ChatRequest, shadow: Shadow, scope: CacheScope, original: Original
    ) -> None:
        self.counts["sent"] += 1
        # The caller's deadline is over with its answer; a copy has its own.
        ctx = replace(ctx, deadline=Deadline.after(shadow.timeout_s))
        target = Target.parse(shadow.target)
        began = self._clock()
        try:
            with ctx.span("shadow", **{"gen_ai.request.model": target.model}) as (span, inner):
                span.set({"gen_ai.provider.name": target.provider, "interlock.shadow.of": str(original.served.target)})
                meter = self._meter if shadow.charge else free_shadow_meter
                events: list[ChatEvent] = []
                async with (
                    meter(inner, scope) as bill,
                    aclosing(self._ask(inner, request, target, bill, shadow.timeout_s)) as stream,
                ):
                    async for event in stream:
                        events.append(event)
                agrees = _agreement(request, original.events, events)
                if agrees is not None:
                    self.counts["agreed" if agrees else "differed"] += 1
                span.set(
                    {
                        "interlock.shadow.agrees": agrees,
                        "interlock.shadow.chars": len(_text(events)),
                        "interlock.shadow.original_chars": len(_text(original.events)),
                        "interlock.shadow.same_finish": _finish(events) == _finish(original.events),
                        "interlock.shadow.seconds": round(self._clock() - began, 4),
                        "interlock.shadow.original_seconds": round(original.seconds, 4),
                    }
                )
        except InterlockError:
            # The span tells its code.
            self.counts["failed"] += 1
        except Exception as error:  # noqa: BLE001 - a border: nobody waits for this task
            self.counts["failed"] += 1
            _log.error("a shadow call failed: %s", type(error).__name__, exc_info=error)

    async def settled(self) -> None:
        """Wait until no copy is under way."""
        while tasks := [task for group in self._tasks.values() for task in group]:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop what is under way; open bills settle."""
        tasks = [task for group in self._tasks.values() for task in group]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _text(events: Sequence[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _finish(events: Sequence[ChatEvent]) -> str:
    return next((event.reason for event in reversed(events) if isinstance(event, Finish)), "error")


def _agreement(request: ChatRequest, one: Sequence[ChatEvent], other: Sequence[ChatEvent]) -> bool | None:
    """For structured answers: are both the same value? None for prose, which agrees in no way that code can tell."""
    if request.response_schema is None:
        return None
    found_one, value_one = find_json(_text(one))
    found_other, value_other = find_json(_text(other))
    if not (found_one and found_other):
        return False
    return json.dumps(value_one, sort_keys=True) == json.dumps(value_other, sort_keys=True)
