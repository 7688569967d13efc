"""Which worker is free, and who is next."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

__all__ = ["Places"]


@dataclass(order=True)
class _Waiting:
    order: tuple[bool, int]
    granted: anyio.Event = field(default_factory=anyio.Event, compare=False)
    place: int | None = field(default=None, compare=False)
    gone: bool = field(default=False, compare=False)


class Places:
    """Numbered places, each held by one at a time; those that are urgent come first, then who came first."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))
        self._queue: list[_Waiting] = []
        self._arrivals = 0

    @asynccontextmanager
    async def take(self, *, urgent: bool) -> AsyncIterator[int]:
        """Wait for a place; gives its number."""
        place = await self._wait(urgent=urgent)
        try:
            yield place
        finally:
            self._give(place)

    async def _wait(self, *, urgent: bool) -> int:
        if self._free:
            heapq.heapify(self._free)
            return heapq.heappop(self._free)
        self._arrivals += 1
        waiting = _Waiting((not urgent, self._arrivals))
        heapq.heappush(self._queue, waiting)
        try:
            await waiting.granted.wait()
        except BaseException:
            waiting.gone = True
            if waiting.place is not None:
                self._give(waiting.place)
            raise
        assert waiting.place is not None
        return waiting.place

    def _give(self, place: int) -> None:
        while self._queue:
            following = heapq.heappop(self._queue)
            if not following.gone:
                following.place = place
                following.granted.set()
                return
        self._free.append(place)
