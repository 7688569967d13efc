"""What `interlock doctor` finds, as a page: what is wrong first, each with the command that mends it."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, page
from interlock.core.context import Role
from interlock.examination import Finding, examine
from interlock.http.callers import app_of

__all__ = ["routes"]

_MAY_SEE = (Role.OPERATOR,)
"""It names files and addresses of this machine."""
_LONGEST_S = 20.0
"""The page must not hang on a provider that is silent or a log that is long: what was found by then is shown."""
_ORDER = {"fail": 0, "warn": 1, "ok": 2}


async def show(request: Request, caller: Caller) -> Response:
    """``GET /doctor``."""
    caller.ctx.require(*_MAY_SEE)
    findings: list[Finding] = []
    whole = True
    try:
        async with asyncio.timeout(_LONGEST_S):
            async for finding in examine(app_of(request)):
                findings.append(finding)
    except TimeoutError:
        whole = False
    findings.sort(key=lambda finding: _ORDER[finding.state])
    return render(
        request,
        caller,
        "doctor.html",
        findings=findings,
        wrong=[finding for finding in findings if finding.state != "ok"],
        whole=whole,
        longest_s=int(_LONGEST_S),
    )


routes = [Route("/doctor", page(show))]
