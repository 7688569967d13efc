"""Rollouts under `/api/v1/rollouts`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput
from interlock.flows.release_views import rollout_view
from interlock.flows.rollout import look_at
from interlock.http.callers import app_of, context_of, read_json
from interlock.releases.rollouts.service import Rollouts
from interlock.releases.rollouts.types import RolloutSpec
from interlock.server.releases import limit_of, parsed

__all__ = ["routes"]

_OVERSIGHT = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)


class _Start(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    app: str = Field(min_length=1, max_length=64)
    channel: Literal["stage", "prod"] = "prod"
    release: str = Field(min_length=8, max_length=80)
    spec: RolloutSpec | None = None
    reason: str = Field(default="", max_length=1000)


class _Reason(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=1000)


async def _asked(request: Request) -> tuple[Context, Rollouts]:
    ctx = await context_of(request)
    ctx.require(*_OVERSIGHT)
    return ctx, app_of(request).parts.releases.rollouts


async def list_rollouts(request: Request) -> Response:
    """``GET /api/v1/rollouts?app=&active=&limit=``: newest first."""
    ctx, rollouts = await _asked(request)
    asked = request.query_params
    active = asked.get("active", "false")
    if active not in {"true", "false"}:
        raise InvalidInput("active is true or false", param="active")
    name = app_of(request).parts.releases.source(asked["app"], ctx).name if "app" in asked else None
    found = await rollouts.list(ctx, app=name, active=active == "true", limit=limit_of(request))
    return JSONResponse({"data": [rollout_view(each) for each in found]})


async def start(request: Request) -> Response:
    """``POST /api/v1/rollouts`` with ``{"app", "channel"?, "release", "spec"?, "reason"?}``."""
    ctx, _ = await _asked(request)
    asked = parsed(_Start, await read_json(request))
    begun = await app_of(request).parts.releases.start_rollout(
        ctx, asked.app, asked.channel, asked.release, spec=asked.spec, reason=asked.reason
    )
    return JSONResponse(rollout_view(begun), 201)


async def show(request: Request) -> Response:
    """``GET /api/v1/rollouts/{id}``: with every change and the numbers it rested on."""
    ctx, rollouts = await _asked(request)
    found = await rollouts.one(ctx, request.path_params["id"])
    return JSONResponse(rollout_view(found, await rollouts.history(ctx, found.id)))


async def look(request: Request) -> Response:
    """``POST /api/v1/rollouts/{id}/look``: judges it now instead of at its next turn."""
    ctx, rollouts = await _asked(request)
    ctx.require(Role.OPERATOR)
    found = await rollouts.one(ctx, request.path_params["id"])
    return JSONResponse(rollout_view(await look_at(app_of(request).parts, ctx, found)))


async def move(request: Request) -> Response:
    """``POST /api/v1/rollouts/{id}/pause|resume|abort|promote`` with ``{"reason"}``."""
    ctx, rollouts = await _asked(request)
    asked = parsed(_Reason, await read_json(request))
    moves = {
        "pause": rollouts.pause,
        "resume": rollouts.resume,
        "abort": rollouts.roll_back,
        "promote": rollouts.promote,
    }
    step = moves[request.url.path.rpartition("/")[2]]
    return JSONResponse(rollout_view(await step(ctx, request.path_params["id"], asked.reason)))


routes = [
    Route("/api/v1/rollouts", list_rollouts),
    Route("/api/v1/rollouts", start, methods=["POST"]),
    Route("/api/v1/rollouts/{id}", show),
    Route("/api/v1/rollouts/{id}/look", look, methods=["POST"]),
    *(
        Route(f"/api/v1/rollouts/{{id}}/{step}", move, methods=["POST"])
        for step in ("pause", "resume", "abort", "promote")
    ),
]
