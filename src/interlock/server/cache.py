"""Kept answers under `/api/v1/cache`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput
from interlock.flows.cache import cache_stats, purge_cache
from interlock.flows.erase import erase_kept
from interlock.gateway.cache.types import Purge
from interlock.http.callers import app_of, context_of

__all__ = ["routes"]

_KINDS = ("app", "route", "document", "collection", "user", "everything")


async def stats(request: Request) -> Response:
    """``GET /api/v1/cache``: answers given again in 30 days, this worker's counts, and which routes keep answers."""
    ctx = await context_of(request)
    app = app_of(request)
    told = await cache_stats(app.parts, ctx)
    if ctx.tenant != app.workspace.settings.tenant:
        told["routes"] = {}  # the installation's, as everywhere
    return JSONResponse(told)


async def purge(request: Request) -> Response:
    """``DELETE /api/v1/cache?app=|route=|document=|collection=``; without one of them every answer of the tenant.

    ``?user=ID`` and ``?everything=true`` also remove what is stored: responses, conversations, files, batches.
    """
    ctx = await context_of(request)
    parts = app_of(request).parts
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
    if "everything" in given and given["everything"] != "true":
        raise InvalidInput("everything is 'true' or left out", param="everything")
    if "user" in given or "everything" in given:
        erased = await erase_kept(parts, ctx, user=given.get("user"))
        purged = "user" if "user" in given else "everything"
        return JSONResponse({"purged": purged, "removed": erased.answers, "stored": erased.stored})
    what = Purge(**given)
    removed = await purge_cache(parts, ctx, what)
    return JSONResponse({"purged": str(what), "removed": removed})


routes = [
    Route("/api/v1/cache", stats, methods=["GET"]),
    Route("/api/v1/cache", purge, methods=["DELETE"]),
]
