"""Flags by the OpenFeature Remote Evaluation Protocol, so that any language's provider can ask.

https://github.com/open-feature/protocol, version 0.2: one flag, all flags with an ETag, what a provider should know.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.flows.flags import Unresolved, evaluate_all, evaluate_one
from interlock.http.callers import app_of, context_of, read_json
from interlock.releases.flags.evaluating import MISSING_KEY
from interlock.releases.flags.types import Resolution

__all__ = ["routes"]

# Any in this module: JSON.


async def one(request: Request) -> Response:
    """``POST /ofrep/v1/evaluate/flags/{key}`` with ``{"context": {"targetingKey", …}}``."""
    ctx = await context_of(request)
    key = request.path_params["key"]
    try:
        found = await evaluate_one(app_of(request).parts, ctx, key, await _context(request))
    except NotFound as error:
        return JSONResponse(_failed(key, error), 404)
    except InvalidInput as error:
        return JSONResponse(_failed(key, error), 400)
    return JSONResponse(_found(found))


async def every(request: Request) -> Response:
    """``POST /ofrep/v1/evaluate/flags``: all of them; 304 where `If-None-Match` has the ETag of what they are now."""
    ctx = await context_of(request)
    try:
        found = await evaluate_all(app_of(request).parts, ctx, await _context(request))
    except InvalidInput as error:
        failed = _failed("", error)
        del failed["key"]
        return JSONResponse(failed, 400)
    body = {"flags": [_failed(each.key, each) if isinstance(each, Unresolved) else _found(each) for each in found]}
    tag = f'"{digest_bytes(canonical_bytes(body))[7:39]}"'
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers={"etag": tag})
    return JSONResponse(body, headers={"etag": tag, "cache-control": "private, no-cache"})


async def configuration(request: Request) -> Response:
    """``GET /ofrep/v1/configuration``: what a provider may rely on."""
    await context_of(request)
    return JSONResponse(
        {
            "name": "Interlock",
            "capabilities": {
                "flagEvaluation": {"supportedTypes": ["boolean", "string", "int", "float", "object"]},
                "caching": {"enabled": False},
                "cacheInvalidation": {"polling": {"enabled": True, "minPollingIntervalMs": 1000}},
            },
        }
    )


async def _context(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    context = body.get("context", {}) if isinstance(body, dict) else None
    if not isinstance(context, dict):
        raise InvalidInput("an evaluation context is an object", param="context", code="invalid_context")
    return context


def _found(found: Resolution) -> dict[str, Any]:
    told: dict[str, Any] = {"key": found.key, "reason": found.reason}
    if found.value is not None:
        told["value"] = found.value
    if found.variant is not None:
        told["variant"] = found.variant
    if found.metadata:
        told["metadata"] = dict(found.metadata)
    return told


def _failed(key: str, error: InterlockError) -> dict[str, Any]:
    code = "GENERAL"
    if isinstance(error, NotFound):
        code = "FLAG_NOT_FOUND"
    elif error.code == MISSING_KEY:
        code = "TARGETING_KEY_MISSING"
    elif (error.param or "").startswith("context"):
        code = "INVALID_CONTEXT"
    elif error.status == 400 and error.param is None:
        code = "PARSE_ERROR"
    return {"key": key, "errorCode": code, "errorDetails": str(error)}


routes = [
    Route("/ofrep/v1/evaluate/flags", every, methods=["POST"]),
    Route("/ofrep/v1/evaluate/flags/{key}", one, methods=["POST"]),
    Route("/ofrep/v1/configuration", configuration),
]
