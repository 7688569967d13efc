"""What an app will cost: from what each case of an evaluation cost, for so many requests, judged against a budget."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from anyio import to_thread

from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput
from interlock.evals.running.journal import find_run, read_rows
from interlock.flows.evidence import Facts, attach_facts
from interlock.flows.parts import Parts
from interlock.stats.intervals import Interval
from interlock.stats.paired import bca_interval

__all__ = ["Forecast", "forecast_cost"]

_FEWEST = 10
Verdict = Literal["pass", "fail", "not_enough_evidence"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What so many requests like those of the run will cost."""

    run: str
    suite: str
    release: str
    cases: int
    """Whose cost is known."""
    unpriced: int
    """Answers whose cost is not known: they are left out, so that the forecast is too low where there are any."""
    usd_each: float
    requests: float
    period: str
    usd: float
    interval: Interval
    """95 %, of the mean cost of a request, times requests. How many requests there will be is yours to know."""
    budget_usd: float | None
    verdict: Verdict | None
    reasons: tuple[str, ...]


async def forecast_cost(
    parts: Parts,
    ctx: Context,
    run: str,
    *,
    home: Path,
    requests: float,
    period: Literal["day", "month"] = "month",
    budget_usd: float | None = None,
) -> Forecast:
    """Forecast from a run of a suite; with a budget it becomes evidence of kind `cost_forecast` of its release.

    Args:
        home: folder of runs.
        requests: in a period.

    Raises: Forbidden; NotFound: no such run; InvalidInput: it was of no release, or fewer than ten of its cases have a
        cost.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR, Role.RISK)
    folder, plan = await to_thread.run_sync(find_run, home, run)
    if not plan.release:
        raise InvalidInput(f"{plan.target!r} is no release", param="run", hint="a run of --target app/NAME")
    costs, unpriced = await to_thread.run_sync(_costs, folder)
    if len(costs) < _FEWEST:
        raise InvalidInput(
            f"{len(costs)} cases of {plan.id!r} have a cost; {_FEWEST} are needed",
            param="run",
            hint="set prices (cost.prices), or run a larger suite",
        )
    each = math.fsum(costs) / len(costs)
    interval = bca_interval(costs)
    low, high = interval.low * requests, interval.high * requests
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    if budget_usd is not None:
        verdict, reasons = _judged(low, high, unpriced, budget_usd, period)
    found = Forecast(
        plan.id,
        plan.suite,
        plan.release,
        len(costs),
        unpriced,
        each,
        requests,
        period,
        each * requests,
        Interval(low, high),
        budget_usd,
        verdict,
        reasons,
    )
    if verdict is not None:
        await _attach(parts, ctx, plan.target, found)
    return found


def _costs(folder: Path) -> tuple[list[float], int]:
    """US dollars a case, means over its repeats; and answers without a cost."""
    by_case: dict[str, list[float]] = {}
    unpriced = 0
    for row in read_rows(folder):
        if row.failed:
            continue
        if row.cost_nano is None:
            unpriced += 1
        else:
            by_case.setdefault(row.case, []).append(row.cost_nano / 1e9)
    return [math.fsum(costs) / len(costs) for costs in by_case.values()], unpriced


def _judged(low: float, high: float, unpriced: int, budget: float, period: str) -> tuple[Verdict, tuple[str, ...]]:
    told = f"{low:,.2f} to {high:,.2f} USD a {period} against {budget:,.2f}"
    if low > budget:
        return "fail", (told,)
    if high > budget:
        return "not_enough_evidence", (f"{told}: run more cases",)
    if unpriced:
        return "not_enough_evidence", (f"{unpriced} answers have no price: set cost.prices",)
    return "pass", ()


async def _attach(parts: Parts, ctx: Context, target: str, found: Forecast) -> None:
    assert found.verdict is not None, "only what is judged is evidence"
    facts = Facts(
        "cost_forecast",
        f"{found.requests:,.0f} a {found.period}",
        found.verdict,
        asdict(found),
        {
            "run": found.run,
            "usd": round(found.usd, 4),
            "usd_high": round(found.interval.high, 4),
            "requests": found.requests,
            "budget_usd": found.budget_usd or 0.0,
        },
        "; ".join(found.reasons),
    )
    await attach_facts(parts, ctx, target, found.release, facts)
