"""Apps: channels, what a release is made of, and the two acts that change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import ANY_ROLE, Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import InterlockError
from interlock.core.release import Release
from interlock.flows.freezing import freeze_release
from interlock.guardrails.types import GuardrailSpec
from interlock.http.callers import app_of
from interlock.releases.types import FROZEN_CHANNELS, AppSource, Channel, ReleaseInfo

__all__ = ["routes"]

_MAY_READ_COMPONENTS = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_MAY_FREEZE = (Role.DEVELOPER, Role.OPERATOR)


class Listed(NamedTuple):
    """One row of the list."""

    source: AppSource
    channels: Sequence[Channel]
    live: Release | None
    error: InterlockError | None


class Component(NamedTuple):
    """One part of a release, and whether the newest frozen one has the same."""

    kind: str
    digest: str
    value: Mapping[str, Any]  # Any: a component's canonical JSON
    changed: bool


async def list_apps(request: Request, caller: Caller) -> Response:
    """``GET /apps``."""
    caller.ctx.require(*ANY_ROLE)
    releases = app_of(request).parts.releases
    rows = []
    for source in releases.apps(caller.ctx):
        live, error = _live(request, source.name)
        rows.append(Listed(source, await releases.channels(caller.ctx, source.name), live, error))
    return render(request, caller, "apps.html", rows=rows, frozen=FROZEN_CHANNELS)


async def show(request: Request, caller: Caller) -> Response:
    """``GET /apps/{name}``."""
    caller.ctx.require(*ANY_ROLE)
    releases = app_of(request).parts.releases
    source = releases.source(request.path_params["name"], caller.ctx)
    live, error = _live(request, source.name)
    frozen = await releases.list(caller.ctx, source.name, limit=20)
    pointed = {channel.name: channel for channel in await releases.channels(caller.ctx, source.name)}
    return render(
        request,
        caller,
        "app.html",
        source=source,
        live=live,
        error=error,
        components=_components(live, frozen) if live else [],
        rules=GuardrailSpec.model_validate(live.components["guardrails"]).rules if live else [],
        frozen=frozen,
        pointed=pointed,
        channels=FROZEN_CHANNELS,
        may_read=caller.has(*_MAY_READ_COMPONENTS),
        may_freeze=caller.has(*_MAY_FREEZE),
        may_point=caller.has(Role.OPERATOR),
        is_frozen=live is not None and any(info.id == live.id for info in frozen),
    )


def _live(request: Request, name: str) -> tuple[Release | None, InterlockError | None]:
    try:
        return app_of(request).parts.releases.live(name), None
    except InterlockError as error:
        # The page of a broken app says what to mend.
        return None, error


def _components(live: Release, frozen: Sequence[ReleaseInfo]) -> list[Component]:
    newest = frozen[0].components if frozen else {}
    return [
        Component(kind, digest, live.components[kind], bool(newest) and newest.get(kind) != digest)
        for kind, digest in sorted(live.digests.items())
    ]


async def freeze(request: Request, caller: Caller) -> Response:
    """``POST /apps/{name}/freeze``."""
    form = await form_of(request)
    name = request.path_params["name"]
    await freeze_release(app_of(request).parts, caller.ctx, name, text_field(form, "note")[:200])
    return RedirectResponse(f"/apps/{name}#releases", 303)


async def point(request: Request, caller: Caller) -> Response:
    """``POST /apps/{name}/point``."""
    form = await form_of(request)
    name = request.path_params["name"]
    await app_of(request).parts.releases.point(
        caller.ctx, name, text_field(form, "channel"), text_field(form, "release")
    )
    return RedirectResponse(f"/apps/{name}#channels", 303)


routes = [
    Route("/apps", page(list_apps)),
    Route("/apps/{name}", page(show)),
    Route("/apps/{name}/freeze", page(freeze), methods=["POST"]),
    Route("/apps/{name}/point", page(point), methods=["POST"]),
]
