"""Sources over HTTP: how fresh they are, runs on demand, uploads, and webhooks of the systems they come from."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import asdict
from typing import Any

from anyio import to_thread
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, NotFound, Unauthenticated
from interlock.flows.ingest import sync_source
from interlock.http.callers import app_of, context_of, give_name, read_bytes, read_optional
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.types import SourceStatus
from interlock.knowledge.uploads import remove_upload, write_upload

__all__ = ["routes"]

_SIGNATURES = ("x-interlock-signature-256", "x-hub-signature-256")
"""Ours, and the header that GitHub and its kin send: ``sha256=`` and the HMAC of the body in hex."""


def _spec(request: Request, ctx: Context) -> SourceSpec:
    app = app_of(request)
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    if ctx.tenant != app.workspace.settings.tenant:
        # The source files of this workspace are its own tenant's.
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    return app.source_spec(request.path_params["name"])


async def list_sources(request: Request) -> Response:
    """``GET /api/v1/collections/{name}/sources``: each source with its freshness."""
    ctx = await context_of(request)
    found = await app_of(request).parts.knowledge.sources(ctx, _spec(request, ctx))
    return JSONResponse({"data": [_status(status) for status in found]})


class _SyncRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    allow_removals: bool = False


async def sync(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/sources/{source}/sync``: queues a run of this source.

    The body may be empty, or ``{"allow_removals": true}``: all or most of its documents may go.
    """
    ctx = await context_of(request)
    spec = _spec(request, ctx)
    asked = await read_optional(request, _SyncRequest)
    job = await sync_source(
        app_of(request).parts,
        ctx,
        spec,
        request.path_params["source"],
        why="asked",
        allow_removals=asked.allow_removals,
    )
    return JSONResponse({"job": job.id, "state": job.state}, 202)


async def upload(request: Request) -> Response:
    """``PUT …/sources/{source}/files/{path}``: the body becomes a file of a folder source that takes uploads."""
    ctx = await context_of(request)
    app, spec = app_of(request), _spec(request, ctx)
    source, path = request.path_params["source"], request.path_params["path"]
    data = await read_bytes(request)
    most = app.workspace.settings.knowledge.max_file_bytes
    is_new = await to_thread.run_sync(lambda: write_upload(spec, source, path, data, max_bytes=most))
    job = await sync_source(app.parts, ctx, spec, source, why="upload")
    return JSONResponse({"path": path, "size_bytes": len(data), "job": job.id}, 201 if is_new else 200)


async def withdraw(request: Request) -> Response:
    """``DELETE …/sources/{source}/files/{path}``: removes the file; the run it queues removes the document."""
    ctx = await context_of(request)
    app, spec = app_of(request), _spec(request, ctx)
    source, path = request.path_params["source"], request.path_params["path"]
    await to_thread.run_sync(lambda: remove_upload(spec, source, path))
    job = await sync_source(app.parts, ctx, spec, source, why="upload")
    return JSONResponse({"path": path, "deleted": True, "job": job.id})


async def webhook(request: Request) -> Response:
    """``POST /hooks/sources/{name}/{source}``: a signed call says that the source changed; its body is not read.

    Whatever is wrong looks the same from outside: a collection, a source, a secret or a signature.
    """
    give_name(request)
    app = app_of(request)
    body = await read_bytes(request)
    try:
        spec = app.source_spec(request.path_params["name"])
        source = spec.source(request.path_params["source"])
    except InterlockError as error:
        raise _refused() from error
    secret = os.environ.get(source.webhook_secret_env or "", "")
    given = next((request.headers[name] for name in _SIGNATURES if name in request.headers), "")
    proof = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not secret or not hmac.compare_digest(proof.encode(), given.strip().encode()):
        raise _refused()
    job = await sync_source(app.parts, app.owner(), spec, source.name, why="webhook")
    return JSONResponse({"job": job.id, "state": job.state}, 202)


def _refused() -> Unauthenticated:
    return Unauthenticated(
        "there is no such webhook, or the signature is wrong",
        code="invalid_signature",
        hint="sign the body with the secret that webhook_secret_env of the source names",
    )


# Any: a JSON object on its way out.
def _status(status: SourceStatus) -> dict[str, Any]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in asdict(status).items()}


routes = [
    Route("/api/v1/collections/{name}/sources", list_sources),
    Route("/api/v1/collections/{name}/sources/{source}/sync", sync, methods=["POST"]),
    Route("/api/v1/collections/{name}/sources/{source}/files/{path:path}", upload, methods=["PUT"]),
    Route("/api/v1/collections/{name}/sources/{source}/files/{path:path}", withdraw, methods=["DELETE"]),
    Route("/hooks/sources/{name}/{source}", webhook, methods=["POST"]),
]
