"""Errors as HTTP answers, each in the shape of the API it was asked through."""

from __future__ import annotations

import logging
import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from interlock.core.errors import InterlockError, NotFound
from interlock.flows.respond import codec
from interlock.gateway.ports import Fault
from interlock.http.callers import give_name, identity_of

__all__ = ["body_of", "fault_of", "on_bad_method", "on_error", "on_left", "on_not_found", "on_unexpected", "wire_of"]

_log = logging.getLogger("interlock.server")


class _BadMethod(InterlockError):
    code = "method_not_allowed"
    status = 405


def wire_of(request: Request) -> str:
    """The wire whose clients read the answers of this address."""
    path = request.url.path
    if path.startswith(("/v1beta/", "/v1beta1/")):
        return "google.generate"
    if path.startswith("/v1/messages"):
        return "anthropic.messages"
    if path.startswith("/v1/models"):
        # Three APIs share this address; each vendor's client says who it is.
        if request.method == "POST" or "x-goog-api-client" in request.headers or "x-goog-api-key" in request.headers:
            return "google.generate"
        return "anthropic.messages" if "anthropic-version" in request.headers else "openai.chat"
    return "openai.responses" if path.startswith("/v1/responses") else "openai.chat"


def body_of(error: InterlockError) -> dict[str, object]:
    """``{"error": {message, type, param, code, hint}}``; `hint` is ours, what to do next."""
    return dict(codec("openai.chat").fault(error, "").body)


def fault_of(request: Request, error: InterlockError) -> Fault:
    """`error` as the API behind this address writes it."""
    return codec(wire_of(request)).fault(error, getattr(request.state, "request_id", ""))


def _answer(request: Request, error: InterlockError) -> JSONResponse:
    if not hasattr(request.state, "request_id"):
        # It led nowhere, or failed before anybody looked who is calling.
        give_name(request)
    fault = fault_of(request, error)
    headers = identity_of(request)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if not error.retryable:
        # OpenAI's and Anthropic's clients retry 429 and 5xx by themselves unless told that it is of no use.
        headers["x-should-retry"] = "false"
    return JSONResponse(fault.body, fault.status, headers)


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of our own errors."""
    assert isinstance(error, InterlockError)
    return _answer(request, error)


async def on_not_found(request: Request, error: Exception) -> JSONResponse:
    """Handler of addresses that lead nowhere."""
    return _answer(request, NotFound(f"there is nothing at {request.url.path[:200]}"))


async def on_bad_method(request: Request, error: Exception) -> JSONResponse:
    """Handler of methods that an address does not know."""
    return _answer(request, _BadMethod(f"{request.method} is not possible at {request.url.path[:200]}"))


async def on_left(request: Request, error: Exception) -> Response:
    """Handler of clients that left, or were too slow, before their body was whole: nobody reads it but the log."""
    return Response(status_code=408 if request.scope.get("interlock.timed_out") else 499)


async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Handler of everything else: logged with its traceback, told without it."""
    _log.error("unexpected %s at %s", type(error).__name__, request.url.path, exc_info=error)
    return _answer(request, InterlockError("something went wrong here; the server's log has the details"))
