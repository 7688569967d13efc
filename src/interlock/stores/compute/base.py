"""Where heavy work is done: in this process, in worker processes, or on a Ray cluster.

A *unit* is a function of a module's top level and one argument, both picklable. Each worker opens its *state* once
(a model, a parser) and hands it to every unit it does. Units may end in any order; `run` gives the result to whoever
asked, so a caller that wants an order keeps the order it asked in.

Whatever happens to the process that opened an executor, `kill -9` included, its workers end.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import anyio

from interlock.core.errors import InterlockError, Unavailable

__all__ = [
    "Executor",
    "ExecutorKind",
    "Indexed",
    "Limits",
    "Opening",
    "Work",
    "WorkFailed",
    "WorkerLost",
    "available_cores",
    "results",
]

ExecutorKind = Literal["inline", "processes", "ray"]
A = TypeVar("A")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Any: the state is what the opening gives; pickling is by reference, so types do not travel with it.
Work = Callable[[Any, A], Awaitable[R]]
"""A unit's function: of a worker's state and an argument."""


class Opening(Protocol):
    """Opens a worker's state. Picklable."""

    def __call__(self) -> AbstractAsyncContextManager[Any]:  # Any: as above
        """Give the state; closed when the worker ends in order."""


class WorkFailed(InterlockError):
    """A unit raised what is no error of ours: a bug, told by its type and never by its text."""

    code = "work_failed"


class WorkerLost(Unavailable):
    """Workers ended again and again while they did the same unit."""

    code = "worker_lost"
    retryable = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every worker."""

    memory_bytes: int = 4096 * 1024 * 1024
    """Data of one worker; a unit that wants more fails with `worker_memory`. Not for `inline`."""
    unit_s: float = 900.0
    """A worker that takes longer for one unit is killed, as if it had died."""
    tries: int = 3
    """Times a unit is begun before `WorkerLost`."""


@runtime_checkable
class Executor(Protocol):
    """Does units. ``async with`` it: leaving it, by whatever way, ends its workers."""

    @property
    def kind(self) -> ExecutorKind:
        """What it is called in settings."""

    @property
    def workers(self) -> int:
        """Units that are done at the same time; more wait in `run`."""

    @property
    def lost(self) -> int:
        """Workers that ended while they did a unit."""

    async def run(self, work: Work[A, R], argument: A, *, urgent: bool = False) -> R:
        """Do one unit, when a worker is free. Cancelling it frees the worker at once.

        Args:
            work: a function of a module's top level.
            argument: picklable, as is what it gives.
            urgent: before others that wait.

        Raises: whatever `InterlockError` the unit raises; WorkFailed: it raised something else; WorkerLost: its workers
        ended; Unavailable (``worker_memory``); Misconfigured: the state cannot be sent to workers.
        """

    async def __aenter__(self) -> Executor:
        """Open it; workers start when the first unit wants them."""

    async def __aexit__(self, *error: object) -> None:
        """End its workers."""


class Indexed(NamedTuple):
    """One of several results."""

    number: int
    """Which argument it belongs to, from 0."""
    # Any: as the unit gave it.
    value: Any


async def results(
    executor: Executor, work: Work[A, R], arguments: Iterable[A], *, in_flight: int | None = None
) -> AsyncGenerator[Indexed, None]:
    """Do many units, each result as soon as it is there. Close it (``aclosing``) to stop.

    Args:
        executor: does them.
        work: of every unit.
        arguments: drawn as room gets free: an endless one takes no memory.
        in_flight: units that are under way or done and not taken yet; twice the workers when None.

    Raises: the first error of a unit; the others are cancelled.
    """
    room = max(1, in_flight or 2 * executor.workers)
    done: list[Indexed] = []
    failed: list[Exception] = []
    changed = anyio.Event()
    under_way = 0

    async def one(index: int, argument: A) -> None:
        nonlocal under_way
        try:
            done.append(Indexed(index, await executor.run(work, argument)))
        except InterlockError as error:
            failed.append(error)
        finally:
            under_way -= 1
            changed.set()

    async with anyio.create_task_group() as group:
        waiting = iter(enumerate(arguments))
        is_drawn = False
        while True:
            while not is_drawn and not failed and under_way + len(done) < room:
                following = next(waiting, None)
                is_drawn = following is None
                if following is not None:
                    under_way += 1
                    group.start_soon(one, *following)
            if failed:
                group.cancel_scope.cancel()
                break
            if done:
                try:
                    yield done.pop(0)
                except GeneratorExit:
                    # The group would wrap it, and a generator that is closed must end by itself.
                    group.cancel_scope.cancel()
                    return
                continue
            if not under_way:
                break
            await changed.wait()
            changed = anyio.Event()
    if failed:
        raise failed[0]


def available_cores() -> int:
    """CPU cores this process may use: of its affinity, and of its control group's share; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):
        pass  # no control group of version 2 here
    return max(1, cores)
