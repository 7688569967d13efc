"""Turns at a provider that serves a limited number of calls at once: a bounded queue, by priority, with deadlines."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from interlock.core.errors import LimitExceeded

__all__ = ["Priority", "Turns"]

Priority = Literal["low", "normal", "high"]
_RANK: dict[str, int] = {"high": 0, "normal": 1, "low": 2}


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    number: int
    turn: asyncio.Future[None] = field(compare=False)


class Turns:
    """Lets `limit` callers in at once; others wait in order of priority, then of arrival.

    Args:
        limit: 0 lets everybody in.
        queue: how many may wait; when it is full, the newest caller of the lowest priority is turned away.
        timeout_s: longest wait.
    """

    def __init__(self, name: str, *, limit: int, queue: int, timeout_s: float) -> None:
        self._name = name
        self._limit = limit
        self._queue = queue
        self._timeout_s = timeout_s
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count()
        self.busy = 0
        self.shed = 0

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, priority: Priority, remaining_s: float) -> AsyncIterator[None]:
        """Hold one of the turns. Raises: LimitExceeded (`overloaded`): the queue is full or the wait too long."""
        if self._limit:
            await self._enter(priority, remaining_s)
        else:
            self.busy += 1
        try:
            yield
        finally:
            self._leave()

    def try_enter(self) -> bool:
        """Take a turn when one is free and nobody waits; `leave` gives it back."""
        if self._limit and (self.busy >= self._limit or self._waiting):
            return False
        self.busy += 1
        return True

    def leave(self) -> None:
        """Give a turn back that `try_enter` took."""
        self._leave()

    async def _enter(self, priority: Priority, remaining_s: float) -> None:
        if self.busy < self._limit and not self._waiting:
            self.busy += 1
            return
        waiter = _Waiter(_RANK[priority], next(self._numbers), asyncio.get_running_loop().create_future())
        if len(self._waiting) >= self._queue:
            worst = max(self._waiting, default=waiter)
            if worst <= waiter or worst.rank == waiter.rank:
                raise self._overloaded("its queue is full")
            self._waiting.remove(worst)
            heapq.heapify(self._waiting)
            worst.turn.set_exception(self._overloaded("its queue is full"))
        heapq.heappush(self._waiting, waiter)
        try:
            async with asyncio.timeout(min(self._timeout_s, remaining_s)):
                await waiter.turn
        except TimeoutError as error:
            self._forget(waiter)
            raise self._overloaded("the wait for a turn was too long") from error
        except BaseException:
            self._forget(waiter)
            raise

    def _forget(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            heapq.heapify(self._waiting)
        elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
            # The turn was given in the same moment: pass it on.
            self._leave()

    def _leave(self) -> None:
        while self._waiting:
            waiter = heapq.heappop(self._waiting)
            if not waiter.turn.done():
                waiter.turn.set_result(None)
                return
        self.busy -= 1

    def _overloaded(self, why: str) -> LimitExceeded:
        self.shed += 1
        return LimitExceeded(
            f"provider {self._name!r} is busy: {why}",
            code="overloaded",
            retry_after_s=max(1.0, self._timeout_s / 2),
            hint="try again later, or raise gateway.providers.*.max_concurrency",
        )
