"""Embedding spaces of collections, under `/api/v1/collections/{name}/embedder`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import NotFound
from interlock.flows import embedder_change
from interlock.flows.embedder_views import status_view
from interlock.http.callers import app_of, context_of, read_optional
from interlock.knowledge.sources import SourceSpec
from interlock.stores.jobs.base import Job

__all__ = ["routes"]


def _spec(request: Request, ctx: Context) -> SourceSpec:
    app = app_of(request)
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    if ctx.tenant != app.workspace.settings.tenant:
        # The source files of this workspace are its own tenant's.
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    return app.source_spec(request.path_params["name"])


async def status(request: Request) -> Response:
    """``GET /api/v1/collections/{name}/embedder``: which space answers, what stands beside it, the last comparison."""
    ctx = await context_of(request)
    spec = _spec(request, ctx)
    return JSONResponse(status_view(await app_of(request).parts.knowledge.spaces.status(ctx, spec.collection)))


class _Nothing(BaseModel):
    """A body without fields: one that is given is refused instead of being overlooked."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Compared(_Nothing):
    limit: int | None = Field(default=None, ge=1)
    titles: int = Field(default=embedder_change.TITLES, ge=0, le=1000)


def _queued(
    enqueue: Callable[..., Awaitable[Job]], told: str, body: type[_Nothing] = _Nothing
) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        ctx = await context_of(request)
        spec = _spec(request, ctx)
        asked = await read_optional(request, body)
        job = await enqueue(app_of(request).parts, ctx, spec.collection, **asked.model_dump())
        return JSONResponse({"job": job.id, "state": job.state}, 202)

    endpoint.__doc__ = told
    return endpoint


_STEPS: dict[str, tuple[Callable[..., Awaitable[Job]], str, type[_Nothing]]] = {
    "build": (embedder_change.enqueue_build, "builds the space of the embedder that the settings name", _Nothing),
    "compare": (
        embedder_change.enqueue_compare,
        'compares both spaces by accepted questions and titles; ``{"limit": 50, "titles": 100}`` says by how many',
        _Compared,
    ),
    "switch": (embedder_change.enqueue_switch, "lets the other space answer; 409 while it is incomplete", _Nothing),
    "drop": (embedder_change.enqueue_drop, "removes the space that does not answer", _Nothing),
}
routes = [
    Route("/api/v1/collections/{name}/embedder", status),
    *(
        Route(
            f"/api/v1/collections/{{name}}/embedder/{step}",
            _queued(
                enqueue, f"``POST /api/v1/collections/{{name}}/embedder/{step}``: {told}. Queues it as a job.", body
            ),
            methods=["POST"],
        )
        for step, (enqueue, told, body) in _STEPS.items()
    ),
]
