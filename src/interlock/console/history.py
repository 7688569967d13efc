"""History of a collection: its snapshots, what changed, and the way back; and certificates of erasures."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import NotFound
from interlock.flows import ingest
from interlock.http.callers import app_of
from interlock.knowledge.sources import SourceSpec

__all__ = ["routes"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)
_MAY_READ_CERTIFICATES = (Role.OPERATOR, Role.RISK, Role.AUDITOR)
_SHOWN = 30
"""Snapshots, and documents of a difference, that one page shows."""


def _spec(request: Request, caller: Caller) -> SourceSpec:
    caller.ctx.require(*_OVERSIGHT)
    app = app_of(request)
    if caller.ctx.tenant != app.workspace.settings.tenant:
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    return app.source_spec(request.path_params["name"])


async def show(request: Request, caller: Caller) -> Response:
    """``GET /collections/{name}/history?before=&after=``: snapshots, and one difference."""
    spec, history = _spec(request, caller), app_of(request).parts.knowledge.history
    # First: it is recorded then, should something have been erased since the last run.
    current = await history.snapshot(caller.ctx, spec.collection)
    snapshots = await history.snapshots(caller.ctx, spec.collection)
    before, after = request.query_params.get("before", ""), request.query_params.get("after", "")
    others = [one for one in snapshots if one.id != current.id]
    chosen = before or (others[0].id if others else "")
    diff = await history.diff(caller.ctx, spec.collection, chosen, after or None) if chosen else None
    return render(
        request,
        caller,
        "history.html",
        collection=spec.collection,
        snapshots=snapshots[:_SHOWN],
        total=len(snapshots),
        current=current,
        hold=await history.held(caller.ctx, spec.collection),
        diff=diff,
        most=_SHOWN,
    )


async def ask_rollback(request: Request, caller: Caller) -> Response:
    """``GET /collections/{name}/rollback?snapshot=``: what it would change, before it is done."""
    spec, history = _spec(request, caller), app_of(request).parts.knowledge.history
    target = await history.find(caller.ctx, spec.collection, request.query_params.get("snapshot", ""))
    current = await history.snapshot(caller.ctx, spec.collection)
    diff = await history.diff(caller.ctx, spec.collection, current.id, target.id)
    return render(request, caller, "rollback.html", collection=spec.collection, target=target, diff=diff)


async def rollback(request: Request, caller: Caller) -> Response:
    """``POST /collections/{name}/rollback``: queues it; the page of documents shows how it goes."""
    spec = _spec(request, caller)
    snapshot = text_field(await form_of(request), "snapshot")
    await ingest.enqueue_rollback(app_of(request).parts, caller.ctx, spec.collection, snapshot)
    return RedirectResponse("/documents", 303)


async def resume(request: Request, caller: Caller) -> Response:
    """``POST /collections/{name}/resume``."""
    spec = _spec(request, caller)
    await ingest.resume(app_of(request).parts, caller.ctx, spec)
    return RedirectResponse(f"/collections/{spec.collection}/history", 303)


async def erasures(request: Request, caller: Caller) -> Response:
    """``GET /erasures``: certificates, newest first."""
    caller.ctx.require(*_MAY_READ_CERTIFICATES)
    found = await app_of(request).parts.governance.certificates.list(caller.ctx)
    return render(request, caller, "erasures.html", certificates=found)


routes = [
    Route("/collections/{name}/history", page(show)),
    Route("/collections/{name}/rollback", page(ask_rollback)),
    Route("/collections/{name}/rollback", page(rollback), methods=["POST"]),
    Route("/collections/{name}/resume", page(resume), methods=["POST"]),
    Route("/erasures", page(erasures)),
]
