"""The serving process: uvicorn on uvloop, one port, streams finish before it goes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from interlock.app import App
from interlock.core.errors import Misconfigured
from interlock.server.asgi import build_asgi
from interlock.server.lane.protocol import GuardedProtocol, lane_protocol
from interlock.server.lane.service import FastLane
from interlock.server.peers import Peers, Place, listen
from interlock.server.reloading import Reloader

__all__ = ["serve"]


class _Server(uvicorn.Server):
    """Tells the application at the first signal that it is stopping, so that readiness turns away new callers."""

    def __init__(self, config: uvicorn.Config, asgi: Starlette) -> None:
        super().__init__(config)
        self._asgi = asgi

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn does, ten times a second; each second every connection looks at its clock."""
        if counter % 10 == 0:
            at = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, GuardedProtocol):
                    connection.look(at)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but without raising the signal again afterwards: a SIGTERM would end the process there,
        before the App has written its queued audit lines and spans.
        """
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # uvicorn's list is of sockets
        self._asgi.state.stopping = True
        await super().shutdown(sockets)  # type: ignore[arg-type]


async def serve(
    app: App,
    *,
    host: str,
    port: int,
    extra: Sequence[BaseRoute] = (),
    on_ready: Callable[[str], None] | None = None,
    fast_lane: bool = True,
    place: Place | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; open streams get `server.shutdown_s` to finish.

    Args:
        on_ready: called once with the address when requests are taken.
        fast_lane: forward plain model calls without the application.
        place: among the workers that share the address.

    Raises: Misconfigured: the address is taken or not ours.
    """
    asgi = build_asgi(app, extra)
    lane = None
    if fast_lane:
        lane = FastLane(app, count=asgi.state.tally.count, access_log=asgi.state.access_log)
    config = uvicorn.Config(
        asgi,
        host=host,
        port=port,
        loop="none",
        http=GuardedProtocol if lane is None else lane_protocol(lane),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(app.workspace.settings.server.shutdown_s),
        timeout_keep_alive=20,
        h11_max_incomplete_event_size=64 * 1024,
        # Identity must not come from a header that anybody can send.
        proxy_headers=False,
        # We have no WebSockets; the library would be imported for nothing.
        ws="none",
    )
    server = _Server(config, asgi)
    # What has been loaded stays: a collector that walks through it again and again takes more than a call costs. Of
    # 90,000 objects some hundred could be collected before, and looking for them takes 50 ms.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    async with AsyncExitStack() as stack:
        reloader = Reloader(app, server)

        def ready(url: str) -> None:
            # Signals are taken before anybody is told where to send them.
            stack.enter_context(reloader.listening(url))
            if on_ready is not None:
                on_ready(url)

        sockets = None
        if place is not None:
            asgi.state.peers = Peers(place, asgi.state.metrics)
            await stack.enter_async_context(asgi.state.peers.answering())
            await stack.enter_async_context(place.following_the_parent())
            sockets = listen(place.host, place.port)
        await stack.enter_async_context(_announcing(server, host, ready))
        try:
            await server.serve(sockets)
        except SystemExit as error:
            # uvicorn exits by itself when it cannot bind.
            raise Misconfigured(
                f"{host}:{port} cannot be listened on",
                param="server.port",
                hint="another process uses it? try: interlock up --port 0",
            ) from error
        finally:
            if lane is not None:
                lane.close()


@asynccontextmanager
async def _announcing(server: uvicorn.Server, host: str, on_ready: Callable[[str], None] | None) -> AsyncIterator[None]:
    async def announce() -> None:
        # uvicorn tells that it listens by this flag alone.
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if on_ready is not None:
            bound = server.servers[0].sockets[0].getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            on_ready(f"http://{shown}:{bound}")

    task = asyncio.ensure_future(announce())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
