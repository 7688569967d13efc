"""Units in worker processes of this machine, spoken to through pipes. Nothing is forked: libraries have threads."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from typing import TypeVar

import anyio
from anyio.abc import Process

from interlock.stores.compute._bench import answer, called, frame, opening_bytes, surroundings
from interlock.stores.compute._places import Places
from interlock.stores.compute.base import Executor, ExecutorKind, Limits, Opening, Work, WorkerLost, available_cores
from interlock.stores.compute.worker import HEADER

__all__ = ["ProcessExecutor"]

_log = logging.getLogger("interlock.compute")
_END_S = 2.0
_BROKEN = (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError)
A = TypeVar("A")
R = TypeVar("R")


class ProcessExecutor:
    """Does units in processes. See :class:`~interlock.stores.compute.base.Executor`.

    Workers have no secrets in their environment, and start when the first unit wants one.

    Args:
        opening: of each worker's state.
        workers: processes; as many as this process may use cores when None.
        limits: of each of them.
    """

    kind: ExecutorKind = "processes"

    def __init__(self, opening: Opening, *, workers: int | None = None, limits: Limits | None = None) -> None:
        self.workers = workers or available_cores()
        self.lost = 0
        self._opening = opening
        self._limits = limits or Limits()
        self._places = Places(self.workers)
        self._processes: list[Process | None] = [None] * self.workers

    async def __aenter__(self) -> Executor:
        return self

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            for process in self._processes:
                if process is not None and process.stdin is not None:
                    await process.stdin.aclose()
            for place in range(self.workers):
                await self._stop(place, wait_s=_END_S)

    def pids(self) -> list[int]:
        """Process ids of workers that run now."""
        return [process.pid for process in self._processes if process is not None and process.returncode is None]

    async def run(self, work: Work[A, R], argument: A, *, urgent: bool = False) -> R:
        """See the port."""
        data = frame(work, argument)
        why = ""
        for _ in range(self._limits.tries):
            async with self._places.take(urgent=urgent) as place:
                said, why = await self._ask(place, data, called(work))
            if said is not None:
                found: R = answer(said)
                return found
        raise WorkerLost(
            f"{self._limits.tries} workers ended while they did the unit {called(work)!r}; the last one {why}",
            hint="look at the machine's memory; compute.memory_bytes bounds one worker",
        )

    async def _ask(self, place: int, data: bytes, name: str) -> tuple[bytes | None, str]:
        """The answer, or None and how the worker ended."""
        done = False
        worker, why = f"processes-{place}", f"took longer than {self._limits.unit_s:g} s"
        try:
            with anyio.fail_after(self._limits.unit_s):
                process = await self._running(place)
                said = await _exchange(process, data)
            done = True
            return said, ""
        except TimeoutError:
            pass
        except _BROKEN:
            dead = self._processes[place]
            code = None
            if dead is not None:
                with anyio.move_on_after(_END_S):
                    code = await dead.wait()
            why = f"ended with {code}"
        finally:
            if not done:
                # It may still be busy with this unit, or dead.
                await self._stop(place, wait_s=0.0)
        self.lost += 1
        _log.warning("the worker %s %s while it did %s", worker, why, name)
        return None, f"({worker}) {why}"

    async def _running(self, place: int) -> Process:
        process = self._processes[place]
        if process is not None and process.returncode is None:
            return process
        opening = opening_bytes(self._opening)
        process = await anyio.open_process(
            [sys.executable, "-m", "interlock.stores.compute.worker", str(os.getpid())],
            stderr=subprocess.DEVNULL,
            env=surroundings(),
        )
        self._processes[place] = process
        first = pickle.dumps((opening, self._limits.memory_bytes))
        assert process.stdin is not None
        await process.stdin.send(HEADER.pack(len(first)) + first)
        return process

    async def _stop(self, place: int, *, wait_s: float) -> None:
        process, self._processes[place] = self._processes[place], None
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            if wait_s:
                with anyio.move_on_after(wait_s):
                    await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def _exchange(process: Process, data: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.send(HEADER.pack(len(data)))
    await process.stdin.send(data)
    received = bytearray()
    end: int | None = None
    while end is None or len(received) < end:
        received += await process.stdout.receive(1 << 20)
        if end is None and len(received) >= HEADER.size:
            end = HEADER.size + int(HEADER.unpack(received[: HEADER.size])[0])
    return bytes(received[HEADER.size : end])
