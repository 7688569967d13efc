"""Several processes that serve one port: a parent that starts them, starts again what dies, and passes signals on.

The parent opens no store and serves nothing. Each worker listens on a socket of its own for the same address
(`SO_REUSEPORT`), so the system spreads connections among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from interlock.core.errors import Misconfigured
from interlock.server.peers import ENVIRONMENT, Place, listen

__all__ = ["Supervisor", "Worker"]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_SETTLED_S = 30.0
"""A worker that lived so long is started again at once."""
_GRACE_S = 15.0
_log = logging.getLogger("interlock.workers")


@dataclass(slots=True)
class Worker:
    """One place among the workers, whichever process holds it now."""

    number: int
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    starts: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """What it said when it was ready."""


class Supervisor:
    """Runs `count` workers until a signal ends them.

    Args:
        command: of one worker; it finds its place by `interlock.server.peers.place_of_this_process`.
        shutdown_s: how long a worker may take to finish its streams.
    """

    def __init__(self, command: Sequence[str], *, count: int, host: str, port: int, shutdown_s: float) -> None:
        self._command = command
        self._host = host
        self._port = port
        self._shutdown_s = shutdown_s
        self._workers = [Worker(number) for number in range(1, count + 1)]
        self._stopping = asyncio.Event()
        self._code = 0
        self._folder = ""
        self._had_terminal = sys.stdin is not None and _is_terminal()

    async def run(self, on_ready: Callable[[Mapping[str, Any]], None]) -> int:
        """Serve; gives the exit code: 0 after a signal, else that of the worker that could not start.

        Args:
            on_ready: called once, when every worker takes requests, with what the first one said.

        Raises: Misconfigured: the address is taken or not ours.
        """
        reserved = self._reserve()
        self._folder = tempfile.mkdtemp(prefix="interlock-")
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._stop, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        keepers: list[asyncio.Task[None]] = []
        try:
            # The first brings the database up to date and meets what is misconfigured; the others follow.
            for group in (self._workers[:1], self._workers[1:]):
                keepers += [asyncio.ensure_future(self._keep(worker)) for worker in group]
                await self._first_of(*(worker.ready.wait() for worker in group))
            if not self._stopping.is_set():
                on_ready(self._workers[0].facts)
            await self._stopping.wait()
            await self._end()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._kill()
            for one in reserved:
                one.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._code

    def _reserve(self) -> list[socket.socket]:
        """Keep the address for as long as we run. Raises: Misconfigured."""
        try:
            # Alone first: sharing would also succeed beside another Interlock of ours.
            alone = listen(self._host, self._port, shared=False)
            self._port = alone[0].getsockname()[1]
            for one in alone:
                one.close()
            return listen(self._host, self._port)
        except OSError as error:
            raise Misconfigured(
                f"{self._host}:{self._port} cannot be listened on",
                param="server.port",
                hint="another process uses it? try: interlock up --port 0",
            ) from error

    async def _keep(self, worker: Worker) -> None:
        """Start a worker, and again whenever it ends, until we are stopping."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._once(worker)
            if self._stopping.is_set():
                return
            if not worker.ready.is_set() and not any(one.ready.is_set() for one in self._workers):
                # Nobody serves and this one cannot start: it said why.
                self._fail(code)
                return
            worker.ready.clear()
            if time.monotonic() - began > _SETTLED_S:
                pause_s = _FIRST_PAUSE_S
            _log.error("worker %d ended with %s; it starts again in %.1f s", worker.number, _named(code), pause_s)
            await self._first_of(asyncio.sleep(pause_s))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _once(self, worker: Worker) -> int:
        """One life of a worker; gives its exit code."""
        ours, theirs = socket.socketpair()
        with ours:
            place = Place(
                worker.number,
                len(self._workers),
                worker.starts,
                self._host,
                self._port,
                self._folder,
                theirs.fileno(),
            )
            worker.starts += 1
            with theirs:
                worker.process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, ENVIRONMENT: msgspec.json.encode(place).decode()},
                    # Signals of the terminal come to us alone, and we pass them on once.
                    start_new_session=True,
                )
            hearing = asyncio.ensure_future(self._hear(worker, ours))
            try:
                if self._stopping.is_set():
                    self._signal(worker, signal.SIGTERM)
                return await worker.process.wait()
            finally:
                hearing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await hearing

    async def _hear(self, worker: Worker, ours: socket.socket) -> None:
        ours.setblocking(False)
        said = b""
        loop = asyncio.get_running_loop()
        while not said.endswith(b"\n"):
            more = await loop.sock_recv(ours, 65_536)
            if not more:
                return
            said += more
        worker.facts = json.loads(said)
        worker.ready.set()

    # Any: whatever is waited for.
    async def _first_of(self, *waits: Any) -> None:
        """Wait for all of `waits`, or for the end."""
        everything = asyncio.ensure_future(asyncio.gather(*waits))
        end = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([everything, end], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (everything, end):
                task.cancel()
            await asyncio.gather(everything, end, return_exceptions=True)

    def _fail(self, code: int) -> None:
        self._code = code if code > 0 else 1
        self._stopping.set()

    def _stop(self, by: signal.Signals) -> None:
        self._stopping.set()
        # A second Ctrl-C reaches them as a second one: they then wait for no stream.
        for worker in self._workers:
            self._signal(worker, by)

    def _hung_up(self) -> None:
        if self._had_terminal and not _is_terminal():
            self._stop(signal.SIGTERM)
            return
        for worker in self._workers:
            if worker.ready.is_set():
                self._signal(worker, signal.SIGHUP)

    def _signal(self, worker: Worker, number: signal.Signals) -> None:
        if worker.process is not None and worker.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    async def _end(self) -> None:
        for worker in self._workers:
            self._signal(worker, signal.SIGTERM)
        alive = [asyncio.ensure_future(worker.process.wait()) for worker in self._workers if worker.process is not None]
        if alive:
            _, late = await asyncio.wait(alive, timeout=self._shutdown_s + _GRACE_S)
            for task in late:
                task.cancel()

    async def _kill(self) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                self._signal(worker, signal.SIGKILL)
                await worker.process.wait()


def _named(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _is_terminal() -> bool:
    try:
        return os.isatty(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False
