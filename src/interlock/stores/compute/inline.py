"""Units in this process: what computes lets go of the interpreter's lock, or runs in a thread."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, TypeVar

from interlock.core.errors import InterlockError
from interlock.stores.compute._bench import failure
from interlock.stores.compute._places import Places
from interlock.stores.compute.base import Executor, ExecutorKind, Opening, Work

__all__ = ["InlineExecutor"]

A = TypeVar("A")
R = TypeVar("R")


class InlineExecutor:
    """Does units here. See :class:`~interlock.stores.compute.base.Executor`.

    Args:
        opening: of the one state that all units share.
        workers: units at the same time.
    """

    kind: ExecutorKind = "inline"
    lost = 0

    def __init__(self, opening: Opening, *, workers: int = 2) -> None:
        self.workers = workers
        self._opening = opening
        self._places = Places(workers)
        self._stack = AsyncExitStack()
        self._state: Any = None  # Any: what the opening gives

    async def __aenter__(self) -> Executor:
        self._state = await self._stack.enter_async_context(self._opening())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def run(self, work: Work[A, R], argument: A, *, urgent: bool = False) -> R:
        """See the port."""
        async with self._places.take(urgent=urgent):
            try:
                return await work(self._state, argument)
            except InterlockError:
                raise
            except Exception as error:
                # The border of a unit, as in a worker.
                raise failure(work, error) from error
