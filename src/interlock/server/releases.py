"""Releases of apps, under `/api/v1/apps/{app}`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput
from interlock.flows.consumer_desk import add_consumer, consumer_view, readers, unread_view
from interlock.flows.freezing import freeze_release
from interlock.flows.gate import ask_gate
from interlock.flows.gate_job import enqueue_gate
from interlock.flows.prompt_views import finding_view
from interlock.flows.release_views import (
    damage_view,
    demand_view,
    diff_view,
    evidence_view,
    move_view,
    release_view,
)
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json, read_optional
from interlock.releases.service import Releases
from interlock.releases.types import FROZEN_CHANNELS

__all__ = ["limit_of", "parsed", "routes"]

_OVERSIGHT = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_MOST = 1000


class _Freeze(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    note: str = Field(default="", max_length=1000)


class _Sign(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    verdict: Literal["approved", "rejected"] = "approved"
    note: str = Field(default="", max_length=4000)


class _Point(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str = Field(min_length=8, max_length=80)
    reason: str = Field(default="", max_length=1000)


class _Consumer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    # Any: a JSON Schema.
    reads: dict[str, Any] = Field(alias="schema")
    contact: str = Field(default="", max_length=200)


class _Gate(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    channel: str = Field(default="prod", max_length=16)
    release: str | None = Field(default=None, min_length=4, max_length=80)
    judge: str | None = Field(default=None, min_length=1, max_length=256)


class _Reason(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=1000)


async def _asked(request: Request) -> tuple[Context, Releases, str]:
    """Who asks, the door, and the app, for those who oversee releases."""
    ctx = await context_of(request)
    ctx.require(*_OVERSIGHT)
    return ctx, app_of(request).parts.releases, request.path_params["app"]


async def list_releases(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/releases?limit=``: frozen ones, newest first."""
    ctx, releases, app = await _asked(request)
    found = await releases.list(ctx, app, limit=limit_of(request))
    channels = await releases.channels(ctx, app)
    return JSONResponse({"data": [release_view(info, channels) for info in found]})


async def freeze(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/releases`` with ``{"note"?}``: freezes what the app's files describe."""
    ctx, _, app = await _asked(request)
    asked = parsed(_Freeze, await read_json(request))
    made = await freeze_release(app_of(request).parts, ctx, app, asked.note)
    found = [finding_view(each) for each in made.findings]
    return JSONResponse({**release_view(made.info), "lint": found}, 201)


async def show(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/releases/{id}``: what it is made of, known of it, asked of it, and where it served."""
    ctx, releases, app = await _asked(request)
    info = await releases.find(ctx, app, request.path_params["id"])
    whole = await releases.pick(ctx, app, info.id)
    moves = [each for each in await releases.moves(ctx, app, limit=_MOST) if each.release == info.id]
    demands = {name: await releases.demands(ctx, app, name, info.id) for name in FROZEN_CHANNELS}
    return JSONResponse(
        {
            **release_view(info, await releases.channels(ctx, app)),
            "values": {kind: dict(value) for kind, value in whole.components.items()},
            "evidence": [evidence_view(each) for each in await releases.evidence(ctx, app, info.id)],
            "moves": [move_view(each) for each in moves],
            "demands": {name: [demand_view(each) for each in found] for name, found in demands.items()},
        }
    )


async def diff(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/releases/{id}/diff?against=``: from `against` (a release, a channel) to this one."""
    ctx, releases, app = await _asked(request)
    found = await releases.diff(ctx, app, request.query_params.get("against", "prod"), request.path_params["id"])
    return JSONResponse(diff_view(found))


async def evidence(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/releases/{id}/evidence``: oldest first."""
    ctx, releases, app = await _asked(request)
    chosen = await releases.pick(ctx, app, request.path_params["id"])
    return JSONResponse({"data": [evidence_view(each) for each in await releases.evidence(ctx, app, chosen.id)]})


async def report(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/releases/{id}/evidence/{digest}``: the whole report, byte for byte."""
    ctx, releases, app = await _asked(request)
    chosen = await releases.pick(ctx, app, request.path_params["id"])
    body = await releases.report(ctx, app, chosen.id, request.path_params["digest"])
    return Response(body, media_type="application/json")


async def verify(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/releases/{id}/verify``: every stored piece against its digest."""
    ctx, releases, app = await _asked(request)
    info = await releases.find(ctx, app, request.path_params["id"])
    found = await releases.verify(ctx, app, info.id)
    return JSONResponse({"release": info.id, "whole": not found, "damaged": [damage_view(each) for each in found]})


async def sign(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/releases/{id}/sign`` with ``{"role", "verdict"?, "note"?}``."""
    ctx, releases, app = await _asked(request)
    asked = parsed(_Sign, await read_json(request))
    signed = await releases.sign(
        ctx, app, request.path_params["id"], role=asked.role, approve=asked.verdict == "approved", note=asked.note
    )
    return JSONResponse(evidence_view(signed), 201)


async def retire(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/releases/{id}/retire`` with ``{"reason"}``."""
    ctx, releases, app = await _asked(request)
    asked = parsed(_Reason, await read_json(request))
    return JSONResponse(release_view(await releases.retire(ctx, app, request.path_params["id"], reason=asked.reason)))


async def reinstate(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/releases/{id}/reinstate`` with ``{"reason"}``."""
    ctx, releases, app = await _asked(request)
    asked = parsed(_Reason, await read_json(request))
    info = await releases.reinstate(ctx, app, request.path_params["id"], reason=asked.reason)
    return JSONResponse(release_view(info))


async def point(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/channels/{channel}`` with ``{"release", "reason"?}``: also the way back."""
    ctx, releases, app = await _asked(request)
    asked = parsed(_Point, await read_json(request))
    moved = await releases.point(ctx, app, request.path_params["channel"], asked.release, reason=asked.reason)
    return JSONResponse({"app": moved.app, "channel": moved.name, "release": moved.release})


async def consumers(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/consumers?release=``: who reads its answers, and what of a release each could not."""
    ctx, _, app = await _asked(request)
    found = await readers(app_of(request).parts, ctx, app, request.query_params.get("release", "live"))
    unread = None if found.unread is None else [unread_view(each) for each in found.unread]
    return JSONResponse({"data": [consumer_view(each) for each in found.consumers], "unread": unread})


async def set_consumer(request: Request) -> Response:
    """``PUT /api/v1/apps/{app}/consumers/{name}`` with ``{"schema", "contact"?}``."""
    ctx, _, app = await _asked(request)
    asked = parsed(_Consumer, await read_json(request))
    name = request.path_params["name"]
    made, unread = await add_consumer(app_of(request).parts, ctx, app, name, asked.reads, contact=asked.contact)
    return JSONResponse({**consumer_view(made), "unread": None if unread is None else unread_view(unread)})


async def remove_consumer(request: Request) -> Response:
    """``DELETE /api/v1/apps/{app}/consumers/{name}``."""
    ctx, releases, app = await _asked(request)
    await releases.consumers.remove(ctx, releases.source(app, ctx).name, request.path_params["name"])
    return Response(status_code=204)


async def accept_unread(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/releases/{id}/consumers/accept`` with ``{"reason"}``; `live` is the files."""
    ctx, releases, app = await _asked(request)
    asked = parsed(_Reason, await read_json(request))
    found = await releases.accept_unread(ctx, app, request.path_params["id"], reason=asked.reason)
    return JSONResponse({"data": [unread_view(each) for each in found]}, 201)


async def moves(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/channels/history?channel=&limit=``: where channels pointed and why, newest first."""
    ctx, releases, app = await _asked(request)
    found = await releases.moves(ctx, app, channel=request.query_params.get("channel"), limit=limit_of(request))
    return JSONResponse({"data": [move_view(each) for each in found]})


async def run_gate_suites(request: Request) -> Response:
    """``POST /api/v1/apps/{app}/gate`` with ``{"channel"?, "release"?, "judge"?}``: queues its runs."""
    ctx, _, app = await _asked(request)
    asked = await read_optional(request, _Gate)
    job = await enqueue_gate(
        app_of(request).parts, ctx, app, channel=asked.channel, release=asked.release, judge=asked.judge
    )
    return JSONResponse({"job": job.id, "state": job.state}, 202)


async def gate(request: Request) -> Response:
    """``GET /api/v1/apps/{app}/gate?channel=&release=``: whether a release may go to a channel; runs nothing."""
    ctx, _, app = await _asked(request)
    channel = request.query_params.get("channel", "prod")
    if channel not in FROZEN_CHANNELS:
        raise InvalidInput(f"channel is one of {', '.join(FROZEN_CHANNELS)}", param="channel")
    found = await ask_gate(
        app_of(request).parts, ctx, app, channel=channel, release=request.query_params.get("release")
    )
    return JSONResponse(
        {
            "app": found.app,
            "channel": found.channel,
            "release": found.release,
            "live": found.live,
            "verdict": found.verdict,
            "by_rollout": found.by_rollout,
            "demands": [demand_view(each) for each in found.demands],
        }
    )


def limit_of(request: Request) -> int:
    """How many rows are asked for, 50 by default. Raises: InvalidInput."""
    raw = request.query_params.get("limit", "50")
    if not raw.isascii() or not raw.isdigit() or not 1 <= int(raw[:5]) <= _MOST:
        raise InvalidInput(f"limit is a number from 1 to {_MOST}", param="limit")
    return int(raw)


# Any: the model that was asked for.
def parsed(model: type[Any], body: object) -> Any:
    """The body as a model. Raises: InvalidInput naming the field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from error


_AT = "/api/v1/apps/{app}"
routes = [
    Route(f"{_AT}/releases", list_releases),
    Route(f"{_AT}/releases", freeze, methods=["POST"]),
    Route(f"{_AT}/releases/{{id}}", show),
    Route(f"{_AT}/releases/{{id}}/diff", diff),
    Route(f"{_AT}/releases/{{id}}/evidence", evidence),
    Route(f"{_AT}/releases/{{id}}/evidence/{{digest}}", report),
    Route(f"{_AT}/releases/{{id}}/verify", verify),
    Route(f"{_AT}/releases/{{id}}/sign", sign, methods=["POST"]),
    Route(f"{_AT}/releases/{{id}}/retire", retire, methods=["POST"]),
    Route(f"{_AT}/releases/{{id}}/reinstate", reinstate, methods=["POST"]),
    Route(f"{_AT}/releases/{{id}}/consumers/accept", accept_unread, methods=["POST"]),
    Route(f"{_AT}/consumers", consumers),
    Route(f"{_AT}/consumers/{{name}}", set_consumer, methods=["PUT"]),
    Route(f"{_AT}/consumers/{{name}}", remove_consumer, methods=["DELETE"]),
    Route(f"{_AT}/channels/history", moves),
    Route(f"{_AT}/channels/{{channel}}", point, methods=["POST"]),
    Route(f"{_AT}/gate", gate),
    Route(f"{_AT}/gate", run_gate_suites, methods=["POST"]),
]
