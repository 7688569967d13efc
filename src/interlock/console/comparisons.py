"""Comparisons: variants of an app beside each other, what is advised, and models that go out of use."""

from __future__ import annotations

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.evals.matrix.drawing import cell_of, svg
from interlock.evals.matrix.exports import questions, terms
from interlock.flows.evaluation_runs import KeptComparisons
from interlock.flows.matrix import freeze_variant
from interlock.http.callers import app_of

__all__ = ["routes"]

_SHOWN = 100


def _kept(request: Request) -> KeptComparisons:
    workspace = app_of(request).workspace
    return KeptComparisons(workspace.data / "evaluations", workspace.settings.tenant)


async def list_comparisons(request: Request, caller: Caller) -> Response:
    """``GET /comparisons?app=``."""
    app = request.query_params.get("app") or None
    kept = _kept(request)
    return render(
        request,
        caller,
        "comparisons.html",
        comparisons=await kept.list(caller.ctx, app=app, limit=_SHOWN),
        migrations=await kept.migrations(caller.ctx),
        app=app,
    )


async def show(request: Request, caller: Caller) -> Response:
    """``GET /comparisons/{id}``."""
    found = await _kept(request).one(caller.ctx, request.path_params["id"])
    extra = dict.fromkeys(cell.metric for cell in found.cells if cell.metric not in found.dimensions)
    return render(
        request,
        caller,
        "comparison.html",
        found=found,
        # Drawn by us, and everything that is written in it escaped.
        picture=Markup(svg(found)),  # noqa: S704
        metrics=[*found.dimensions, *extra],
        cell=lambda each, metric: cell_of(found, each.run, metric),
        questions=questions(found),
        terms=terms(found) if found.advice is not None else "",
        may_freeze=caller.has(Role.DEVELOPER, Role.OPERATOR),
    )


async def freeze(request: Request, caller: Caller) -> Response:
    """``POST /comparisons/{id}/freeze`` with `variant` and `note`."""
    form = await form_of(request)
    found = await _kept(request).one(caller.ctx, request.path_params["id"])
    parts = app_of(request).parts
    variant, note = text_field(form, "variant"), text_field(form, "note")[:1000]
    info = await freeze_variant(parts, caller.ctx, found, variant, note=note)
    return RedirectResponse(f"/releases/{info.app}/{info.id}", 303)


routes = [
    Route("/comparisons", page(list_comparisons)),
    Route("/comparisons/{id}", page(show)),
    Route("/comparisons/{id}/freeze", page(freeze), methods=["POST"]),
]
