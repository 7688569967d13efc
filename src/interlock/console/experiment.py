"""Experiments: what was planned, what their arms met, and how people end them."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.rollout import Bar
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import InvalidInput
from interlock.flows.experiment import conclude
from interlock.http.callers import app_of
from interlock.releases.experiments.types import SERVING, Comparison

__all__ = ["bar", "routes"]

_MAY_READ = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_WIDTH = 240.0


def bar(check: Comparison) -> Bar:
    """Place the interval on a line on which no difference is in the middle; left of it is better."""
    margin = check.margin or 0.0
    reach = max(abs(check.low), abs(check.high), margin) * 1.08
    if not math.isfinite(reach) or reach == 0:
        reach = max(margin * 4, 1e-9)

    def at(value: float) -> float:
        return round((min(max(value, -reach), reach) + reach) / (2 * reach) * _WIDTH, 1)

    label = f"difference {check.difference:+.3g}, surely within {check.low:+.3g} and {check.high:+.3g}"
    return Bar(at(check.low), at(check.high), at(check.difference), at(0.0), at(margin), label)


async def list_experiments(request: Request, caller: Caller) -> Response:
    """``GET /experiments``."""
    caller.ctx.require(*_MAY_READ)
    found = await app_of(request).parts.releases.experiments.list(caller.ctx, limit=100)
    running = [each for each in found if each.state in SERVING]
    return render(request, caller, "experiments.html", experiments=found, running=running)


async def show(request: Request, caller: Caller) -> Response:
    """``GET /experiments/{id}``."""
    caller.ctx.require(*_MAY_READ)
    experiments = app_of(request).parts.releases.experiments
    found = await experiments.one(caller.ctx, request.path_params["id"])
    checks = () if found.report is None else found.report.comparisons
    return render(
        request,
        caller,
        "experiment.html",
        experiment=found,
        planned=[(check, bar(check)) for check in checks if check.role != "exploratory"],
        exploratory=[(check, bar(check)) for check in checks if check.role == "exploratory"],
        history=list(reversed(await experiments.history(caller.ctx, found.id))),
        may_start=caller.has(Role.OPERATOR) and found.state == "planned",
        may_stop=caller.has(Role.OPERATOR) and (found.state in SERVING or found.state == "planned"),
        may_conclude=caller.has(Role.OPERATOR) and found.state in SERVING and found.report is not None,
    )


async def move(request: Request, caller: Caller) -> Response:
    """``POST /experiments/{id}`` with `step` (start, stop, conclude) and `reason`."""
    form = await form_of(request)
    parts, name = app_of(request).parts, request.path_params["id"]
    step, reason = text_field(form, "step"), text_field(form, "reason")[:1000]
    if step == "start":
        await parts.releases.start_experiment(caller.ctx, name, reason=reason)
    elif step == "stop":
        await parts.releases.experiments.stop(caller.ctx, name, reason)
    elif step == "conclude":
        await conclude(parts, caller.ctx, name, reason)
    else:
        raise InvalidInput("an experiment is started, stopped or concluded", param="step")
    return RedirectResponse(f"/experiments/{name}", 303)


routes = [
    Route("/experiments", page(list_experiments)),
    Route("/experiments/{id}", page(show)),
    Route("/experiments/{id}", page(move), methods=["POST"]),
]
