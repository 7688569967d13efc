"""What a run does beside reading: units under way, and batches on their way into the stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

__all__ = ["Beside", "Conveyor", "Promise"]

T = TypeVar("T")
B = TypeVar("B")


class Promise(Generic[T]):
    """What a task gives, once it is done."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._value: list[T] = []
        self._error: Exception | None = None

    async def get(self) -> T:
        """Wait for it. Raises: what the task raised."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]

    async def _fill(self, work: Callable[[], Awaitable[T]]) -> None:
        try:
            self._value.append(await work())
        except Exception as error:  # noqa: BLE001 - it is raised where the value is asked for
            self._error = error
        finally:
            self._done.set()


class Beside:
    """Tasks of one run; ``async with`` it. Leaving it in order waits for them, leaving it with an error ends them.

    An error leaves it as it is, and is not put into a group.
    """

    def __init__(self) -> None:
        self._group: TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> Beside:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    def start(self, work: Callable[[], Awaitable[T]]) -> Promise[T]:
        """Begin a task."""
        promise: Promise[T] = Promise()
        self._group.start_soon(promise._fill, work)
        return promise


class Conveyor(Generic[B, T]):
    """Batches that are made beside each other, and stored one at a time in the order they came.

    Args:
        beside: owns the tasks.
        make: the slow part, of any number at once.
        store: gets what was made, in order.
        room: batches under way; more wait in `put`.
    """

    def __init__(
        self,
        beside: Beside,
        *,
        make: Callable[[B], Awaitable[T]],
        store: Callable[[T], Awaitable[None]],
        room: int,
    ) -> None:
        self._beside = beside
        self._make = make
        self._store = store
        self._room = max(1, room)
        self._under_way: list[Promise[None]] = []

    async def put(self, batch: B) -> None:
        """Send a batch on its way. Raises: what an earlier one failed with."""
        while len(self._under_way) >= self._room:
            await self._under_way[0].get()
            del self._under_way[0]
        before = self._under_way[-1] if self._under_way else None

        async def take() -> None:
            made = await self._make(batch)
            if before is not None:
                await before.get()
            await self._store(made)

        self._under_way.append(self._beside.start(take))

    async def drain(self) -> None:
        """Wait until all are stored. Raises: what one failed with; those after it are not stored."""
        while self._under_way:
            await self._under_way[0].get()
            del self._under_way[0]
