"""What a worker does, wherever it runs: its state, and one unit after the other, as bytes in and bytes out.

Both sides are the same program and trust each other: the bytes are pickles.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from interlock.core.errors import InterlockError, Misconfigured, Unavailable
from interlock.stores.compute.base import Opening, Work, WorkFailed

__all__ = ["KEPT", "Bench", "Frame", "answer", "called", "failure", "frame", "opening_bytes", "surroundings"]

KEPT = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
"""Variables a worker has. The others may hold keys and passwords, and no unit needs them."""


class Frame(NamedTuple):
    """One unit as it travels."""

    # Any: see `base.py`.
    work: Work[Any, Any]
    argument: Any


# Any: whatever is sent.
def frame(work: Work[Any, Any], argument: Any) -> bytes:
    """A unit as bytes. Raises: Misconfigured: it cannot be sent."""
    return _pickled(Frame(work, argument), called(work))


def _pickled(value: object, what: str) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:
        # Pickling calls code of whatever is in it: no error of it is out of the question.
        raise Misconfigured(
            f"{what!r} cannot be sent to workers: {type(error).__name__}",
            param="compute.executor",
            hint="choose compute.executor: inline, or make it a plug-in that workers open themselves",
            code="not_picklable",
        ) from error


def opening_bytes(opening: Opening) -> bytes:
    """An opening as bytes. Raises: Misconfigured: it cannot be sent."""
    return _pickled(opening, type(opening).__name__)


def answer(data: bytes) -> Any:  # Any: as the unit gave it
    """What a worker said. Raises: the error it told."""
    is_well, value = pickle.loads(data)  # noqa: S301 - from a worker of ours
    if not is_well:
        raise value
    return value


def called(work: Work[Any, Any]) -> str:
    """A unit's name, for messages."""
    return str(getattr(work, "__qualname__", type(work).__name__))


def failure(work: Work[Any, Any], error: Exception) -> InterlockError:
    """What is told of an error that is not ours; its text may quote a document."""
    if isinstance(error, MemoryError):
        return Unavailable(
            f"the unit {called(work)!r} needs more memory than a worker may use",
            code="worker_memory",
            param="compute.memory_bytes",
            hint="raise compute.memory_bytes",
        )
    return WorkFailed(f"the unit {called(work)!r} failed with {type(error).__name__}")


def surroundings() -> dict[str, str]:
    """The environment of a worker process."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Bench:
    """One worker's state, opened by its first unit.

    Args:
        opening: pickled.
        memory_bytes: of data; 0 sets no bound.
    """

    def __init__(self, opening: bytes, memory_bytes: int) -> None:
        if memory_bytes:
            _bound(resource.RLIMIT_DATA, memory_bytes)
            _bound(resource.RLIMIT_CORE, 0)
        self._opening = opening
        self._stack = AsyncExitStack()
        self._state: Any = None
        self._is_open = False

    async def do(self, data: bytes) -> bytes:
        """Do one unit; gives what `answer` reads. Errors are told, not raised."""
        unit: Frame | None = None
        try:
            unit = pickle.loads(data)  # noqa: S301 - from the process that started this one
            if not self._is_open:
                opening: Opening = pickle.loads(self._opening)  # noqa: S301 - as above
                self._state = await self._stack.enter_async_context(opening())
                self._is_open = True
            return pickle.dumps((True, await unit.work(self._state, unit.argument)), protocol=5)
        except InterlockError as error:
            return pickle.dumps((False, error))
        except Exception as error:  # noqa: BLE001 - the border of a unit: its bug is one failed unit
            return pickle.dumps((False, failure(unit.work if unit else _unread, error)))

    async def close(self) -> None:
        """Close the state."""
        await self._stack.aclose()


async def _unread(state: object, argument: object) -> None:
    """Stands for a unit that could not be read."""


def _bound(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
