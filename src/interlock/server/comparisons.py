"""Variants of apps beside each other, and models that go out of use, under `/api/v1`."""

from __future__ import annotations

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.evals.matrix.types import Matrix
from interlock.flows.evaluation_runs import KeptComparisons
from interlock.flows.matrix import freeze_variant
from interlock.flows.release_views import release_view
from interlock.http.callers import app_of, context_of, read_json
from interlock.server.releases import limit_of, parsed

__all__ = ["routes"]


class _Freeze(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str = Field(min_length=1, max_length=500, description="its label")
    note: str = Field(default="", max_length=1000)


def _kept(request: Request) -> KeptComparisons:
    workspace = app_of(request).workspace
    return KeptComparisons(workspace.data / "evaluations", workspace.settings.tenant)


def _line(matrix: Matrix) -> dict[str, object]:
    return {
        "id": matrix.id,
        "app": matrix.app,
        "suite": matrix.suite,
        "began_at": matrix.began_at.isoformat(),
        "ended": matrix.ended,
        "variants": len(matrix.variants),
        "frontier": list(matrix.frontier),
        "recommended": None if matrix.advice is None else matrix.advice.recommended,
    }


async def list_comparisons(request: Request) -> Response:
    """``GET /api/v1/comparisons?app=&limit=``: newest first."""
    ctx = await context_of(request)
    found = await _kept(request).list(ctx, app=request.query_params.get("app"), limit=limit_of(request))
    return JSONResponse({"data": [_line(matrix) for matrix in found]})


async def show(request: Request) -> Response:
    """``GET /api/v1/comparisons/{id}``: with every figure, and the advice where it was asked for."""
    ctx = await context_of(request)
    return JSONResponse(msgspec.to_builtins(await _kept(request).one(ctx, request.path_params["id"])))


async def freeze(request: Request) -> Response:
    """``POST /api/v1/comparisons/{id}/freeze`` with ``{"variant", "note"?}``: a measured variant becomes a release."""
    ctx = await context_of(request)
    asked = parsed(_Freeze, await read_json(request))
    matrix = await _kept(request).one(ctx, request.path_params["id"])
    info = await freeze_variant(app_of(request).parts, ctx, matrix, asked.variant, note=asked.note)
    return JSONResponse(release_view(info), 201)


async def migrations(request: Request) -> Response:
    """``GET /api/v1/migrations?limit=``: what was found of models that go out of use, newest first."""
    ctx = await context_of(request)
    found = await _kept(request).migrations(ctx, limit=limit_of(request))
    return JSONResponse({"data": [msgspec.to_builtins(each) for each in found]})


routes = [
    Route("/api/v1/comparisons", list_comparisons),
    Route("/api/v1/comparisons/{id}", show),
    Route("/api/v1/comparisons/{id}/freeze", freeze, methods=["POST"]),
    Route("/api/v1/migrations", migrations),
]
