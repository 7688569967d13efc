"""From an HTTP request to a context: who is calling, for whom, and is the caller who it seems to be."""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from interlock.app import App
from interlock.core.context import Context
from interlock.core.errors import InvalidInput, TooLarge, Unauthenticated, UnsupportedMediaType

__all__ = ["app_of", "context_of", "is_loopback", "read_json"]

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


async def context_of(request: Request) -> Context:
    """Authenticate one API call. Raises: Unauthenticated."""
    header = request.headers.get("authorization", "")
    scheme, _, credential = header.partition(" ")
    if header and (scheme.lower() != "bearer" or not credential.strip()):
        raise Unauthenticated("the Authorization header must be 'Bearer <API key>'")
    bearer = credential.strip() or request.headers.get("x-api-key")
    # Keys of other services are often left in place; only ours count, so a loopback call with one is still local.
    local = is_loopback(request)
    if bearer and not bearer.startswith("il_") and local and app_of(request).workspace.settings.access.anonymous:
        bearer = None
    return await app_of(request).parts.access.authenticate(
        bearer=bearer,
        behalf=request.headers.get("x-interlock-on-behalf-of"),
        loopback=local,
        conversation=request.headers.get("x-interlock-conversation"),
    )


# Any: JSON before validation.
async def read_json(request: Request) -> Any:
    """The body as JSON. Raises: InvalidInput, TooLarge, UnsupportedMediaType (a form of a web page)."""
    limit = app_of(request).workspace.settings.server.max_body_bytes
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Browsers send form types across origins without asking first; JSON they must ask for.
        raise UnsupportedMediaType("send the body as application/json", param="Content-Type")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the body is not JSON", code="invalid_json") from error
    if b"\\ud" in body.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError) as error:
            raise InvalidInput("the body holds half a character (a lone surrogate)", code="invalid_json") from error
    return value


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is over {limit:,} bytes",
        hint="send less, or raise server.max_body_bytes in interlock.yaml",
    )
