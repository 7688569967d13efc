"""Errors as HTTP answers, in the shape OpenAI's clients understand."""

from __future__ import annotations

import logging
import math

from starlette.requests import Request
from starlette.responses import JSONResponse

from interlock.core.errors import InterlockError

__all__ = ["body_of", "on_error", "on_unexpected"]

_log = logging.getLogger("interlock.server")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def body_of(error: InterlockError) -> dict[str, object]:
    """``{"error": {message, type, param, code, hint}}``; `hint` is ours, what to do next."""
    return {
        "error": {
            "message": str(error),
            "type": _TYPES.get(error.status, "server_error"),
            "param": error.param,
            "code": error.code,
            "hint": error.hint,
        }
    }


def response_of(error: InterlockError) -> JSONResponse:
    """The answer to a failed call."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if not error.retryable:
        # OpenAI's clients retry 429 and 5xx by themselves unless told that it is of no use.
        headers["x-should-retry"] = "false"
    return JSONResponse(body_of(error), error.status, headers)


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of our own errors."""
    assert isinstance(error, InterlockError)
    return response_of(error)


async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Handler of everything else: logged with its traceback, told without it."""
    _log.error("unexpected %s at %s", type(error).__name__, request.url.path, exc_info=error)
    return JSONResponse(
        {
            "error": {
                "message": "something went wrong here; the server's log has the details",
                "type": "server_error",
                "param": None,
                "code": "internal_error",
                "hint": None,
            }
        },
        500,
    )
