"""Style sheet and scripts: the address holds a digest of all of them, so a browser keeps them for ever."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.core.errors import NotFound

__all__ = ["asset", "routes"]

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


@lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    folder = resources.files("interlock.console").joinpath("static")
    kept = [file for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES]
    return {file.name: file.read_bytes() for file in sorted(kept, key=lambda f: f.name)}


@lru_cache(maxsize=1)
def _digest() -> str:
    content = hashlib.sha256()
    for name, data in _files().items():
        content.update(f"{name}:{len(data)}:".encode() + data)
    return content.hexdigest()[:16]


def asset(name: str) -> str:
    """Address of a static file. Modules import each other by relative names, so all share one digest."""
    return f"/static/{_digest()}/{name}"


async def static(request: Request) -> Response:
    """``GET /static/{digest}/{name}``."""
    name = request.path_params["name"]
    if name not in _files():
        raise NotFound(f"no file {name!r}")
    current = request.path_params["digest"] == _digest()
    headers = {
        "cache-control": "public, max-age=31536000, immutable" if current else "no-cache",
        "x-frame-options": "DENY",
        "content-security-policy": "default-src 'none'",
    }
    return Response(_files()[name], media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


routes = [Route("/static/{digest}/{name}", static)]
