"""Blocking work off the event loop, on a small pool of threads of its own.

A pool of our own (and not the loop's shared one) bounds how many connections a store can hold, works from any event
loop of the process, and lets a cancelled caller leave while the statement it started finishes in peace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from interlock.core.errors import Unavailable

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """At most `size` blocking calls at a time; threads start when first needed.

    Args:
        size: number of threads.
        name: prefix of the threads' names, for people who look at a stack dump.
    """

    def __init__(self, size: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix=name)

    async def run(self, fn: Callable[[], T]) -> T:
        """Run `fn` in a thread and give back what it returns. Cancelling stops the waiting, not the work.

        Raises: Unavailable: after `close`; and whatever `fn` raises.
        """
        try:
            future = self._pool.submit(fn)
        except RuntimeError as error:
            raise Unavailable("the store is closed", retryable=False) from error
        return await asyncio.wrap_future(future)

    def start(self, fn: Callable[[], object]) -> None:
        """Run `fn` some time; nobody waits for it, and what it raises is nobody's."""
        with suppress(RuntimeError):  # closed
            self._pool.submit(fn)

    async def close(self) -> None:
        """Return once everything submitted has finished."""
        await asyncio.to_thread(self._pool.shutdown)
