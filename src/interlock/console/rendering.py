"""Templates and the few ways in which times, money, sizes and ids are written on every page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from interlock import __version__
from interlock.console.assets import asset
from interlock.core.clock import now
from interlock.core.context import Role
from interlock.core.errors import InterlockError
from interlock.core.money import Money
from interlock.flows.several_searches import score_of
from interlock.http.callers import app_of
from interlock.http.security import PAGE_HEADERS

if TYPE_CHECKING:
    from jinja2 import Environment

    from interlock.console.session import Caller

__all__ = ["error_page", "fragment", "render"]


class Place(NamedTuple):
    """One entry of the navigation."""

    group: str
    label: str
    path: str
    roles: frozenset[Role] | None
    """Who sees it; None is everybody."""


_ALL = frozenset(Role)
_OVERSIGHT = frozenset({Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR})
_PLACES = (
    Place("Build", "Ask", "/ask", None),
    Place("Build", "Apps", "/apps", _ALL),
    Place("Build", "Documents", "/documents", None),
    Place("Build", "Retrieval", "/retrieval", _ALL),
    Place("Build", "Prompts", "/prompts", _OVERSIGHT),
    Place("Build", "Evaluations", "/evaluations", _OVERSIGHT),
    Place("Build", "Review", "/reviews", frozenset({Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK})),
    Place("Build", "Releases", "/releases", _OVERSIGHT),
    Place("Run", "Overview", "/", _ALL),
    Place("Run", "Rollouts", "/rollouts", _OVERSIGHT),
    Place("Run", "Experiments", "/experiments", _OVERSIGHT),
    Place("Run", "Alerts", "/alerts", _OVERSIGHT),
    Place("Run", "Traces", "/traces", _ALL),
    Place("Run", "Gateway", "/gateway", frozenset({Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR})),
    Place("Run", "Doctor", "/doctor", frozenset({Role.OPERATOR})),
    Place("Govern", "Audit log", "/audit", frozenset({Role.OPERATOR, Role.RISK, Role.AUDITOR})),
    Place("Govern", "API keys", "/keys", frozenset({Role.OPERATOR, Role.RISK, Role.AUDITOR})),
    Place("Govern", "Settings", "/settings", frozenset({Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR})),
)


# Any: what a template is given.
def render(request: Request, caller: Caller | None, template: str, *, status: int = 200, **data: Any) -> Response:
    """A whole page."""
    theme = request.cookies.get("interlock_theme", "system")
    page = {
        "person": caller,
        "csrf": caller.csrf if caller else "",
        "tenant": app_of(request).workspace.settings.tenant,
        "version": __version__,
        "theme": theme if theme in {"light", "dark"} else "system",
        "here": request.url.path,
        "full_path": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "places": _places(caller),
        "Role": Role,
    }
    html = _environment().get_template(template).render({**page, **data})
    return HTMLResponse(html, status, dict(PAGE_HEADERS))


def fragment(template: str, **data: Any) -> str:  # Any: what a template is given
    """A piece of a page, for one that is already in a browser."""
    return _environment().get_template(template).render(**data)


def error_page(request: Request, caller: Caller | None, error: InterlockError) -> Response:
    """The page, or the piece of one, that says what went wrong and what to do next."""
    if request.headers.get("x-interlock-fragment") == "1":
        html = fragment("_error.html", error=error, title=title_of(error))
        return HTMLResponse(html, error.status, dict(PAGE_HEADERS))
    return render(request, caller, "error.html", status=error.status, error=error, title=title_of(error))


def title_of(error: InterlockError) -> str:
    """What happened, in a few words."""
    known = {401: "Sign in first", 403: "Not allowed", 404: "Nothing here", 409: "That changed meanwhile"}
    if error.code == "blocked_by_policy":
        return "Stopped by the policy"
    if error.code == "model_missing":
        return "A model is missing"
    if error.status == 503:
        return "Not available now"
    return known.get(error.status, "Something went wrong" if error.status >= 500 else "That did not work")


def _places(caller: Caller | None) -> dict[str, list[Place]]:
    groups: dict[str, list[Place]] = {}
    for place in _PLACES if caller else ():
        if place.roles is None or (caller and caller.has(*place.roles)):
            groups.setdefault(place.group, []).append(place)
    return groups


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("interlock.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": ago,
        "usd": usd,
        "ms": milliseconds,
        "count": count,
        "bytes": size,
        "short": short,
        "said": said,
    }
    environment.globals |= {"asset": asset, "title_of": title_of, "score_of": score_of}
    return environment


def when(value: datetime | int) -> datetime:
    """A time, also from Unix nanoseconds."""
    return datetime.fromtimestamp(value / 1e9, UTC) if isinstance(value, int) else value


def ago(value: datetime | int | None) -> Markup | str:
    """``<time>``: relative to read, exact on hover."""
    if value is None:
        return "never"
    at = when(value)
    exact = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), exact, _relative(now() - at))


def _relative(age: timedelta) -> str:
    seconds = int(abs(age.total_seconds()))
    if seconds < 5:
        return "just now"
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= length:
            amount = f"{seconds // length} {unit}"
            return f"{amount} ago" if age.total_seconds() > 0 else f"in {amount}"
    return "just now"


def usd(value: Money | int | None) -> str:
    """Dollars; ``unpriced`` when nobody knows."""
    if value is None:
        return "unpriced"
    return str(Money(value) if isinstance(value, int) else value)


def milliseconds(value: float) -> str:
    """``87 ms``, ``1.9 s``, ``2 min 4 s``."""
    if value < 1:
        return f"{value:.2f} ms"
    if value < 10:
        return f"{value:.1f} ms"
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.1f} s"
    return f"{value / 60_000:.0f} min {value / 1000 % 60:.0f} s"


def count(value: float) -> str:
    """Thousands apart."""
    return f"{value:,.0f}"


def said(text: str) -> str:
    """A message as a sentence: a capital at its start, a stop at its end."""
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."


def size(value: int) -> str:
    """Bytes for people."""
    if value < 1000:
        return f"{value} B"
    for limit, unit in ((1e6, "kB"), (1e9, "MB"), (1e12, "GB")):
        if value < limit:
            return f"{value / limit * 1000:.1f} {unit}"
    return f"{value / 1e12:.1f} TB"


def short(value: str) -> Markup:
    """The first digits of an id, the whole on hover."""
    plain = value.removeprefix("sha256:")
    kept = plain[:8] if plain == value or len(plain) == 64 else plain[:12]
    shown = kept if len(plain) > 12 else plain
    return Markup('<code class="id" title="{}">{}</code>').format(value, escape(shown))
