"""What both OpenAI wires share: labels, errors, tool choice, effort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.core.errors import InterlockError, InvalidInput
from interlock.gateway.ports import Fault

__all__ = ["EFFORTS", "error_object", "fault", "tags_of"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_MAX_TAGS = 16
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(error: InterlockError) -> dict[str, Any]:
    """``{message, type, param, code, hint}``; `hint` is ours, what to do next. Any: JSON."""
    return {
        "message": str(error),
        "type": _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error"),
        "param": error.param,
        "code": error.code,
        "hint": error.hint,
    }


def fault(error: InterlockError) -> Fault:
    """OpenAI's error body."""
    return Fault(error.status, {"error": error_object(error)})


def tags_of(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The caller's labels. Raises: InvalidInput: more than 16, or a long one."""
    tags = dict(metadata or {})
    if len(tags) > _MAX_TAGS:
        raise InvalidInput(f"metadata holds at most {_MAX_TAGS} labels", param="metadata")
    for name, value in tags.items():
        if len(name) > 64 or len(value) > 512:
            raise InvalidInput("a label's name has at most 64 characters and its value 512", param="metadata")
    return tags
