"""Rollouts: what is under way, what its users met, and the four things that people may do."""

from __future__ import annotations

import math
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import InvalidInput
from interlock.http.callers import app_of
from interlock.releases.rollouts.types import ACTIVE, Check

__all__ = ["Bar", "bar", "routes"]

_MAY_READ = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_WIDTH = 240.0


class Bar(NamedTuple):
    """An interval of harm on a line of 240, with no harm and the margin marked."""

    low: float
    high: float
    harm: float
    zero: float
    margin: float
    label: str
    """For people who cannot see it."""


def bar(check: Check) -> Bar:
    """Place the interval; the line reaches from as far below no harm as the interval or the margin reach above it."""
    reach = max(abs(check.low), abs(check.high), check.margin) * 1.08
    if not math.isfinite(reach):
        reach = check.margin * 4

    def at(value: float) -> float:
        return round((min(max(value, -reach), reach) + reach) / (2 * reach) * _WIDTH, 1)

    label = f"harm {check.harm:+.3g}, surely within {check.low:+.3g} and {check.high:+.3g}; margin {check.margin:g}"
    return Bar(at(check.low), at(check.high), at(check.harm), at(0.0), at(check.margin), label)


async def list_rollouts(request: Request, caller: Caller) -> Response:
    """``GET /rollouts``."""
    caller.ctx.require(*_MAY_READ)
    found = await app_of(request).parts.releases.rollouts.list(caller.ctx, limit=100)
    return render(
        request, caller, "rollouts.html", rollouts=found, active=[each for each in found if each.state in ACTIVE]
    )


async def show(request: Request, caller: Caller) -> Response:
    """``GET /rollouts/{id}``."""
    caller.ctx.require(*_MAY_READ)
    rollouts = app_of(request).parts.releases.rollouts
    found = await rollouts.one(caller.ctx, request.path_params["id"])
    return render(
        request,
        caller,
        "rollout.html",
        rollout=found,
        checks=[(check, bar(check)) for check in found.checks],
        history=list(reversed(await rollouts.history(caller.ctx, found.id))),
        may_move=caller.has(Role.OPERATOR) and found.state in ACTIVE,
    )


async def move(request: Request, caller: Caller) -> Response:
    """``POST /rollouts/{id}`` with `step` (pause, resume, abort, promote) and `reason`."""
    form = await form_of(request)
    rollouts = app_of(request).parts.releases.rollouts
    steps = {
        "pause": rollouts.pause,
        "resume": rollouts.resume,
        "abort": rollouts.roll_back,
        "promote": rollouts.promote,
    }
    step = text_field(form, "step")
    if step not in steps:
        raise InvalidInput("a rollout is paused, resumed, aborted or promoted", param="step")
    await steps[step](caller.ctx, request.path_params["id"], text_field(form, "reason")[:1000])
    return RedirectResponse(f"/rollouts/{request.path_params['id']}", 303)


routes = [
    Route("/rollouts", page(list_rollouts)),
    Route("/rollouts/{id}", page(show)),
    Route("/rollouts/{id}", page(move), methods=["POST"]),
]
