"""The ASGI application and the process that serves it."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interlock.app import App
from interlock.core.errors import InterlockError
from interlock.http.errors import on_bad_method, on_error, on_left, on_not_found, on_unexpected
from interlock.server import (
    admin,
    batches,
    cache,
    comparisons,
    conversations,
    embedders,
    evals,
    experiment,
    feedback,
    gateway,
    google,
    health,
    history,
    mcp,
    media,
    monitoring,
    ofrep,
    operations,
    prompts,
    questions,
    releases,
    responses,
    review_queues,
    rollout,
    searching,
    sources,
    vector_stores,
)
from interlock.server.access_log import AccessLine, AccessLog
from interlock.server.tally import Tally

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["build_asgi"]

_log = logging.getLogger("interlock.access")


def build_asgi(app: App, extra: Sequence[BaseRoute] = ()) -> Starlette:
    """The application over a running App; `extra` are the routes of other faces (the console)."""
    wanted = app.workspace.settings.server.access_log
    access_log = AccessLog(str(app.workspace.path(wanted)) if wanted != "-" else "-") if wanted else None

    @asynccontextmanager
    async def lifespan(asgi: Starlette) -> AsyncIterator[None]:
        if access_log is not None:
            access_log.start()
        yield
        asgi.state.stopping = True
        await mcp.close(asgi.state)
        if access_log is not None:
            access_log.close()

    asgi = Starlette(
        routes=[
            *gateway.routes,
            *responses.routes,
            *conversations.routes,
            *google.routes,
            *media.routes,
            *batches.routes,
            *admin.routes,
            *history.routes,
            *questions.routes,
            *embedders.routes,
            *releases.routes,
            *rollout.routes,
            *experiment.routes,
            *feedback.routes,
            *ofrep.routes,
            *prompts.routes,
            *evals.routes,
            *comparisons.routes,
            *review_queues.routes,
            *monitoring.routes,
            *mcp.routes,
            *searching.routes,
            *sources.routes,
            *vector_stores.routes,
            *operations.routes,
            *cache.routes,
            *health.routes,
            *extra,
        ],
        lifespan=lifespan,
        exception_handlers={
            InterlockError: on_error,
            ClientDisconnect: on_left,
            404: on_not_found,
            405: on_bad_method,
        },
    )
    asgi.state.interlock = app
    asgi.state.stopping = False
    asgi.state.tally = Tally()

    @functools.cache
    def metrics() -> CollectorRegistry:
        from interlock.server.metrics import registry

        return registry(app, asgi.state.tally, access_log)

    asgi.state.metrics = metrics
    asgi.state.access_log = access_log
    asgi.state.peers = None
    asgi.add_middleware(_Observed, tally=asgi.state.tally, access_log=access_log)
    return asgi


class _Observed:
    """Counts, times and logs every request; adds headers that keep browsers honest."""

    def __init__(
        self,
        app: ASGIApp,
        tally: Tally,
        access_log: AccessLog | None = None,
    ) -> None:
        self._app = app
        self._tally = tally
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began_answer = 500, False
        began = time.perf_counter()

        async def send_on(message: Message) -> None:
            nonlocal status, began_answer
            if message["type"] == "http.response.start":
                began_answer = True
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"same-origin"),
                ]
            await send(message)

        self._tally.open += 1
        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            if began_answer:
                raise
            # Told here: what passes this point closes the connection under its answer.
            answer = await on_unexpected(Request(scope, receive), error)
            await answer(scope, receive, send_on)
        finally:
            seconds = time.perf_counter() - began
            self._tally.open -= 1
            self._tally.count(scope["path"], status, seconds, method=scope["method"])
            if self._access_log is not None:
                state = scope.get("state", {})
                self._access_log.add(
                    AccessLine(
                        time.time() - seconds,
                        scope["method"],
                        scope["path"],
                        status,
                        seconds,
                        state.get("caller"),
                        state.get("request_id", ""),
                    )
                )
