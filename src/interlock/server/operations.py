"""Admin REST of the gateway: limits and budgets, routes and why, providers, the configuration."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.configuration import Accepted, Reloaded
from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.cost.reconcile import reconcile
from interlock.cost.rules import read_rule
from interlock.flows.limit_views import reconciled_view, rule_view, use_view
from interlock.flows.operations import (
    Asking,
    explain_route,
    probe_provider,
    provider_register,
    provider_rows,
    registered_view,
    route_answer_view,
    route_rows,
)
from interlock.gateway.kept_lanes import KeptLanes
from interlock.http.callers import app_of, context_of, read_json, read_optional
from interlock.server.running import ask_to_reload, running

__all__ = ["at_home", "routes"]

# Any in this module: JSON objects on their way in and out.


async def limits(request: Request) -> Response:
    """``GET /api/v1/limits``, or ``/api/v1/budgets`` for those on money."""
    ctx = await context_of(request)
    rows = app_of(request).parts.limits.list(ctx)
    only_money = request.url.path.endswith("budgets")
    return JSONResponse({"data": [rule_view(row) for row in rows if row.rule.money is not None or not only_money]})


async def limit(request: Request) -> Response:
    """``GET /api/v1/limits/{name}``."""
    ctx = await context_of(request)
    return JSONResponse(rule_view(app_of(request).parts.limits.get(ctx, request.path_params["name"])))


async def put_limit(request: Request) -> Response:
    """``PUT /api/v1/limits/{name}``: set or replace it; holds in every worker within a few seconds."""
    ctx = await context_of(request)
    body = await read_json(request)
    if not isinstance(body, dict):
        raise InvalidInput("the body must be a JSON object")
    name = request.path_params["name"]
    if body.get("name", name) != name:
        raise InvalidInput("the name in the body is not that of the address", param="name")
    known = await app_of(request).parts.limits.put(ctx, read_rule({**body, "name": name}))
    return JSONResponse({**rule_view(known), "begins_anew": known.begins_anew})


async def delete_limit(request: Request) -> Response:
    """``DELETE /api/v1/limits/{name}``: one that was set at run time."""
    ctx = await context_of(request)
    return JSONResponse(rule_view(await app_of(request).parts.limits.remove(ctx, request.path_params["name"])))


async def limit_use(request: Request) -> Response:
    """``GET /api/v1/limit-use?limit=NAME``: every counter of the present windows and periods."""
    ctx = await context_of(request)
    rows = await app_of(request).parts.limits.use(ctx, request.query_params.get("limit"))
    return JSONResponse({"data": [use_view(row) for row in rows]})


class _ReconcileRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    repair: bool = False


async def reconcile_limits(request: Request) -> Response:
    """``POST /api/v1/limit-use/reconcile``: counters against the ledger; with `repair`, put right."""
    ctx = await context_of(request)
    body = await read_optional(request, _ReconcileRequest)
    app = app_of(request)
    found = await reconcile(
        app.parts.cost,
        app.sql,
        app.kv,
        app.parts.governance,
        ctx,
        journals=app.workspace.data / "journal",
        repair=body.repair,
        held=await KeptLanes(app.parts.kept).held(ctx.tenant),
    )
    return JSONResponse(reconciled_view(found))


async def list_routes(request: Request) -> Response:
    """``GET /api/v1/routes``: named routes and those of apps, with the state of their targets."""
    ctx = at_home(request, await context_of(request))
    return JSONResponse({"data": route_rows(app_of(request).parts, ctx)})


class _ExplainRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    tools: bool = False
    images: bool = False
    json_schema: bool = False
    input_tokens: int = Field(default=0, ge=0, le=100_000_000)
    max_output_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    regions: list[str] = Field(default_factory=list, max_length=32)
    key: str = Field(default="", max_length=64)
    user: str = Field(default="", max_length=256)
    app: str = Field(default="", max_length=64)
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)


async def explain(request: Request) -> Response:
    """``POST /api/v1/routes/explain``: where a request would go now, and why not elsewhere. Sends nothing."""
    ctx = at_home(request, await context_of(request))
    body = await read_optional(request, _ExplainRequest)
    asking = Asking(
        body.model,
        tools=body.tools,
        images=body.images,
        schema=body.json_schema,
        input_tokens=body.input_tokens,
        output_tokens=body.max_output_tokens,
        regions=tuple(body.regions),
        key=body.key,
        user=body.user,
        app=body.app,
        tags=body.metadata,
    )
    return JSONResponse(route_answer_view(await explain_route(app_of(request).parts, ctx, asking)))


async def providers(request: Request) -> Response:
    """``GET /api/v1/providers``."""
    ctx = at_home(request, await context_of(request))
    return JSONResponse({"data": provider_rows(app_of(request).parts, ctx)})


class _TestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, min_length=1, max_length=256)


async def check_provider(request: Request) -> Response:
    """``POST /api/v1/providers/{name}/test``: ask it for its models, or `model` for a word."""
    ctx = at_home(request, await context_of(request))
    body = await read_optional(request, _TestRequest)
    found = await probe_provider(app_of(request).parts, ctx, request.path_params["name"], model=body.model)
    return JSONResponse(found._asdict())


async def register(request: Request) -> Response:
    """``GET /api/v1/provider-register``."""
    ctx = at_home(request, await context_of(request))
    return JSONResponse({"data": [registered_view(row) for row in provider_register(app_of(request).parts, ctx)]})


async def reload(request: Request) -> Response:
    """``POST /api/v1/config/reload``: this worker answers; the others of this machine follow."""
    ctx = await context_of(request)
    app = app_of(request)
    done = await app.configuration.reload(ctx)
    _tell_others(request)
    return JSONResponse(_reloaded(done))


async def history(request: Request) -> Response:
    """``GET /api/v1/config/history``: accepted configurations, newest first, without their text."""
    ctx = await context_of(request)
    return JSONResponse({"data": [_accepted(entry) for entry in app_of(request).configuration.history(ctx)]})


class _RollbackRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int | None = Field(default=None, ge=1)


async def rollback(request: Request) -> Response:
    """``POST /api/v1/config/rollback``: write an earlier `interlock.yaml` and reload it."""
    ctx = await context_of(request)
    body = await read_optional(request, _RollbackRequest)
    done = await app_of(request).configuration.rollback(ctx, body.number)
    _tell_others(request)
    return JSONResponse(_reloaded(done))


def _tell_others(request: Request) -> None:
    data = app_of(request).workspace.data
    for server in running(data):
        if server.pid != os.getpid():
            ask_to_reload(data, server, "")


def _reloaded(done: Reloaded) -> dict[str, Any]:
    return asdict(done)


def _accepted(entry: Accepted) -> dict[str, Any]:
    return {"number": entry.number, "at": entry.at.isoformat(), "by": entry.by, "sha256": entry.digest}


def at_home(request: Request, ctx: Context) -> Context:
    """Providers are the installation's: another tenant of it is not told of them."""
    if ctx.tenant != app_of(request).workspace.settings.tenant:
        raise NotFound("your tenant has no providers of its own in this workspace")
    return ctx


routes = [
    Route("/api/v1/limits", limits),
    Route("/api/v1/budgets", limits),
    Route("/api/v1/limits/{name}", limit, methods=["GET"]),
    Route("/api/v1/limits/{name}", put_limit, methods=["PUT"]),
    Route("/api/v1/limits/{name}", delete_limit, methods=["DELETE"]),
    Route("/api/v1/limit-use", limit_use),
    Route("/api/v1/limit-use/reconcile", reconcile_limits, methods=["POST"]),
    Route("/api/v1/routes", list_routes),
    Route("/api/v1/routes/explain", explain, methods=["POST"]),
    Route("/api/v1/providers", providers),
    Route("/api/v1/providers/{name}/test", check_provider, methods=["POST"]),
    Route("/api/v1/provider-register", register),
    Route("/api/v1/config/reload", reload, methods=["POST"]),
    Route("/api/v1/config/history", history),
    Route("/api/v1/config/rollback", rollback, methods=["POST"]),
]
