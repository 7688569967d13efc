"""Embedding spaces of a collection: which answers, what is built beside it, how both compare, and the switch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.flows import embedder_change
from interlock.flows.embedder_views import status_view
from interlock.http.callers import app_of
from interlock.knowledge.sources import SourceSpec
from interlock.stores.jobs.base import Job

__all__ = ["routes"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)
_STEPS: dict[str, Callable[..., Awaitable[Job]]] = {
    "build": embedder_change.enqueue_build,
    "compare": embedder_change.enqueue_compare,
    "switch": embedder_change.enqueue_switch,
    "drop": embedder_change.enqueue_drop,
}
_ASKED = ("switch", "drop")
"""Steps that a person confirms."""


def _spec(request: Request, caller: Caller) -> SourceSpec:
    caller.ctx.require(*_OVERSIGHT)
    app = app_of(request)
    if caller.ctx.tenant != app.workspace.settings.tenant:
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    return app.source_spec(request.path_params["name"])


async def show(request: Request, caller: Caller) -> Response:
    """``GET /collections/{name}/embedder``: both spaces, the last comparison, and what can be done."""
    spec = _spec(request, caller)
    app = app_of(request)
    status = await app.parts.knowledge.spaces.status(caller.ctx, spec.collection)
    jobs = await app.parts.jobs.list(caller.ctx.tenant, kind="ingest", limit=20)
    return render(
        request,
        caller,
        "embedder.html",
        collection=spec.collection,
        told=status_view(status),
        # As the worker will find them.
        questions=len(await embedder_change.accepted_questions(app.parts, app.owner(), spec.collection)),
        job=next((job for job in jobs if job.payload.get("collection") == spec.collection), None),
    )


async def ask(request: Request, caller: Caller) -> Response:
    """``GET /collections/{name}/embedder/{step}``: a switch or a drop, before it is done."""
    spec = _spec(request, caller)
    step = request.path_params["step"]
    if step not in _ASKED:
        raise NotFound("no such page", param="step")
    spaces = app_of(request).parts.knowledge.spaces
    other = await (spaces.may_switch if step == "switch" else spaces.other)(caller.ctx, spec.collection)
    told = status_view(await spaces.status(caller.ctx, spec.collection))
    return render(
        request, caller, "embedder-ask.html", collection=spec.collection, told=told, step=step, other=other.id
    )


async def take(request: Request, caller: Caller) -> Response:
    """``POST /collections/{name}/embedder``: queue one step; the page shows how it goes."""
    spec = _spec(request, caller)
    form = await form_of(request)
    step = text_field(form, "step")
    if step not in _STEPS:
        raise InvalidInput("step is build, compare, switch or drop", param="step")
    if step in _ASKED:
        other = await app_of(request).parts.knowledge.spaces.other(caller.ctx, spec.collection)
        if other.id != text_field(form, "space"):
            raise InvalidInput("it is another space by now: look at the page again", param="space")
    await _STEPS[step](app_of(request).parts, caller.ctx, spec.collection)
    return RedirectResponse(f"/collections/{spec.collection}/embedder", 303)


routes = [
    Route("/collections/{name}/embedder", page(show)),
    Route("/collections/{name}/embedder", page(take), methods=["POST"]),
    Route("/collections/{name}/embedder/{step}", page(ask)),
]
