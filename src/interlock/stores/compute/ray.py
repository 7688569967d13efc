"""Units on a Ray cluster: one that is started here and ends with this process, or one that runs at an address.

An actor a worker. The nodes of a cluster elsewhere need the same version of Interlock with its extras and the model
weights at the same place; nothing is sent to them but units, and nothing is fetched from the internet.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

import anyio
from anyio import to_thread

from interlock.core.errors import Conflict, MissingExtra, Unavailable
from interlock.stores.compute._bench import KEPT, Bench, answer, called, frame, opening_bytes
from interlock.stores.compute._places import Places
from interlock.stores.compute.base import Executor, ExecutorKind, Limits, Opening, Work, WorkerLost, available_cores

__all__ = ["RayExecutor", "RayWorker", "check_ray"]

_log = logging.getLogger("interlock.compute")
_REACH_S = 5.0
_ORPHAN_S = 5
"""How long what was started here waits for a head that was killed."""
_STORE_BYTES = 256 * 1024 * 1024
"""Shared memory of a cluster that is started here: units and answers that wait."""
A = TypeVar("A")
R = TypeVar("R")


class RayWorker:
    """The actor: a bench in a process of Ray's."""

    def __init__(self, opening: bytes, memory_bytes: int, paths: Sequence[str]) -> None:
        # A cluster of this machine inherits the environment, and with it keys and passwords that no unit needs.
        for name in [one for one in os.environ if one not in KEPT and not one.startswith("RAY_")]:
            del os.environ[name]
        sys.path += [path for path in paths if path not in sys.path]
        self._bench = Bench(opening, memory_bytes)

    async def pid(self) -> int:
        """Of its process, on its node."""
        return os.getpid()

    async def do(self, data: bytes) -> bytes:
        """Do one unit."""
        return await self._bench.do(data)

    async def close(self) -> None:
        """Close the state."""
        await self._bench.close()


class RayExecutor:
    """Does units on Ray. See :class:`~interlock.stores.compute.base.Executor`.

    Args:
        opening: of each worker's state.
        workers: actors, each with one CPU of the cluster; as many as this process may use cores when None.
        address: ``HOST:PORT`` of a cluster; empty starts one here that ends with this process.
        limits: of each of them.
    """

    kind: ExecutorKind = "ray"

    def __init__(
        self, opening: Opening, *, workers: int | None = None, address: str = "", limits: Limits | None = None
    ) -> None:
        self.workers = workers or available_cores()
        self.lost = 0
        self._address = address
        self._opening = opening
        self._limits = limits or Limits()
        self._places = Places(self.workers)
        # Any: actor handles have no type.
        self._actors: list[Any] = [None] * self.workers
        self._ray: Any = None
        self._connecting = anyio.Lock()  # two first units must not both connect

    async def __aenter__(self) -> Executor:
        opening_bytes(self._opening)  # what cannot be sent, or used, is told before a cluster is started
        await to_thread.run_sync(check_ray, self._address)
        return self

    async def _connected(self) -> Any:  # Any: the module, whose types need its library
        async with self._connecting:
            if self._ray is None:
                with anyio.CancelScope(shield=True):
                    # It cannot be stopped half-way, and what it started must be known here.
                    self._ray = await to_thread.run_sync(_connections.connect, self._address, self.workers)
            return self._ray

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            for place in range(self.workers):
                self._end(place)
            if self._ray is not None:
                await to_thread.run_sync(_connections.leave)

    async def pids(self) -> list[int]:
        """Process ids of its workers, on their nodes."""
        return [await actor.pid.remote() for actor in self._actors if actor is not None]

    async def run(self, work: Work[A, R], argument: A, *, urgent: bool = False) -> R:
        """See the port."""
        data = frame(work, argument)
        await self._connected()
        why = ""
        for _ in range(self._limits.tries):
            async with self._places.take(urgent=urgent) as place:
                said, why = await self._ask(place, data, called(work))
            if said is not None:
                found: R = answer(said)
                return found
        raise WorkerLost(
            f"{self._limits.tries} workers ended while they did the unit {called(work)!r}; the last one {why}",
            hint="look at the cluster's nodes and their memory (ray status); compute.memory_bytes bounds one worker",
        )

    async def _ask(self, place: int, data: bytes, name: str) -> tuple[bytes | None, str]:
        """The answer, or None and how the worker ended."""
        done = False
        worker, why = f"ray-{place}", f"took longer than {self._limits.unit_s:g} s"
        try:
            with anyio.fail_after(self._limits.unit_s):
                said: bytes = await self._actor(place).do.remote(data)
            done = True
            return said, ""
        except TimeoutError:
            pass
        except self._ray.exceptions.RayError as error:
            why = f"ended with {type(error).__name__}"
        finally:
            if not done:
                self._end(place)
        self.lost += 1
        _log.warning("the worker %s %s while it did %s", worker, why, name)
        return None, f"({worker}) {why}"

    def _actor(self, place: int) -> Any:  # Any: an actor handle
        if self._actors[place] is None:
            # Restarts are ours: a unit is tried again a bounded number of times, wherever it ran.
            kind = self._ray.remote(RayWorker).options(num_cpus=1, max_restarts=0, max_task_retries=0)
            # Nodes elsewhere have folders of their own.
            paths = [] if self._address else [os.path.abspath(path) for path in sys.path if path]
            self._actors[place] = kind.remote(opening_bytes(self._opening), self._limits.memory_bytes, paths)
        return self._actors[place]

    def _end(self, place: int) -> None:
        actor, self._actors[place] = self._actors[place], None
        if actor is not None:
            self._ray.kill(actor, no_restart=True)


class _Connections:
    """A process has one connection to Ray, which several executors may share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two that open at once must not both connect
        self._users = 0
        self._address = ""
        self._is_ours = False

    def connect(self, address: str, cpus: int) -> Any:  # Any: the module, whose types need its library
        ray = _library()
        with self._lock:
            if self._users and address != self._address:
                raise Conflict(
                    "this process is connected to another Ray cluster",
                    hint="one compute.address a process: wait for the other run to end",
                )
            if not self._users:
                self._is_ours = not ray.is_initialized()
                if self._is_ours:
                    _begin(ray, address, cpus)
                self._address = address
            self._users += 1
        return ray

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._is_ours:
                _library().shutdown()


_connections = _Connections()


def _library() -> Any:  # Any: as above
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise _missing() from error
    return ray


def _missing() -> MissingExtra:
    return MissingExtra(
        "the executor 'ray' is chosen, and its library is not installed",
        param="compute.executor",
        hint="pip install 'interlock[ray]', or choose processes",
    )


def _begin(ray: Any, address: str, cpus: int) -> None:  # Any: as above
    # Any: arguments of several types.
    own: dict[str, Any] = {
        "num_cpus": cpus,
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
        "_system_config": {"gcs_rpc_server_reconnect_timeout_s": _ORPHAN_S},
    }
    # It tells of signals and threads on standard error, which belongs to whoever asked for the ingest.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            **({} if address else own),
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise _away(address) from error


def check_ray(address: str) -> None:
    """Whether Ray can be used: its library is here, and a cluster answers at `address` unless that is empty. Network.

    Raises: MissingExtra, Unavailable (``ray_away``).
    """
    if importlib.util.find_spec("ray") is None:
        raise _missing()
    if not address:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, ValueError) as error:
        raise _away(address) from error


def _away(address: str) -> Unavailable:
    where = f"no Ray cluster answers at {address!r}" if address else "no Ray cluster can be started on this machine"
    return Unavailable(
        where,
        param="compute.address",
        code="ray_away",
        hint="start it with: ray start --head, or choose compute.executor: processes",
    )
