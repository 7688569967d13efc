"""Who is looking at a page, and proof that a form came from one of ours."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.access.types import Session
from interlock.console.rendering import error_page, render
from interlock.core.context import Context, Role
from interlock.core.errors import Forbidden, InterlockError, InvalidInput, TooLarge, Unauthenticated
from interlock.http.callers import app_of, is_loopback

__all__ = ["ANY_ROLE", "Caller", "Form", "Page", "form_of", "page", "reader_of", "routes_of_session", "text_field"]

ANY_ROLE = tuple(Role)
SESSION_COOKIE = "interlock_session"
CSRF_COOKIE = "interlock_csrf"
THEME_COOKIE = "interlock_theme"
_MAX_FORM_BYTES = 256 * 1024
_YEAR_S = 365 * 24 * 3600
_log = logging.getLogger("interlock.console")

Theme = Literal["light", "dark", "system"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The person behind a page."""

    ctx: Context
    csrf: str
    """Goes into every form; a session's own, or the double-submit cookie's value."""
    session: Session | None
    name: str
    sets_csrf: bool = False
    """True when the double-submit cookie must be sent with the answer."""

    def has(self, *roles: Role) -> bool:
        """Whether actions of these roles are shown."""
        return self.ctx.principal.has(*roles)

    @property
    def may_act_as(self) -> bool:
        """Whether this person may look through a directory user's eyes."""
        return self.ctx.principal.has(Role.ADMIN)


Form = Mapping[str, Sequence[str]]
"""Fields by name; a field may come several times."""
Page = Callable[[Request, Caller], Awaitable[Response]]


def page(handler: Page) -> Callable[[Request], Awaitable[Response]]:
    """A page: finds the caller, checks the token of forms, and turns errors into pages."""

    async def run(request: Request) -> Response:
        caller: Caller | None = None
        try:
            caller = await caller_of(request)
            if request.method == "POST":
                _check_csrf(request, await form_of(request), caller.csrf)
            return _with_cookie(request, caller, await handler(request, caller))
        except Unauthenticated as error:
            if request.method == "GET" and not is_fragment(request):
                return RedirectResponse(f"/sign-in?next={quote(_here(request), safe='')}", 303)
            return error_page(request, caller, error)
        except InterlockError as error:
            return error_page(request, caller, error)
        except Exception as error:  # noqa: BLE001
            # The border of a request: told without its text, logged with it.
            _log.error("unexpected %s at %s", type(error).__name__, request.url.path, exc_info=error)
            return error_page(
                request,
                caller,
                InterlockError("something went wrong here", hint="the server's log has the details"),
            )

    return run


def is_fragment(request: Request) -> bool:
    """True when our own script asks for a piece of a page."""
    return request.headers.get("x-interlock-fragment") == "1"


async def caller_of(request: Request) -> Caller:
    """The signed-in account, or the local owner in single-user mode. Raises: Unauthenticated."""
    access = app_of(request).parts.access
    secret = request.cookies.get(SESSION_COOKIE)
    session = await access.accounts.session(secret) if secret else None
    if session is not None:
        return Caller(access.of_session(session), session.csrf, session, session.account.username)
    if app_of(request).workspace.settings.access.anonymous and is_loopback(request):
        token, is_new = _double_submit(request)
        return Caller(access.local_owner(), token, None, "you, at this machine", sets_csrf=is_new)
    raise Unauthenticated("sign in to see this", hint="/sign-in")


def reader_of(request: Request, caller: Caller, user: str | None) -> Context:
    """The caller, or for an admin the directory user they look as. Raises: NotFound, Forbidden."""
    if not user:
        return caller.ctx
    return app_of(request).parts.access.act_as(caller.ctx, user)


async def form_of(request: Request) -> Form:
    """The fields of an url-encoded form, read once. Raises: InvalidInput, TooLarge."""
    if hasattr(request.state, "form"):
        known: Form = request.state.form
        return known
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidInput("this form is sent url-encoded", param="Content-Type")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_FORM_BYTES:
            raise TooLarge(f"the form is over {_MAX_FORM_BYTES:,} bytes")
    try:
        form: Form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError as error:
        raise InvalidInput("the form cannot be read") from error
    request.state.form = form
    return form


def text_field(form: Form, name: str) -> str:
    """One field, stripped, empty when it was not sent."""
    return form.get(name, [""])[-1].strip()


def _double_submit(request: Request) -> tuple[str, bool]:
    known = request.cookies.get(CSRF_COOKIE, "")
    return (known, False) if len(known) == 32 else (secrets.token_urlsafe(24), True)


def _check_csrf(request: Request, form: Form, expected: str) -> None:
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or not hmac.compare_digest(text_field(form, "csrf").encode(), expected.encode()):
        raise Forbidden(
            "this form did not come from a page of this console, or the page is too old",
            hint="reload the page and try again",
            code="csrf_refused",
        )


def _with_cookie(request: Request, caller: Caller, response: Response) -> Response:
    if caller.sets_csrf:
        _set_csrf(request, response, caller.csrf)
    return response


def _set_csrf(request: Request, response: Response, token: str) -> None:
    response.set_cookie(
        CSRF_COOKIE, token, path="/", httponly=True, samesite="strict", secure=_secure(request), max_age=_YEAR_S
    )


def _secure(request: Request) -> bool:
    return app_of(request).workspace.settings.server.secure_cookies


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _target(raw: str) -> str:
    """A path of this console to go to; anything else becomes the overview."""
    bad = not raw.startswith("/") or raw.startswith(("//", "/\\")) or any(ord(c) < 33 for c in raw)
    return "/" if bad else raw


# ── sign in, sign out, theme ──────────────────────────────────────────────────────────────────────────────────────


async def sign_in_page(request: Request) -> Response:
    """``GET /sign-in``."""
    token, is_new = _double_submit(request)
    return _sign_in(request, token, set_cookie=is_new)


def _sign_in(
    request: Request, token: str, *, set_cookie: bool, error: InterlockError | None = None, username: str = ""
) -> Response:
    response = render(
        request,
        None,
        "sign-in.html",
        status=error.status if error else 200,
        csrf=token,
        error=error,
        username=username,
        next=_target(request.query_params.get("next", "/")),
    )
    if error is not None and error.retry_after_s is not None:
        response.headers["retry-after"] = str(int(error.retry_after_s))
    if set_cookie:
        _set_csrf(request, response, token)
    return response


async def sign_in(request: Request) -> Response:
    """``POST /sign-in``."""
    app = app_of(request)
    token, is_new = _double_submit(request)
    username = ""
    try:
        form = await form_of(request)
        username = text_field(form, "username")
        _check_csrf(request, form, "" if is_new else token)
        secret, _ = await app.parts.access.accounts.sign_in(
            app.workspace.settings.tenant,
            username[:64],
            form.get("password", [""])[-1],
            request.client.host if request.client else "",
        )
    except InterlockError as error:
        return _sign_in(request, token, set_cookie=is_new, error=error, username=username[:64])
    response = RedirectResponse(_target(text_field(form, "next")), 303)
    # A session is new at every sign-in, so one planted before it is worth nothing.
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        path="/",
        httponly=True,
        samesite="lax",
        secure=_secure(request),
        max_age=int(app.workspace.settings.access.session_hours * 3600),
    )
    return response


async def sign_out(request: Request, caller: Caller) -> Response:
    """``POST /sign-out``."""
    secret = request.cookies.get(SESSION_COOKIE)
    if secret:
        await app_of(request).parts.access.accounts.sign_out(secret)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


async def set_theme(request: Request, caller: Caller) -> Response:
    """``POST /theme``: kept in a cookie, so that the first paint is right."""
    form = await form_of(request)
    theme = text_field(form, "theme")
    if theme not in {"light", "dark", "system"}:
        raise InvalidInput("a theme is light, dark or system", param="theme")
    response = RedirectResponse(_target(text_field(form, "next")), 303)
    response.set_cookie(
        THEME_COOKIE, theme, path="/", httponly=True, samesite="lax", secure=_secure(request), max_age=_YEAR_S
    )
    return response


routes_of_session = [
    Route("/sign-in", sign_in_page),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", page(sign_out), methods=["POST"]),
    Route("/theme", page(set_theme), methods=["POST"]),
]
