"""Places for lines under way, which all batches of a worker share.

Owners take turns; batches of one owner go in the order in which they were made. A batch that can only wait holds none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

__all__ = ["MOST_BATCHES", "Places"]

MOST_BATCHES = 32
"""Batches that one worker has under way at a time: each holds its input in memory."""
_OF_ONE_OWNER = 4


@dataclass(slots=True)
class _Owner:
    turn: int
    batches: int = 0
    lines: int = 0


class _Asking(NamedTuple):
    owner: str
    made_at: tuple[datetime, str]
    given: asyncio.Future[None]


class Places:
    """Of one worker.

    Args:
        lines: under way at a time, over all batches.
    """

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self._free = lines
        self._turn = 0
        self._batches = 0
        self._owners: dict[str, _Owner] = {}
        self._asking: list[_Asking] = []

    def is_full_for(self, owner: str) -> bool:
        """True when another batch of this owner must wait until one has ended. One of an owner with none never does."""
        mine = self._owners.get(owner)
        return mine is not None and (mine.batches >= _OF_ONE_OWNER or self._batches >= MOST_BATCHES // 2)

    @contextmanager
    def batch(self, owner: str, *, always: bool = False) -> Iterator[bool]:
        """Count a batch meanwhile; gives False, and does not count it, when its owner has enough of them.

        Args:
            always: it only has to be ended.
        """
        if not always and self.is_full_for(owner):
            yield False
            return
        # Who comes goes behind those who wait already, else many small batches would keep others from their turn.
        mine = self._owners.setdefault(owner, _Owner(self._turn))
        mine.batches += 1
        self._batches += 1
        try:
            yield True
        finally:
            self._batches -= 1
            mine.batches -= 1
            if not mine.batches:
                del self._owners[owner]

    async def take(self, owner: str, made_at: tuple[datetime, str], *, within_s: float) -> bool:
        """Wait for a place of a batch that is counted; False when there was none in time.

        Args:
            made_at: creation and id of the batch.
        """
        asking = _Asking(owner, made_at, asyncio.get_running_loop().create_future())
        self._asking.append(asking)
        self._give()
        try:
            await asyncio.wait([asking.given], timeout=within_s)
        except BaseException:
            if asking.given.done():
                self.give_back(owner)
            else:
                self._asking.remove(asking)
            raise
        if not asking.given.done():
            self._asking.remove(asking)
        return asking.given.done()

    def give_back(self, owner: str) -> None:
        """A line is not under way any more."""
        self._owners[owner].lines -= 1
        self._free += 1
        self._give()

    def _give(self) -> None:
        while self._free and self._asking:
            # Among those with equally few lines under way, whose last turn is longest ago.
            first = min(
                self._asking,
                key=lambda each: (self._owners[each.owner].lines, self._owners[each.owner].turn, each.made_at),
            )
            self._asking.remove(first)
            self._turn += 1
            mine = self._owners[first.owner]
            mine.turn = self._turn
            mine.lines += 1
            self._free -= 1
            first.given.set_result(None)
