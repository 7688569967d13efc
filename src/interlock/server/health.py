"""Health, readiness, metrics."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock import __version__
from interlock.app import App
from interlock.core.context import Role
from interlock.core.errors import InterlockError
from interlock.http.callers import app_of, context_of
from interlock.server.operations import at_home
from interlock.server.peers import Peers

__all__ = ["routes"]

_LOW_DISK_BYTES = 200_000_000
_PATIENCE_S = 2.0


async def health(request: Request) -> Response:
    """``GET /healthz``: this process lives."""
    return JSONResponse({"status": "ok", "version": __version__})


async def ready(request: Request) -> Response:
    """``GET /readyz``: this process can serve. 503 with the reason otherwise."""
    app = app_of(request)
    # A probe is asked again and again: what does not answer by then does not answer.
    problems = [
        problem
        for problem in await asyncio.gather(
            _problem("database", app.sql.ping()),
            _problem("shared state", app.kv.get(app.workspace.settings.tenant, "readiness")),
        )
        if problem
    ]
    if shutil.disk_usage(app.workspace.data).free < _LOW_DISK_BYTES:
        problems.append("disk: less than 200 MB free")
    if request.app.state.stopping:
        problems.append("shutting down")
    status = 503 if problems else 200
    return JSONResponse({"status": "ready" if not problems else "not ready", "problems": problems}, status)


async def _problem(what: str, check: Awaitable[object]) -> str:
    """Why a store cannot be used now; empty when it can."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await check
    except InterlockError as error:
        return f"{what}: {error.code}"
    except TimeoutError:
        return f"{what}: no answer within {_PATIENCE_S:g} s"
    return ""


async def metrics(request: Request) -> Response:
    """``GET /metrics``: Prometheus text, of all workers. It tells of every tenant's calls: it needs the role operator
    in the installation's own tenant. Raises: Unauthenticated, Forbidden, NotFound.
    """
    at_home(request, await context_of(request)).require(Role.OPERATOR)
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    peers: Peers | None = request.app.state.peers
    text = generate_latest(request.app.state.metrics()) if peers is None else await peers.metrics()
    text += await _of_sources(app_of(request))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _of_sources(app: App) -> bytes:
    """What the database knows, and so every worker alike; nothing while it is away."""
    from interlock.server.metrics import of_sources, text

    try:
        async with asyncio.timeout(_PATIENCE_S):
            specs = [app.source_spec(name) for name in app.collections()]
            found = [status for spec in specs for status in await app.parts.knowledge.sources(app.owner(), spec)]
    except (InterlockError, TimeoutError):
        return b""
    return text(of_sources(found))


routes = [
    Route("/healthz", health),
    Route("/readyz", ready),
    Route("/metrics", metrics),
]
