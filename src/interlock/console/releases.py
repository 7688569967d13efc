"""Releases: what serves, what each has shown and still has to, what changed, and the signature of who looked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import fragment, render
from interlock.console.session import Caller, form_of, is_fragment, page, text_field
from interlock.core.context import ROLE_ORDER, Role
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.ids import JobId
from interlock.flows.gate_job import KIND, enqueue_gate, gate_job_of
from interlock.flows.prompt_lint import Linted, lint_release
from interlock.flows.release_bundles import export_release
from interlock.http.callers import app_of
from interlock.http.security import PAGE_HEADERS
from interlock.releases.promotion import Demand, Evidence
from interlock.releases.types import FROZEN_CHANNELS, AppSource, Channel, ReleaseInfo
from interlock.stores.jobs.base import Job

__all__ = ["routes"]

_MAY_READ = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_SHOWN = 20


class Row(NamedTuple):
    """One release of the list."""

    info: ReleaseInfo
    serves: Sequence[str]
    evidence: Sequence[Evidence]
    open: Sequence[Demand]
    """What prod still asks of it."""


class Listed(NamedTuple):
    """One app."""

    source: AppSource
    pointed: Sequence[Channel]
    rows: Sequence[Row]


async def list_releases(request: Request, caller: Caller) -> Response:
    """``GET /releases``."""
    caller.ctx.require(*_MAY_READ)
    releases = app_of(request).parts.releases
    apps = []
    for source in releases.apps(caller.ctx):
        pointed = await releases.channels(caller.ctx, source.name)
        rows = []
        for info in await releases.list(caller.ctx, source.name, limit=_SHOWN):
            asked = await releases.demands(caller.ctx, source.name, "prod", info.id)
            evidence = await releases.evidence(caller.ctx, source.name, info.id)
            serves = [each.name for each in pointed if each.release == info.id]
            rows.append(Row(info, serves, evidence, [each for each in asked if each.state != "met"]))
        apps.append(Listed(source, pointed, rows))
    return render(request, caller, "releases.html", apps=apps)


async def show(request: Request, caller: Caller) -> Response:
    """``GET /releases/{app}/{id}?against=``: one release, and what it changes against what `against` serves."""
    caller.ctx.require(*_MAY_READ)
    releases = app_of(request).parts.releases
    app = request.path_params["app"]
    info = await releases.find(caller.ctx, app, request.path_params["id"])
    against = request.query_params.get("against", "prod")
    try:
        diff = await releases.diff(caller.ctx, app, against, info.id)
    except NotFound:
        # A channel that points nowhere yet has nothing to compare with.
        diff = None
    pointed = await releases.channels(caller.ctx, app)
    whole = await releases.pick(caller.ctx, app, info.id)
    looked: Linted | None = None
    with suppress(InterlockError):
        # A prompt that an older version froze may say what cannot be read any more: the release is shown all the same.
        looked = await lint_release(app_of(request).parts, caller.ctx, whole)
    return render(
        request,
        caller,
        "release.html",
        info=info,
        whole=whole,
        looked=looked,
        diff=diff,
        against=against,
        serves=[each.name for each in pointed if each.release == info.id],
        evidence=await releases.evidence(caller.ctx, app, info.id),
        demands={name: await releases.demands(caller.ctx, app, name, info.id) for name in FROZEN_CHANNELS},
        moves=[each for each in await releases.moves(caller.ctx, app, limit=1000) if each.release == info.id],
        consumers=await releases.consumers.list(caller.ctx, info.app),
        unread={each.consumer.name: each for each in await releases.unread(caller.ctx, app, info.id)},
        may_accept=caller.has(Role.OPERATOR, Role.RISK),
        channels=FROZEN_CHANNELS,
        roles=[role.value for role in ROLE_ORDER if caller.has(role)],
        may_point=caller.has(Role.OPERATOR),
        may_run=caller.has(Role.DEVELOPER, Role.OPERATOR),
        job=await gate_job_of(app_of(request).parts, caller.ctx, app, info.id),
        at=f"/releases/{app}/{info.id}",
    )


def _back(request: Request) -> RedirectResponse:
    return RedirectResponse(f"/releases/{request.path_params['app']}/{request.path_params['id']}", 303)


async def sign(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/sign`` with `role`, `verdict` (approved, rejected) and `note`."""
    form = await form_of(request)
    role, verdict = text_field(form, "role"), text_field(form, "verdict")
    if role not in {each.value for each in Role}:
        raise InvalidInput("sign in one of your roles", param="role")
    if verdict not in {"approved", "rejected"}:
        raise InvalidInput("a release is approved or rejected", param="verdict")
    await app_of(request).parts.releases.sign(
        caller.ctx,
        request.path_params["app"],
        request.path_params["id"],
        role=Role(role),
        approve=verdict == "approved",
        note=text_field(form, "note")[:4000],
    )
    return _back(request)


async def accept(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/consumers`` with `reason`: what cannot be told of who reads it is accepted."""
    form = await form_of(request)
    await app_of(request).parts.releases.accept_unread(
        caller.ctx, request.path_params["app"], request.path_params["id"], reason=text_field(form, "reason")
    )
    return _back(request)


async def run(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/run`` with `channel`: a worker makes the runs that the channel asks for."""
    form = await form_of(request)
    app, release = request.path_params["app"], request.path_params["id"]
    await enqueue_gate(app_of(request).parts, caller.ctx, app, channel=text_field(form, "channel"), release=release)
    return _back(request)


async def job_state(request: Request, caller: Caller) -> Response:
    """``GET /releases/{app}/{id}/jobs/{job}``: the job's piece of the page, asked for again while it runs."""
    caller.ctx.require(*_MAY_READ)
    return _piece(request, caller, await _job(request, caller))


async def cancel(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/jobs/{job}``: stop it; what was answered stays."""
    caller.ctx.require(Role.DEVELOPER, Role.OPERATOR)
    found = await _job(request, caller)
    return _piece(request, caller, await app_of(request).parts.jobs.cancel(caller.ctx.tenant, found.id))


async def _job(request: Request, caller: Caller) -> Job:
    found = await app_of(request).parts.jobs.get(caller.ctx.tenant, JobId(request.path_params["job"]))
    if found.kind != KIND or found.payload.get("app") != request.path_params["app"]:
        raise NotFound("this app has no such job", param="job")
    return found


def _piece(request: Request, caller: Caller, job: Job) -> Response:
    if not is_fragment(request):
        return _back(request)
    html = fragment("_gate_job.html", job=job, at=_back(request).headers["location"], csrf=caller.csrf)
    return Response(html, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)


async def roll_out(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/rollout`` with `channel` and `reason`: as the app's file says that it goes."""
    form = await form_of(request)
    begun = await app_of(request).parts.releases.start_rollout(
        caller.ctx,
        request.path_params["app"],
        text_field(form, "channel"),
        request.path_params["id"],
        reason=text_field(form, "reason")[:1000],
    )
    return RedirectResponse(f"/rollouts/{begun.id}", 303)


async def retire(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/retire`` and ``…/reinstate`` with `reason`."""
    form = await form_of(request)
    releases, app, release = app_of(request).parts.releases, request.path_params["app"], request.path_params["id"]
    reason = text_field(form, "reason")[:1000]
    if not reason:
        raise InvalidInput("say why", param="reason")
    back = request.url.path.endswith("/reinstate")
    await (releases.reinstate if back else releases.retire)(caller.ctx, app, release, reason=reason)
    return _back(request)


async def export(request: Request, caller: Caller) -> Response:
    """``GET /releases/{app}/{id}/export``: signed, with its components and reports, as one file."""
    app, release = request.path_params["app"], request.path_params["id"]
    body = await export_release(app_of(request).parts, caller.ctx, app, release)
    name = f'attachment; filename="{quote(app, safe="")}-{release[7:15]}.release.json"'
    return Response(body, media_type="application/json", headers={"content-disposition": name})


async def point(request: Request, caller: Caller) -> Response:
    """``POST /releases/{app}/{id}/point`` with `channel` and `reason`."""
    form = await form_of(request)
    await app_of(request).parts.releases.point(
        caller.ctx,
        request.path_params["app"],
        text_field(form, "channel"),
        request.path_params["id"],
        reason=text_field(form, "reason")[:1000],
    )
    return _back(request)


routes = [
    Route("/releases", page(list_releases)),
    Route("/releases/{app}/{id}", page(show)),
    Route("/releases/{app}/{id}/sign", page(sign), methods=["POST"]),
    Route("/releases/{app}/{id}/consumers", page(accept), methods=["POST"]),
    Route("/releases/{app}/{id}/run", page(run), methods=["POST"]),
    Route("/releases/{app}/{id}/jobs/{job}", page(job_state)),
    Route("/releases/{app}/{id}/jobs/{job}", page(cancel), methods=["POST"]),
    Route("/releases/{app}/{id}/rollout", page(roll_out), methods=["POST"]),
    Route("/releases/{app}/{id}/retire", page(retire), methods=["POST"]),
    Route("/releases/{app}/{id}/reinstate", page(retire), methods=["POST"]),
    Route("/releases/{app}/{id}/export", page(export)),
    Route("/releases/{app}/{id}/point", page(point), methods=["POST"]),
]
