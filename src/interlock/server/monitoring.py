"""Sampled answers and alerts, under `/api/v1`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.errors import InvalidInput
from interlock.flows.coverage import coverage, coverage_view, suites_of
from interlock.flows.monitor_views import alert_view, sample_view, summary
from interlock.http.callers import app_of, context_of
from interlock.server.releases import limit_of

__all__ = ["routes"]


def _days(request: Request) -> float:
    raw = request.query_params.get("days", "7")
    try:
        days = float(raw)
    except ValueError:
        days = 0.0
    if not 0 < days <= 365:
        raise InvalidInput("days is a number above 0, 365 at most", param="days")
    return days


async def show(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/monitor?days=``: scores of sampled answers by release."""
    ctx = await context_of(request)
    return JSONResponse(await summary(app_of(request).parts, ctx, request.path_params["app"], days=_days(request)))


async def samples(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/monitor/samples?limit=``: newest first, with their text as far as it is kept."""
    ctx = await context_of(request)
    parts = app_of(request).parts
    app = parts.releases.source(request.path_params["app"], ctx).name
    found = await parts.monitors.samples(ctx, app, limit=limit_of(request))
    return JSONResponse({"data": [sample_view(each) for each in found]})


async def covered(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/coverage?days=&limit=``: what is asked, grouped, and which of it no case asks."""
    ctx = await context_of(request)
    app = app_of(request)
    name = app.parts.releases.source(request.path_params["app"], ctx).name
    suites = suites_of(app.workspace.path(app.workspace.settings.apps_dir) / name)
    found = await coverage(app.parts, ctx, name, suites=suites, days=_days(request))
    return JSONResponse(coverage_view(found, limit=limit_of(request)))


async def alerts(request: Request) -> Response:
    """``GET /api/v1/alerts?app=&all=&limit=``: newest first; those that nobody has looked at without ``all=true``."""
    ctx = await context_of(request)
    found = await app_of(request).parts.monitors.alerts(
        ctx,
        app=request.query_params.get("app") or None,
        open_only=request.query_params.get("all") != "true",
        limit=limit_of(request),
    )
    return JSONResponse({"data": [alert_view(each) for each in found]})


async def acknowledge(request: Request) -> Response:
    """``POST /api/v1/alerts/{id}/acknowledge``."""
    ctx = await context_of(request)
    await app_of(request).parts.monitors.acknowledge(ctx, request.path_params["id"])
    return JSONResponse({"id": request.path_params["id"], "acknowledged_by": ctx.principal.id})


routes = [
    Route("/api/v1/apps/{app}/monitor", show),
    Route("/api/v1/apps/{app}/monitor/samples", samples),
    Route("/api/v1/apps/{app}/coverage", covered),
    Route("/api/v1/alerts", alerts),
    Route("/api/v1/alerts/{id}/acknowledge", acknowledge, methods=["POST"]),
]
