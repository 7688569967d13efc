"""How an app bears so many people at once: measured, judged against limits, attached to the release that answered."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

import anyio

from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, InvalidInput
from interlock.evals.types import Case, Output
from interlock.flows.evaluation_targets import open_workspace_target
from interlock.flows.evidence import Facts, attach_facts
from interlock.flows.parts import Parts
from interlock.stats.bounded import proportion_p
from interlock.stats.intervals import Interval, wilson

__all__ = ["LoadAsked", "LoadProgress", "LoadReport", "run_load"]

_ALPHA = 0.05
Verdict = Literal["pass", "fail", "not_enough_evidence"]


@dataclass(frozen=True, slots=True)
class LoadAsked:
    """What is borne, and what counts as borne."""

    target: str
    """``app/NAME``, ``app/NAME@CHANNEL`` or ``release:APP:ID``."""
    cases: Sequence[Case]
    """Asked one after the other, over and over."""
    people: int = 8
    """Who ask at once, each again as soon as they are answered."""
    seconds: float = 30.0
    within_s: float = 10.0
    """An answer counts as in time that is whole by then."""
    share: float = 0.95
    """Of the answers that have to be in time."""
    most_errors: float = 0.01
    """Share of requests that may fail."""
    max_cost_usd: float | None = None
    report: Callable[[LoadProgress], None] | None = None


class LoadProgress(NamedTuple):
    """How far it is."""

    requests: int
    failed: int
    seconds: float
    cost_nano: int


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was measured."""

    target: str
    release: str
    people: int
    began_at: datetime
    seconds: float
    """That requests were sent for; shorter than asked for where the budget ended it."""
    requests: int
    failed: int
    in_time: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    """Of answers; None without one. Those that failed are in none of them."""
    first_token_p95_s: float | None
    per_second: float
    output_tokens_per_second: float
    cost_nano: int
    errors: dict[str, int]
    """Code to how many."""
    share_in_time: Interval | None
    """95 %, Wilson; of all requests, failed ones being late."""
    within_s: float
    share: float
    most_errors: float
    verdict: Verdict
    reasons: tuple[str, ...]


async def run_load(parts: Parts, ctx: Context, asked: LoadAsked) -> LoadReport:
    """Measure from inside this process: what the network and a server in front add is not in it.

    The report becomes evidence of kind `load` of the release that answered.

    Raises: InvalidInput: no cases, or no release; NotFound, Forbidden; what ends every request (no model).
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    if not asked.cases:
        raise InvalidInput("there is nothing to ask", param="cases")
    target = await open_workspace_target(parts, asked.target, asked.cases)
    if not target.release_id:
        await target.close()
        raise InvalidInput(f"{asked.target!r} is no app", param="target", hint="app/NAME or release:APP:ID")
    outputs: list[Output] = []
    cases = itertools.cycle(asked.cases)
    began, started = now(), time.perf_counter()
    spent = failed = 0

    def over() -> bool:
        budget = asked.max_cost_usd is not None and spent >= asked.max_cost_usd * 1e9
        return budget or time.perf_counter() - started >= asked.seconds

    stopped: list[InterlockError] = []

    async def person() -> None:
        nonlocal spent, failed
        while not over() and not stopped:
            at = time.perf_counter()
            try:
                output = await target.run(next(cases), len(outputs))
            except InterlockError as error:
                stopped.append(error)
                return
            if output.latency_s is None:
                output = replace(output, latency_s=time.perf_counter() - at)
            # Figures only: texts of a long run would fill the memory, and reading them slow what is measured.
            outputs.append(replace(output, text="", citations=(), found=(), calls=(), state=None, documents=()))
            spent += output.cost_nano or 0
            failed += bool(output.error)
            if asked.report is not None:
                asked.report(LoadProgress(len(outputs), failed, time.perf_counter() - started, spent))

    try:
        async with anyio.create_task_group() as group:
            for _ in range(asked.people):
                group.start_soon(person)
    finally:
        await target.close()
    if stopped:
        raise stopped[0]
    report = _report(asked, target.release_id, began, time.perf_counter() - started, outputs)
    await _attach(parts, ctx, report)
    return report


def _report(asked: LoadAsked, release: str, began: datetime, seconds: float, outputs: Sequence[Output]) -> LoadReport:
    answered = [each for each in outputs if not each.error]
    times = sorted(each.latency_s for each in answered if each.latency_s is not None)
    first = sorted(each.first_token_s for each in answered if each.first_token_s is not None)
    in_time = sum(each <= asked.within_s for each in times)
    failed = len(outputs) - len(answered)
    errors: dict[str, int] = {}
    for each in outputs:
        if each.error:
            errors[each.error] = errors.get(each.error, 0) + 1
    verdict, reasons = _judged(asked, len(outputs), failed, in_time)
    return LoadReport(
        target=asked.target,
        release=release,
        people=asked.people,
        began_at=began,
        seconds=round(seconds, 3),
        requests=len(outputs),
        failed=failed,
        in_time=in_time,
        p50_s=_quantile(times, 0.5),
        p95_s=_quantile(times, 0.95),
        p99_s=_quantile(times, 0.99),
        first_token_p95_s=_quantile(first, 0.95),
        per_second=round(len(answered) / max(seconds, 1e-9), 3),
        output_tokens_per_second=round(sum(each.output_tokens or 0 for each in answered) / max(seconds, 1e-9), 3),
        cost_nano=sum(each.cost_nano or 0 for each in outputs),
        errors=errors,
        share_in_time=wilson(in_time, len(outputs)) if outputs else None,
        within_s=asked.within_s,
        share=asked.share,
        most_errors=asked.most_errors,
        verdict=verdict,
        reasons=tuple(reasons),
    )


def _judged(asked: LoadAsked, requests: int, failed: int, in_time: int) -> tuple[Verdict, list[str]]:
    """By exact binomial tests; requests of one run lean on each other, so a short run shows less than it seems to."""
    rules = [
        (f"{asked.share:.0%} of the requests are answered within {asked.within_s:g} s", in_time, asked.share, "above"),
        (f"at most {asked.most_errors:.1%} of the requests fail", failed, asked.most_errors, "below"),
    ]
    reasons: list[str] = []
    verdict: Verdict = "pass"
    for told, count, threshold, side in rules:
        other = "below" if side == "above" else "above"
        holds = proportion_p(count, requests, threshold, side=side)  # type: ignore[arg-type]
        broken = proportion_p(count, requests, threshold, side=other)  # type: ignore[arg-type]
        if broken <= _ALPHA:
            verdict = "fail"
            reasons.append(f"{told}: {count} of {requests} did")
        elif holds > _ALPHA:
            verdict = "not_enough_evidence" if verdict == "pass" else verdict
            reasons.append(f"{told} is not shown by {requests} requests: ask longer")
    return verdict, reasons


def _quantile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return None if not values else round(values[max(0, math.ceil(share * len(values)) - 1)], 4)


async def _attach(parts: Parts, ctx: Context, report: LoadReport) -> None:
    figures = {"p50_s": report.p50_s, "p95_s": report.p95_s, "p99_s": report.p99_s}
    found = Facts(
        "load",
        f"{report.people} people",
        report.verdict,
        asdict(report) | {"began_at": report.began_at.isoformat()},
        {
            "people": report.people,
            "requests": report.requests,
            "failed": report.failed,
            "per_second": report.per_second,
            **{name: value for name, value in figures.items() if value is not None},
        },
        "; ".join(report.reasons),
    )
    await attach_facts(parts, ctx, report.target, report.release, found)
