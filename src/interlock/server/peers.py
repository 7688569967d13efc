"""The worker processes of one server: what each knows of itself, and metrics of all of them from any of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["ENVIRONMENT", "Peers", "Place", "listen", "place_of_this_process"]

ENVIRONMENT = "INTERLOCK_WORKER_PLACE"
"""Variable by which the parent tells a worker its place. Not a setting."""
_ANSWER_S = 2.0
_MOST_BYTES = 16_000_000
_log = logging.getLogger("interlock.workers")


class Place(msgspec.Struct, frozen=True):
    """What the parent tells a worker."""

    number: int
    """From 1; the first one also runs jobs."""
    count: int
    restarts: int
    """How often the parent started this number again."""
    host: str
    port: int
    folder: str
    """Folder of the sockets by which workers ask each other."""
    control: int
    """Number of an open socket: we write one line when we are ready, and its end is the parent's end."""

    def tell(self, facts: Mapping[str, Any]) -> None:  # Any: JSON
        """Say to the parent that requests are taken."""
        os.write(self.control, json.dumps(facts).encode() + b"\n")

    @asynccontextmanager
    async def following_the_parent(self) -> AsyncIterator[None]:
        """Stop gracefully when the parent is gone: nobody would restart us or pass signals on."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            with contextlib.suppress(BlockingIOError):
                if not os.read(self.control, 64):
                    loop.remove_reader(self.control)
                    _log.warning("the parent process is gone; this worker stops")
                    os.kill(os.getpid(), signal.SIGTERM)

        os.set_blocking(self.control, False)
        loop.add_reader(self.control, look)
        try:
            yield
        finally:
            loop.remove_reader(self.control)


def place_of_this_process() -> Place | None:
    """Our place among workers; None for a server that is a single process. Tells once."""
    told = os.environ.pop(ENVIRONMENT, None)
    if told is None:
        return None
    place = msgspec.json.decode(told, type=Place)
    # What this process starts must not hold on to it.
    os.set_inheritable(place.control, False)
    return place


def listen(host: str, port: int, *, shared: bool = True) -> list[socket.socket]:
    """Sockets bound to every address of `host`; with `shared`, other workers may bind to the same.

    Not listening yet: the system hands connections to listening sockets only. Raises: OSError.
    """
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # A free port that was chosen for the first address is taken for the others as well.
            chosen = bound[0].getsockname()[1] if len(bound) > 1 else port
            one.bind((address[0], chosen, *address[2:]))
            one.setblocking(False)
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


class _Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


class _Family(msgspec.Struct, frozen=True):
    name: str
    documentation: str
    type: str
    unit: str
    samples: list[_Sample]


class Peers:
    """The workers of this server, seen from one of them.

    Args:
        registry: gives the metrics of this worker.
    """

    def __init__(self, place: Place, registry: Callable[[], CollectorRegistry]) -> None:
        self._place = place
        self._registry = registry

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Tell the other workers our metrics when they ask."""
        path = self._path(self._place.number)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def metrics(self) -> bytes:
        """Prometheus text of all workers; every sample has the label `worker`.

        A worker that does not answer within two seconds is left out, and its `interlock_worker_up` is 0.
        """
        from prometheus_client.metrics_core import Metric

        from interlock.server.metrics import text

        numbers = range(1, self._place.count + 1)
        told = await asyncio.gather(*[self._ask(number) for number in numbers])
        merged: dict[str, Metric] = {}
        up = Metric("interlock_worker_up", "1 for a worker that answers", "gauge")
        restarts = Metric("interlock_worker_restarts", "Times that this worker was started again", "gauge")
        for number, found in zip(numbers, told, strict=True):
            worker = {"worker": str(number)}
            up.add_sample(up.name, worker, float(found is not None))
            if found is None:
                continue
            restarts.add_sample(restarts.name, worker, found[0])
            for family in found[1]:
                metric = merged.get(family.name)
                if metric is None:
                    metric = merged[family.name] = Metric(family.name, family.documentation, family.type, family.unit)
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, **worker}, sample.value)
        return text([*merged.values(), up, restarts])

    def _own(self) -> tuple[int, list[_Family]]:
        families = [
            _Family(
                metric.name,
                metric.documentation,
                metric.type,
                metric.unit,
                # When a counter began says nothing that `interlock_worker_restarts` does not.
                [_Sample(s.name, dict(s.labels), s.value) for s in metric.samples if not s.name.endswith("_created")],
            )
            for metric in self._registry().collect()
        ]
        return self._place.restarts, families

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.msgpack.encode(self._own()))
            async with asyncio.timeout(_ANSWER_S):
                await writer.drain()
        except (OSError, TimeoutError):
            _log.warning("another worker did not take our metrics")
        finally:
            writer.close()

    async def _ask(self, number: int) -> tuple[int, list[_Family]] | None:
        if number == self._place.number:
            return self._own()
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    said = await reader.read(-1)
                finally:
                    writer.close()
            if len(said) > _MOST_BYTES:
                return None
            return msgspec.msgpack.decode(said, type=tuple[int, list[_Family]])
        except (OSError, TimeoutError, msgspec.DecodeError):
            return None

    def _path(self, number: int) -> Path:
        return Path(self._place.folder) / f"{number}.sock"
