"""Health, readiness, metrics."""

from __future__ import annotations

import shutil

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock import __version__
from interlock.core.errors import InterlockError
from interlock.http.callers import app_of, context_of
from interlock.server.peers import Peers

__all__ = ["routes"]

_LOW_DISK_BYTES = 200_000_000


async def health(request: Request) -> Response:
    """``GET /healthz``: this process lives."""
    return JSONResponse({"status": "ok", "version": __version__})


async def ready(request: Request) -> Response:
    """``GET /readyz``: this process can serve. 503 with the reason otherwise."""
    app = app_of(request)
    problems = []
    try:
        await app.sql.ping()
    except InterlockError as error:
        problems.append(f"database: {error.code}")
    if shutil.disk_usage(app.workspace.data).free < _LOW_DISK_BYTES:
        problems.append("disk: less than 200 MB free")
    if request.app.state.stopping:
        problems.append("shutting down")
    status = 503 if problems else 200
    return JSONResponse({"status": "ready" if not problems else "not ready", "problems": problems}, status)


async def metrics(request: Request) -> Response:
    """``GET /metrics``: Prometheus text, of all workers. Needs a caller like every other page."""
    await context_of(request)
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    peers: Peers | None = request.app.state.peers
    text = generate_latest(request.app.state.metrics()) if peers is None else await peers.metrics()
    return Response(text, media_type=CONTENT_TYPE_LATEST)


routes = [
    Route("/healthz", health),
    Route("/readyz", ready),
    Route("/metrics", metrics),
]
