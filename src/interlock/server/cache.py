"""Kept answers under `/api/v1/cache`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput
from interlock.flows.cache import cache_stats, purge_cache
from interlock.gateway.cache.types import Purge
from interlock.http.callers import app_of, context_of

__all__ = ["routes"]

_KINDS = ("app", "route", "document", "collection")


async def stats(request: Request) -> Response:
    """``GET /api/v1/cache``: answers given again in 30 days, this worker's counts, and which routes keep answers."""
    ctx = await context_of(request)
    return JSONResponse(await cache_stats(app_of(request).parts, ctx))


async def purge(request: Request) -> Response:
    """``DELETE /api/v1/cache?app=|route=|document=|collection=``; without one of them everything of the tenant."""
    ctx = await context_of(request)
    given = {kind: request.query_params[kind] for kind in _KINDS if kind in request.query_params}
    unknown = sorted(set(request.query_params) - set(_KINDS))
    if unknown:
        # A misspelt name must not forget everything.
        raise InvalidInput(
            f"there is no {unknown[0]!r} to purge by", param=unknown[0], hint=f"one of {', '.join(_KINDS)}"
        )
    if len(given) > 1:
        raise InvalidInput("purge by one thing at a time", param=sorted(given)[1])
    if any(not 1 <= len(value) <= 256 for value in given.values()):
        raise InvalidInput("a name has 1 to 256 characters", param=next(iter(given)))
    what = Purge(**given)
    removed = await purge_cache(app_of(request).parts, ctx, what)
    return JSONResponse({"purged": str(what), "removed": removed})


routes = [
    Route("/api/v1/cache", stats, methods=["GET"]),
    Route("/api/v1/cache", purge, methods=["DELETE"]),
]
