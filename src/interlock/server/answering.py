"""One chat request of any wire, from HTTP to HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from interlock.app import App
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.release import Release
from interlock.flows.respond import Keep, Responding, codec
from interlock.gateway.ports import Asked
from interlock.gateway.service import Served
from interlock.http.callers import app_of, context_of, identity_of, read_json
from interlock.http.streaming import ArrayStream, ClientLeft, FrameStream, after_first, while_connected

__all__ = [
    "CLIENT_LEFT",
    "answer",
    "chat_endpoint",
    "check_texts",
    "headers_of",
    "known_models",
    "require_model",
    "telling",
]

CLIENT_LEFT = 499
"""Nobody reads it; the access log and the metrics do (nginx's number)."""


async def chat_endpoint(
    request: Request,
    wire: str,
    *,
    model: str | None = None,
    stream: bool | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """Authenticate, read, decode, answer.

    Args:
        more: fields that the wire has outside of its body.
    """
    ctx = await context_of(request)
    body = await read_json(request)
    if more and isinstance(body, dict):
        body = {**body, **more}
    asked = codec(wire).decode(body, model=model, stream=stream)
    return await answer(request, ctx, wire, asked)


async def answer(request: Request, ctx: Context, wire: str, asked: Asked, *, keep: Keep | None = None) -> Response:
    """Answer a decoded request; a client that leaves stops the work."""
    app = app_of(request)
    ctx.notices.model = asked.request.model
    release = await app.resolve(ctx, asked.request.model)
    call = Responding(app.parts, ctx, codec(wire), asked, release, keep=keep)
    call.served.tried = request.scope.get("interlock.tried")
    call.served.first = request.scope.get("interlock.first")
    headers_of(request, release)
    try:
        with telling(request, call.served):
            if not asked.request.stream:
                body = await while_connected(request.receive, call.whole())
                return JSONResponse(body, headers=headers_of(request, served=call.served))
            # The first event decides the status: an error before it is an HTTP error, one after it is an event.
            frames = await after_first(request.receive, call.frames())
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT)
    headers = headers_of(request, served=call.served)
    if wire == "google.generate" and request.query_params.get("alt") != "sse":
        return ArrayStream(frames, headers)
    return FrameStream(frames, headers)


@contextmanager
def telling(request: Request, served: Served) -> Iterator[Served]:
    """Where a call fails, its error says in its head which targets were asked and that none served."""
    try:
        yield served
    except InterlockError:
        headers_of(request, served=served, failed=True)
        raise


def headers_of(
    request: Request, release: Release | None = None, served: Served | None = None, *, failed: bool = False
) -> dict[str, str]:
    """What every answer of the gateway says in its head; errors repeat it."""
    if served is not None and served.decision.considered:
        # While a stream runs, the target that serves it is not among the considered ones yet.
        route = served.decision.header(failed=failed)
        serves = served.target is not None and not failed
        known = route.removeprefix("none") if serves and route.startswith("none") else None
        request.state.identity["x-interlock-route"] = (route if known is None else f"{served.target}{known}")[:2000]
    elif served is not None and served.target is not None and not failed:
        request.state.identity["x-interlock-route"] = str(served.target)
    if served is not None and served.cache:
        request.state.identity["x-interlock-cache"] = served.cache
    if served is not None and served.degraded:
        request.state.identity["x-interlock-degraded"] = served.degraded
    if release is not None:
        request.state.identity["x-interlock-release"] = release.id
    return identity_of(request)


async def known_models(app: App, ctx: Context) -> list[str]:
    """What the caller may ask for: its tenant's apps, then routes, then what the providers have. A model that the
    register, residency or a route's own conditions keep from this caller is left out.
    """
    gateway = app.parts.gateway
    apps = [f"app/{source.name}" for source in app.parts.releases.apps(ctx)]
    return apps + [name for name in await gateway.models() if gateway.may_ask(ctx, name)]


async def require_model(app: App, ctx: Context, name: str) -> None:
    """Raises NotFound unless `name` can be asked for: an app, a route, a model that its provider lists."""
    if name.startswith("app/"):
        await app.resolve(ctx, name)
    else:
        app.parts.gateway.route(name)
        if not app.parts.gateway.may_ask(ctx, name):
            raise NotFound(
                f"the model {name!r} may not be asked by you",
                param="model",
                code="model_not_found",
                hint="an operator sees why with: interlock route explain",
            )
        if not name.startswith("route/"):
            await app.parts.gateway.require_listed(name)


def check_texts(texts: list[str], param: str) -> list[str]:
    """1 to 2,048 texts, none of them empty. Raises: InvalidInput."""
    if not texts or len(texts) > 2048:
        raise InvalidInput(f"{param} holds 1 to 2,048 texts", param=param)
    if any(not text for text in texts):
        raise InvalidInput("a text is empty", param=param)
    return texts
