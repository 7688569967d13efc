"""From an HTTP request to a context: who is calling, for whom, and is the caller who it seems to be."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Literal, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from interlock.app import App
from interlock.core.context import Context
from interlock.core.errors import InvalidInput, TooLarge, Unauthenticated, UnsupportedMediaType
from interlock.core.ids import new_id
from interlock.gateway.fields import field_error

__all__ = [
    "app_of",
    "context_of",
    "identity_of",
    "is_loopback",
    "read_bytes",
    "read_json",
    "read_optional",
    "read_stream",
]

_PROXY_HEADERS = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
    "x-client-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "fly-client-ip",
)
_CACHE_MODES: dict[str, Literal["use", "refresh", "no-store"]] = {
    "use": "use",
    "refresh": "refresh",
    "no-store": "no-store",
}
_Body = TypeVar("_Body", bound=BaseModel)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


def app_of(request: Request) -> App:
    """The running App."""
    app = request.app.state.interlock
    assert isinstance(app, App)
    return app


def is_loopback(request: Request) -> bool:
    """True when the call was made on this machine by someone at this machine.

    A proxy in front makes every caller look local, and a web page can make a browser call loopback under a name of its
    own (DNS rebinding) or from its own origin: none of these counts.
    """
    client = request.client
    if client is None or any(name in request.headers for name in _PROXY_HEADERS):
        return False
    try:
        if not ipaddress.ip_address(client.host).is_loopback:
            return False
    except ValueError:
        return False
    origin = request.headers.get("origin")
    try:
        host = urlsplit("//" + request.headers.get("host", "")).hostname or ""
        same_origin = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        # "[": no address at all.
        return False
    # `server.hosts` names a machine to others, so a call under such a name is not a local one.
    return same_origin and host in _LOOPBACK_NAMES


def give_name(request: Request) -> None:
    """Make the id of one call: its answer carries it from here on, in the header and where the body has a place."""
    request.state.request_id = new_id("req")
    request.state.identity = {"x-request-id": request.state.request_id}


async def context_of(request: Request) -> Context:
    """Authenticate one API call; errors of it carry its ids from here on. Raises: Unauthenticated."""
    give_name(request)
    header = request.headers.get("authorization", "")
    scheme, _, credential = header.partition(" ")
    if header and (scheme.lower() != "bearer" or not credential.strip()):
        raise Unauthenticated("the Authorization header must be 'Bearer <API key>'")
    bearer = credential.strip() or request.headers.get("x-api-key") or request.headers.get("x-goog-api-key")
    # Keys of other services are often left in place; only ours count, so a loopback call with one is still local.
    local = is_loopback(request)
    if bearer and not bearer.startswith("il_") and local and app_of(request).workspace.settings.access.anonymous:
        bearer = None
    ctx = await app_of(request).parts.access.authenticate(
        bearer=bearer,
        behalf=request.headers.get("x-interlock-on-behalf-of"),
        loopback=local,
        conversation=request.headers.get("x-interlock-conversation"),
    )
    # A request that began on the fast lane keeps the trace that it began there.
    ctx = replace(
        ctx,
        request_id=request.state.request_id,
        trace_id=request.scope.get("interlock.trace_id", ctx.trace_id),
        cache=_cache_of(request),
    )
    request.state.identity["x-interlock-trace-id"] = ctx.trace_id
    request.state.caller = ctx
    return ctx


def _cache_of(request: Request) -> Literal["use", "refresh", "no-store"]:
    """What the header ``x-interlock-cache`` asks for. Raises: InvalidInput."""
    wanted = request.headers.get("x-interlock-cache", "use").strip().lower()
    if wanted not in _CACHE_MODES:
        raise InvalidInput("x-interlock-cache is use, refresh or no-store", param="x-interlock-cache")
    return _CACHE_MODES[wanted]


def identity_of(request: Request) -> dict[str, str]:
    """Headers that name this call in logs, traces and the audit log, and tell of the limits that it met."""
    headers = dict(getattr(request.state, "identity", {}))
    caller: Context | None = getattr(request.state, "caller", None)
    if caller is not None:
        if caller.notices.near:
            headers["x-interlock-limit-warning"] = ", ".join(caller.notices.near)[:1000]
        if caller.notices.quota is not None:
            headers.update(caller.notices.quota())
    return headers


# Any: JSON before validation.
async def read_json(request: Request) -> Any:
    """The body as JSON. Raises: InvalidInput, TooLarge, UnsupportedMediaType (a form of a web page)."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Browsers send form types across origins without asking first; JSON they must ask for.
        raise UnsupportedMediaType("send the body as application/json", param="Content-Type")
    body = await read_bytes(request)
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the body is not JSON", code="invalid_json") from error
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH:
        _check_depth(value)
    if b"\\ud" in body.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InvalidInput("the body holds half a character (a lone surrogate)", code="invalid_json") from error
    return value


async def read_optional(request: Request, model: type[_Body]) -> _Body:
    """The body by a model; none stands for an empty object. Raises: as `read_json`; InvalidInput naming the field."""
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    try:
        return model.model_validate({} if empty else await read_json(request))
    except ValidationError as error:
        raise field_error(error) from error


_MAX_DEPTH = 500


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise InvalidInput(f"the body is nested more than {_MAX_DEPTH} levels deep", code="invalid_json")


async def read_bytes(request: Request) -> bytes:
    """The body as it is. Raises: TooLarge."""
    body = bytearray()
    async for piece in read_stream(request):
        body += piece
    return bytes(body)


async def read_stream(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces, at most `server.max_body_bytes` of it. Raises: TooLarge."""
    limit = app_of(request).workspace.settings.server.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is over {limit:,} bytes",
        hint="send less, or raise server.max_body_bytes in interlock.yaml",
    )
