"""API keys: made once, shown once, revoked at once."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.access.types import ApiKey, NewKey
from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.clock import now
from interlock.core.context import ROLE_ORDER, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.http.callers import app_of

__all__ = ["routes"]

_MAY_CREATE = (Role.OPERATOR,)
_MAY_REVOKE = (Role.OPERATOR, Role.RISK)


async def list_keys(request: Request, caller: Caller) -> Response:
    """``GET /keys``."""
    return await _page(request, caller, None)


async def create(request: Request, caller: Caller) -> Response:
    """``POST /keys``: the answer is the only page that ever shows the secret."""
    form = await form_of(request)
    days = text_field(form, "days")
    if days and not (days.isdecimal() and len(days) < 6):
        raise InvalidInput("the number of days is a whole number", param="days")
    unknown = [role for role in form.get("role", []) if role not in ROLE_ORDER]
    if unknown:
        raise InvalidInput(f"there is no role {unknown[0][:32]!r}", param="role")
    new = await app_of(request).parts.access.create_key(
        caller.ctx,
        name=text_field(form, "name"),
        roles=[Role(role) for role in form.get("role", [])],
        days=float(days) if days else None,
    )
    return await _page(request, caller, new)


async def revoke(request: Request, caller: Caller) -> Response:
    """``POST /keys/{id}/revoke``."""
    await app_of(request).parts.access.revoke_key(caller.ctx, request.path_params["id"])
    return RedirectResponse("/keys", 303)


async def confirm(request: Request, caller: Caller) -> Response:
    """``GET /keys/{id}/revoke``: asks once, naming the key."""
    caller.ctx.require(*_MAY_REVOKE)
    keys = await app_of(request).parts.access.keys(caller.ctx)
    key = next((known for known in keys if known.id == request.path_params["id"]), None)
    if key is None:
        raise NotFound("there is no such key", param="key")
    return render(request, caller, "key-revoke.html", key=key)


async def _page(request: Request, caller: Caller, new: NewKey | None) -> Response:
    keys = await app_of(request).parts.access.keys(caller.ctx)
    at = now()
    states: dict[str, str] = {key.id: key.state(at) for key in keys}
    return render(
        request,
        caller,
        "keys.html",
        keys=sorted(keys, key=lambda key: _rank(key, states)),
        states=states,
        new=new,
        may_create=caller.has(*_MAY_CREATE),
        may_revoke=caller.has(*_MAY_REVOKE),
        roles=[role for role in ROLE_ORDER if caller.ctx.principal.has(role)],
    )


def _rank(key: ApiKey, states: dict[str, str]) -> int:
    return 0 if states[key.id] == "active" else 1


routes = [
    Route("/keys", page(list_keys)),
    Route("/keys", page(create), methods=["POST"]),
    Route("/keys/{id}/revoke", page(confirm)),
    Route("/keys/{id}/revoke", page(revoke), methods=["POST"]),
]
