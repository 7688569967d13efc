"""Alerts: what has drifted of what people are answered."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page
from interlock.core.context import Role
from interlock.http.callers import app_of

__all__ = ["routes"]

_SHOWN = 100


async def list_alerts(request: Request, caller: Caller) -> Response:
    """``GET /alerts?all=``."""
    everything = request.query_params.get("all") == "true"
    found = await app_of(request).parts.monitors.alerts(caller.ctx, open_only=not everything, limit=_SHOWN)
    may = caller.has(Role.DEVELOPER, Role.OPERATOR, Role.RISK)
    return render(request, caller, "alerts.html", alerts=found, everything=everything, may_acknowledge=may)


async def acknowledge(request: Request, caller: Caller) -> Response:
    """``POST /alerts/{id}``: somebody has looked at it."""
    await form_of(request)
    await app_of(request).parts.monitors.acknowledge(caller.ctx, request.path_params["id"])
    return RedirectResponse("/alerts", 303)


routes = [
    Route("/alerts", page(list_alerts)),
    Route("/alerts/{id}", page(acknowledge), methods=["POST"]),
]
