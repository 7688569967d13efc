"""All routes of the console."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from interlock.app import App
from interlock.console import (
    alerts,
    apps,
    ask,
    assets,
    audit,
    comparisons,
    doctor,
    documents,
    embedders,
    evals,
    experiment,
    gateway,
    history,
    keys,
    overview,
    prompts,
    questions,
    releases,
    retrieval,
    reviews,
    rollout,
    search,
    session,
    settings,
    traces,
)
from interlock.core.errors import NotFound

__all__ = ["build_routes"]


async def _nothing(request: Request, caller: session.Caller) -> Response:
    raise NotFound(f"there is no page at {request.url.path}", hint="use the navigation, or search with /")


async def _console(request: Request) -> Response:
    """The console is at the top; its name is a good guess."""
    return RedirectResponse(request.scope.get("root_path", "") + "/", status_code=307)


class _Elsewhere(Route):
    """Every address that is nobody's, except those of the API, whose callers want JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Starlette's Route."""
        if scope["type"] == "http" and scope["path"].startswith(
            ("/v1/", "/api/", "/ofrep/", "/healthz", "/readyz", "/metrics")
        ):
            return Match.NONE, {}
        return super().matches(scope)


def build_routes(app: App) -> Sequence[BaseRoute]:
    """Routes over a running App."""
    return [
        *overview.routes,
        *ask.routes,
        *documents.routes,
        *history.routes,
        *retrieval.routes,
        *questions.routes,
        *embedders.routes,
        *traces.routes,
        *apps.routes,
        *prompts.routes,
        *releases.routes,
        *rollout.routes,
        *experiment.routes,
        *evals.routes,
        *comparisons.routes,
        *reviews.routes,
        *alerts.routes,
        *gateway.routes,
        *keys.routes,
        *audit.routes,
        *settings.routes,
        *doctor.routes,
        *search.routes,
        Route("/console", _console),
        Route("/console/", _console),
        *session.routes_of_session,
        *assets.routes,
        _Elsewhere("/{path:path}", session.page(_nothing), methods=["GET"]),
    ]
