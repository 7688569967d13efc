"""Experiments under `/api/v1/experiments`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput
from interlock.flows.experiment import conclude, look_at
from interlock.flows.experiment import plan as planning
from interlock.flows.release_views import experiment_view
from interlock.http.callers import app_of, context_of, read_json
from interlock.releases.experiments.service import Experiments
from interlock.releases.experiments.types import ExperimentSpec
from interlock.server.releases import limit_of, parsed

__all__ = ["routes"]

_OVERSIGHT = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: ExperimentSpec
    reason: str = Field(default="", max_length=1000)


class _Start(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(default="", max_length=1000)


class _Reason(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=1000)


async def _asked(request: Request) -> tuple[Context, Experiments]:
    ctx = await context_of(request)
    ctx.require(*_OVERSIGHT)
    return ctx, app_of(request).parts.releases.experiments


async def list_experiments(request: Request) -> Response:
    """``GET /api/v1/experiments?app=&active=&limit=``: newest first."""
    ctx, experiments = await _asked(request)
    asked = request.query_params
    active = asked.get("active", "false")
    if active not in {"true", "false"}:
        raise InvalidInput("active is true or false", param="active")
    name = app_of(request).parts.releases.source(asked["app"], ctx).name if "app" in asked else None
    found = await experiments.list(ctx, app=name, serving=active == "true", limit=limit_of(request))
    return JSONResponse({"data": [experiment_view(each) for each in found]})


async def plan(request: Request) -> Response:
    """``POST /api/v1/experiments`` with ``{"plan": {…}, "reason"?}``: freezes it; nobody is served differently."""
    ctx, _ = await _asked(request)
    asked = parsed(_Plan, await read_json(request))
    made = await planning(app_of(request).parts, ctx, asked.plan, reason=asked.reason)
    return JSONResponse(experiment_view(made), 201)


async def start(request: Request) -> Response:
    """``POST /api/v1/experiments/{id}/start`` with ``{"reason"?}``."""
    ctx, _ = await _asked(request)
    asked = parsed(_Start, await read_json(request))
    begun = await app_of(request).parts.releases.start_experiment(ctx, request.path_params["id"], reason=asked.reason)
    return JSONResponse(experiment_view(begun))


async def show(request: Request) -> Response:
    """``GET /api/v1/experiments/{id}``: with every change and the numbers it rested on."""
    ctx, experiments = await _asked(request)
    found = await experiments.one(ctx, request.path_params["id"])
    return JSONResponse(experiment_view(found, await experiments.history(ctx, found.id)))


async def look(request: Request) -> Response:
    """``POST /api/v1/experiments/{id}/look``: judges it now instead of at its next turn."""
    ctx, experiments = await _asked(request)
    ctx.require(Role.OPERATOR)
    found = await experiments.one(ctx, request.path_params["id"])
    return JSONResponse(experiment_view(await look_at(app_of(request).parts, ctx, found)))


async def end(request: Request) -> Response:
    """``POST /api/v1/experiments/{id}/stop|conclude`` with ``{"reason"}``."""
    ctx, experiments = await _asked(request)
    asked = parsed(_Reason, await read_json(request))
    name = request.path_params["id"]
    if request.url.path.endswith("/stop"):
        return JSONResponse(experiment_view(await experiments.stop(ctx, name, asked.reason)))
    return JSONResponse(experiment_view(await conclude(app_of(request).parts, ctx, name, asked.reason)))


routes = [
    Route("/api/v1/experiments", list_experiments),
    Route("/api/v1/experiments", plan, methods=["POST"]),
    Route("/api/v1/experiments/{id}", show),
    Route("/api/v1/experiments/{id}/start", start, methods=["POST"]),
    Route("/api/v1/experiments/{id}/look", look, methods=["POST"]),
    *(Route(f"/api/v1/experiments/{{id}}/{step}", end, methods=["POST"]) for step in ("stop", "conclude")),
]
