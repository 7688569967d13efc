"""What collections were, under `/api/v1/collections/{name}`, and erasures under `/api/v1/erasures`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId
from interlock.flows import erasures, ingest
from interlock.flows.history_views import certificate_view, diff_view, hold_view, report_view, snapshot_view
from interlock.flows.lineage import answer_lineage, collection_lineage
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.knowledge.sources import SourceSpec

__all__ = ["routes"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)


class _Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    snapshot: str = Field(min_length=1, max_length=80)


class _Prune(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_days: float = Field(ge=1.0, le=36_500.0)
    dry_run: bool = False


class _Erasure(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["document", "source", "subject"]
    value: str = Field(min_length=1, max_length=256)
    collection: str = Field(default="", max_length=64)
    dry_run: bool = False


def _spec(request: Request, ctx: Context) -> SourceSpec:
    return _spec_named(request, ctx, request.path_params["name"])


def _spec_named(request: Request, ctx: Context, name: str) -> SourceSpec:
    app = app_of(request)
    ctx.require(*_OVERSIGHT)
    if ctx.tenant != app.workspace.settings.tenant:
        # The source files of this workspace are its own tenant's.
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    return app.source_spec(name)


async def snapshots(request: Request) -> Response:
    """``GET /api/v1/collections/{name}/snapshots``: newest first, which is current, and whether it is held."""
    ctx = await context_of(request)
    spec, history = _spec(request, ctx), app_of(request).parts.knowledge.history
    # First: it is recorded then, should something have been erased since the last run.
    current = await history.snapshot(ctx, spec.collection)
    found = await history.snapshots(ctx, spec.collection)
    hold = await history.held(ctx, spec.collection)
    return JSONResponse({"data": [snapshot_view(one) for one in found], "current": current.id, "held": hold_view(hold)})


async def diff(request: Request) -> Response:
    """``GET /api/v1/collections/{name}/diff?before=&after=``: what changed; without `after`, until now."""
    ctx = await context_of(request)
    spec = _spec(request, ctx)
    before, after = request.query_params.get("before", ""), request.query_params.get("after")
    found = await app_of(request).parts.knowledge.history.diff(ctx, spec.collection, before, after)
    return JSONResponse(diff_view(found))


async def rollback(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/rollback`` with ``{"snapshot"}``: queues it as a job."""
    ctx = await context_of(request)
    spec, asked = _spec(request, ctx), _parsed(_Rollback, await read_json(request))
    job = await ingest.enqueue_rollback(app_of(request).parts, ctx, spec.collection, asked.snapshot)
    return JSONResponse({"job": job.id, "state": job.state}, 202)


async def resume(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/resume``: runs mirror the sources again."""
    ctx = await context_of(request)
    spec = _spec(request, ctx)
    await ingest.resume(app_of(request).parts, ctx, spec)
    return JSONResponse({"collection": spec.collection, "held": None})


async def rebuild(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/rebuild``: queues a job that makes the index again from what was kept."""
    ctx = await context_of(request)
    spec = _spec(request, ctx)
    job = await ingest.enqueue_rebuild(app_of(request).parts, ctx, spec.collection)
    return JSONResponse({"job": job.id, "state": job.state}, 202)


async def prune(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/prune`` with ``{"keep_days", "dry_run"}``: queues it as a job, or tells."""
    ctx = await context_of(request)
    spec, asked = _spec(request, ctx), _parsed(_Prune, await read_json(request))
    parts = app_of(request).parts
    if asked.dry_run:
        done = await parts.knowledge.history.prune(ctx, spec.collection, keep_days=asked.keep_days, dry_run=True)
        return JSONResponse(report_view(done))
    job = await ingest.enqueue_prune(parts, ctx, spec.collection, asked.keep_days)
    return JSONResponse({"job": job.id, "state": job.state}, 202)


async def lineage(request: Request) -> Response:
    """``GET /api/v1/lineage?collection=|answer=``: OpenLineage run events of a collection, or of one answer's trace."""
    ctx = await context_of(request)
    collection, answer = request.query_params.get("collection"), request.query_params.get("answer")
    if (collection is None) == (answer is None):
        raise InvalidInput("give either collection or answer", param="collection")
    parts = app_of(request).parts
    if answer is not None:
        return JSONResponse({"data": await answer_lineage(parts, ctx, answer)})
    assert collection is not None
    return JSONResponse({"data": await collection_lineage(parts, ctx, _spec_named(request, ctx, collection))})


async def erase(request: Request) -> Response:
    """``POST /api/v1/erasures`` with ``{"kind", "value", "collection"?, "dry_run"?}``: the signed certificate."""
    ctx = await context_of(request)
    asked = _parsed(_Erasure, await read_json(request))
    parts = app_of(request).parts
    what = erasures.Erasure(asked.kind, asked.value, asked.collection)
    if asked.dry_run:
        targets = await erasures.plan_erasure(parts, ctx, what)
        listed = [{"id": t.id, "collection": t.collection, "passages": t.passages} for t in targets]
        return JSONResponse({"data": listed})
    return JSONResponse(certificate_view(await erasures.erase(parts, ctx, what)), 201)


async def certificates(request: Request) -> Response:
    """``GET /api/v1/erasures``: certificates, newest first."""
    ctx = await context_of(request)
    found = await app_of(request).parts.governance.certificates.list(ctx)
    return JSONResponse({"data": [certificate_view(one) for one in found]})


async def certificate(request: Request) -> Response:
    """``GET /api/v1/erasures/{id}``: one, with its signature checked."""
    ctx = await context_of(request)
    found = await app_of(request).parts.governance.certificates.get(ctx, request.path_params["id"])
    return JSONResponse(certificate_view(found))


async def allow(request: Request) -> Response:
    """``POST /api/v1/documents/{id}/allow``: ingests may read an erased document again."""
    ctx = await context_of(request)
    document = DocumentId(request.path_params["id"])
    await app_of(request).parts.knowledge.history.let_in(ctx, document)
    return JSONResponse({"id": document, "kept_out": False})


# Any: the model that was asked for.
def _parsed(model: type[Any], body: object) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from error


routes = [
    Route("/api/v1/collections/{name}/snapshots", snapshots),
    Route("/api/v1/collections/{name}/diff", diff),
    Route("/api/v1/collections/{name}/rollback", rollback, methods=["POST"]),
    Route("/api/v1/collections/{name}/resume", resume, methods=["POST"]),
    Route("/api/v1/collections/{name}/prune", prune, methods=["POST"]),
    Route("/api/v1/collections/{name}/rebuild", rebuild, methods=["POST"]),
    Route("/api/v1/lineage", lineage),
    Route("/api/v1/erasures", certificates),
    Route("/api/v1/erasures", erase, methods=["POST"]),
    Route("/api/v1/erasures/{id}", certificate),
    Route("/api/v1/documents/{id}/allow", allow, methods=["POST"]),
]
