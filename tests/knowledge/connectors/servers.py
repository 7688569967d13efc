"""Servers of the tests: a Starlette app on a free loopback port, that says 429 and 401 when told to."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

from interlock.testing.connectors import SECRET, World


@asynccontextmanager
async def serving(app):
    """The app's address; it is stopped at the end."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", date_header=False))
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


@dataclass
class HttpWorld(World):
    """A source system behind HTTP. Derived classes give `routes`."""

    url: str = ""
    token: str = SECRET
    """What the server takes; empty for a server that asks for none."""
    throttled: int = 0
    clock: datetime = datetime(2026, 11, 1, tzinfo=UTC)
    """What the server takes for now: every change happens a quarter of an hour after the one before."""
    requests: list[str] = field(default_factory=list)
    _throttle: int = 0
    _away: bool = False

    def routes(self):
        raise NotImplementedError

    def app(self):
        app = Starlette(routes=self.routes())

        async def guarded(scope, receive, send):
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            request = Request(scope)
            self.requests.append(f"{request.method} {request.url.path}")
            answer = self._refusal(request)

            async def dated(message):
                if message["type"] == "http.response.start":
                    at = format_datetime(self.clock + timedelta(minutes=5), usegmt=True)
                    message["headers"] = [*message["headers"], (b"date", at.encode())]
                await send(message)

            await (answer or app)(scope, receive, dated)

        return guarded

    def _refusal(self, request):
        if self._away:
            return PlainTextResponse("the machine room is dark", 502)
        if self._throttle:
            self._throttle -= 1
            self.throttled += 1
            return JSONResponse({"message": "slow down"}, 429, {"retry-after": "0"})
        if self.token and not self.authorised(request):
            return JSONResponse({"message": f"bad token {self.token[:4]}"}, 401)
        return None

    def authorised(self, request):
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def tick(self):
        """A moment later, as the APIs write it."""
        self.clock += timedelta(minutes=15)
        return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def page(self, things, start, size):
        """A page of a list, and where the next one starts or None."""
        return things[start : start + size], (start + size if start + size < len(things) else None)

    async def go_away(self):
        self._away = True

    def throttle(self, times):
        self._throttle = times

    def renew_token(self):
        self.token = f"{SECRET}-renewed"
        self.environ["TOKEN"] = self.token

    def refuse_token(self):
        self.token = "another"
