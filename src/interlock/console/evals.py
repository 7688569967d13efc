"""Evaluations: runs of suites, and what a run found."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, page
from interlock.flows.evaluation_runs import KeptRuns
from interlock.http.callers import app_of

__all__ = ["routes"]

_SHOWN = 100


def _runs(request: Request) -> KeptRuns:
    workspace = app_of(request).workspace
    return KeptRuns(workspace.data / "evaluations" / "runs", workspace.settings.tenant)


async def list_runs(request: Request, caller: Caller) -> Response:
    """``GET /evaluations?suite=``."""
    suite = request.query_params.get("suite") or None
    found = await _runs(request).list(caller.ctx, suite=suite, limit=_SHOWN)
    return render(request, caller, "evaluations.html", runs=found, suite=suite)


async def show(request: Request, caller: Caller) -> Response:
    """``GET /evaluations/{id}``."""
    found = await _runs(request).one(caller.ctx, request.path_params["id"])
    return render(request, caller, "evaluation.html", run=found, plan=found.plan, report=found.report)


routes = [
    Route("/evaluations", page(list_runs)),
    Route("/evaluations/{id}", page(show)),
]
