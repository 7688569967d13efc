"""The audit log: who did what, with which outcome, newest first."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, page
from interlock.core.context import Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.governance.types import AuditLine, Head
from interlock.http.callers import app_of

__all__ = ["routes"]

_MAY_SEE = (Role.AUDITOR, Role.RISK, Role.OPERATOR)
_PAGE = 50


class Row(NamedTuple):
    """One line as it is shown."""

    line: AuditLine
    details: str


async def show(request: Request, caller: Caller) -> Response:
    """``GET /audit?action=&before=``."""
    caller.ctx.require(*_MAY_SEE)
    governance = app_of(request).parts.governance
    query = request.query_params
    action, before = query.get("action", "")[:64], query.get("before", "")
    if before and not (before.isascii() and before.isdecimal() and len(before) <= 18):
        raise InvalidInput("before is the number of a line", param="before")
    lines = await governance.lines(
        caller.ctx, before=int(before) if before else None, action=action or None, limit=_PAGE + 1
    )
    head: Head | None
    try:
        head = await governance.head()
    except NotFound:
        # An empty log has no head.
        head = None
    shown = lines[:_PAGE]
    older = {"before": str(shown[-1].seq), **({"action": action} if action else {})} if len(lines) > _PAGE else {}
    return render(
        request,
        caller,
        "audit.html",
        rows=[
            Row(line, ", ".join(f"{name} {value}" for name, value in sorted(line.details.items()))) for line in shown
        ],
        action=action,
        head=head,
        public_key=governance.public_key,
        older=urlencode(older),
        newest=urlencode({"action": action} if action else {}),
        paged=bool(before),
    )


routes = [Route("/audit", page(show))]
