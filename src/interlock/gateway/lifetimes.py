"""Which attempts new calls use, and when those that a reload replaced may be closed."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

from interlock.gateway.attempt import Attempts

__all__ = ["Lifetimes"]


class Lifetimes:
    """The present attempts, and earlier ones until the calls that began with them have ended."""

    def __init__(self, attempts: Attempts) -> None:
        self.present = attempts
        self._held: dict[int, int] = {}
        """How many calls are under way that began in a generation."""
        self._retired: list[tuple[int, Attempts]] = []
        """Attempts that no new call uses, with the generation that came after them."""
        self._closing: set[asyncio.Task[None]] = set()
        self.generation = 0
        """Grows with every `replace`."""

    def hold(self) -> AbstractContextManager[None]:
        """Keeps every provider that is in use now open until the block ends."""
        return _Hold(self, self.generation)

    def replace(self, attempts: Attempts) -> None:
        """New calls use `attempts`."""
        old, self.present = self.present, attempts
        self.generation += 1
        self._retired.append((self.generation, old))
        self._close_retired()

    def _close_retired(self) -> None:
        oldest = min((generation for generation, calls in self._held.items() if calls), default=self.generation)
        self._held = {generation: calls for generation, calls in self._held.items() if calls}
        done = [attempts for generation, attempts in self._retired if generation <= oldest]
        self._retired = [entry for entry in self._retired if entry[0] > oldest]
        used = {
            id(provider)
            for attempts in (self.present, *(a for _, a in self._retired))
            for provider in attempts.opened.values()
        }
        unused = {id(p): p for attempts in done for p in attempts.opened.values() if id(p) not in used}
        for provider in unused.values():
            task = asyncio.ensure_future(provider.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every provider that was used."""
        await asyncio.gather(*self._closing)
        for _, attempts in self._retired:
            await attempts.close(but=self.present.opened)
        self._retired.clear()
        await self.present.close()


class _Hold(AbstractContextManager[None]):
    """One call under way. A class, because every call pays for it."""

    __slots__ = ("_began", "_lifetimes")

    def __init__(self, lifetimes: Lifetimes, began: int) -> None:
        self._lifetimes = lifetimes
        self._began = began

    def __enter__(self) -> None:
        held = self._lifetimes._held
        held[self._began] = held.get(self._began, 0) + 1

    def __exit__(self, *_: object) -> None:
        self._lifetimes._held[self._began] -= 1
        if self._lifetimes._retired:
            self._lifetimes._close_retired()
