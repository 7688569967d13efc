"""Runs of evaluations, under `/api/v1/evaluations`."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.flows.evaluation_runs import Kept, KeptRuns
from interlock.http.callers import app_of, context_of
from interlock.server.releases import limit_of

__all__ = ["routes"]


def _runs(request: Request) -> KeptRuns:
    workspace = app_of(request).workspace
    return KeptRuns(workspace.data / "evaluations" / "runs", workspace.settings.tenant)


def _run(kept: Kept) -> dict[str, object]:
    plan = kept.plan
    return {
        "id": plan.id,
        "suite": plan.suite,
        "target": plan.target,
        "release": plan.release or None,
        "began_at": plan.began_at.isoformat(),
        "verdict": kept.verdict or None,
        "cases": plan.cases,
        "note": plan.note,
    }


async def list_runs(request: Request) -> Response:
    """``GET /api/v1/evaluations?suite=&limit=``: newest first."""
    ctx = await context_of(request)
    found = await _runs(request).list(ctx, suite=request.query_params.get("suite"), limit=limit_of(request))
    return JSONResponse({"data": [_run(kept) for kept in found]})


async def show(request: Request) -> Response:
    """``GET /api/v1/evaluations/{id}``: a run, and its report once it is finished."""
    ctx = await context_of(request)
    kept = await _runs(request).one(ctx, request.path_params["id"])
    report = None if kept.report is None else {**msgspec.to_builtins(kept.report), "digest": kept.report.digest()}
    return JSONResponse({**_run(kept), "report": report})


routes = [
    Route("/api/v1/evaluations", list_runs),
    Route("/api/v1/evaluations/{id}", show),
]
