"""What each version of a prompt has shown: in evaluations of the apps that use it, and under requests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any, NamedTuple

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.evals.report import Report
from interlock.flows.evaluation_runs import Kept, KeptRuns
from interlock.flows.parts import Parts
from interlock.flows.prompt_desk import history
from interlock.prompts.prompt_store import Version
from interlock.stats.intervals import Interval, wilson
from interlock.stores.events.base import PromptRow

__all__ = ["TAG", "Figure", "Quality", "Usage", "VersionQuality", "prompt_quality", "quality_view"]

TAG = "prompt"
"""Tag of a run: the digest of the prompt that answered."""
_MOST_RUNS = 1000
_RELEASES = 1000
_LEAST = 30
"""Requests from which a mean of costs or seconds gets an interval: of fewer it is not near enough to normal."""


class Figure(NamedTuple):
    """A mean or a rate."""

    value: float
    interval: Interval | None
    """95 %; None where there is too little for one."""
    of: int
    """What it is of: cases, answers or requests."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of one suite."""

    suite: str
    metric: str
    better: str
    figure: Figure
    run: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests under a version, evaluations too. Intervals take them for independent of each other."""

    requests: int
    first: datetime
    last: datetime
    errors: Figure | None
    declined: Figure | None
    blocked: int
    cost_nano: Figure | None
    seconds: Figure | None


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """One version."""

    version: Version
    labels: tuple[str, ...]
    is_files: bool
    """It is what the files say now."""
    measures: tuple[Measure, ...]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Quality:
    """All versions of a prompt, newest first."""

    name: str
    since: datetime
    versions: tuple[VersionQuality, ...]
    notes: tuple[str, ...] = ()


async def prompt_quality(parts: Parts, ctx: Context, name: str, *, days: float = 30.0) -> Quality:
    """Quality, cost and speed of each version.

    Args:
        days: how far back requests are counted.

    Of each suite only runs on the same cases are beside each other: those of its newest run. Of several runs of one
    version the newest counts. Raises: Forbidden, NotFound.
    """
    place = await parts.prompts.place(ctx, name)
    since = now() - timedelta(days=days)
    versions = list(await history(parts, ctx, name))
    current = await parts.prompts.current_or_none(ctx, name)
    if current is not None and current.digest not in {each.digest for each in versions}:
        said = Version(name, current.digest, "files", "", "as the files are now", now(), current.spec.component())
        versions.insert(0, said)
    labels = await parts.prompts.labels(ctx, name)
    runs, notes = await _runs(parts, ctx, place.apps)
    digests = [each.digest for each in versions]
    used = {row.digest: row for row in await parts.observe.prompts(ctx, digests, since=since, apps=place.apps)}
    return Quality(
        name,
        since,
        tuple(
            VersionQuality(
                each,
                tuple(label.name for label in labels if label.digest == each.digest),
                current is not None and current.digest == each.digest,
                tuple(measure for report in runs.get(each.digest, ()) for measure in _measures(report)),
                _usage(used[each.digest]) if each.digest in used else None,
            )
            for each in versions
        ),
        tuple(notes),
    )


async def _runs(parts: Parts, ctx: Context, apps: Sequence[str]) -> tuple[Mapping[str, list[Report]], list[str]]:
    """Whole runs of the apps by the digest of the prompt that answered, one a suite."""
    owner = parts.access.local_owner()
    if ctx.tenant != owner.tenant:
        return {}, []
    kept = await KeptRuns(parts.evaluations.home, owner.tenant).list(ctx, limit=_MOST_RUNS)
    known = await _digests(parts, ctx, apps)
    cases: dict[str, str] = {}
    found: dict[str, dict[str, Report]] = {}
    others = 0
    for each in kept:
        digest = each.plan.tags.get(TAG) or known.get(each.plan.release, "")
        if each.report is None or each.report.ended == "budget" or not digest or not _is_of(each, apps):
            continue
        # Newest first: the newest run of a suite says which cases are compared.
        if cases.setdefault(each.plan.suite, each.plan.cases_digest) != each.plan.cases_digest:
            others += 1
            continue
        found.setdefault(digest, {}).setdefault(each.plan.suite, each.report)
    notes = [f"{others} runs on other cases than their suites have now are left out"] if others else []
    return {digest: list(suites.values()) for digest, suites in found.items()}, notes


def _is_of(each: Kept, apps: Sequence[str]) -> bool:
    target = each.plan.target
    named = target.split(":")[1] if target.startswith("release:") else target.removeprefix("app/").partition("@")[0]
    # A comparison calls its runs `APP: VARIANT`.
    return named in apps or target.partition(": ")[0] in apps


async def _digests(parts: Parts, ctx: Context, apps: Sequence[str]) -> dict[str, str]:
    """Digest of the prompt by release."""
    found: dict[str, str] = {}
    for app in apps:
        for info in await parts.releases.list(ctx, app, limit=_RELEASES):
            found[info.id] = info.components.get("prompt", "")
        try:
            live = parts.releases.live(app)
        except InterlockError:
            # Its frozen releases are known all the same.
            continue
        found[live.id] = live.digests.get("prompt", "")
    return found


def _measures(report: Report) -> Iterator[Measure]:
    for each in report.metrics:
        if each.mean is not None:
            figure = Figure(each.mean, each.interval, each.units)
            yield Measure(report.suite, each.name, each.better, figure, report.id, report.ended_at)


def _usage(row: PromptRow) -> Usage:
    return Usage(
        requests=row.requests,
        first=datetime.fromtimestamp(row.first_ns / 1e9, UTC),
        last=datetime.fromtimestamp(row.last_ns / 1e9, UTC),
        errors=_rate(row.failed, row.judged),
        declined=_rate(row.declined, row.answers),
        blocked=row.blocked,
        cost_nano=_mean(row.cost_nano, row.cost_spread, row.priced),
        seconds=_mean(row.seconds, row.seconds_spread, row.timed),
    )


def _rate(found: int, of: int) -> Figure | None:
    return Figure(found / of, wilson(found, of), of) if of else None


def _mean(mean: float | None, spread: float | None, count: int) -> Figure | None:
    if mean is None:
        return None
    if spread is None or count < _LEAST:
        return Figure(mean, None, count)
    half = NormalDist().inv_cdf(0.975) * spread / math.sqrt(count)
    return Figure(mean, Interval(max(0.0, mean - half), mean + half), count)


# Any: JSON on its way out.
def quality_view(found: Quality) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "prompt": found.name,
        "since": found.since.isoformat(),
        "notes": list(found.notes),
        "versions": [
            {
                "digest": each.version.digest,
                "origin": each.version.origin,
                "at": each.version.at.isoformat(),
                "rationale": each.version.rationale,
                "labels": list(each.labels),
                "files": each.is_files,
                "evaluations": [
                    {
                        "suite": one.suite,
                        "metric": one.metric,
                        "better": one.better,
                        "run": one.run,
                        "at": one.at.isoformat(),
                        **_figure(one.figure, "cases"),
                    }
                    for one in each.measures
                ],
                "requests": None if each.usage is None else _usage_view(each.usage),
            }
            for each in found.versions
        ],
    }


def _usage_view(usage: Usage) -> dict[str, Any]:
    return {
        "count": usage.requests,
        "first": usage.first.isoformat(),
        "last": usage.last.isoformat(),
        "blocked": usage.blocked,
        "errors": None if usage.errors is None else _figure(usage.errors, "requests"),
        "declined": None if usage.declined is None else _figure(usage.declined, "answers"),
        "cost_nano": None if usage.cost_nano is None else _figure(usage.cost_nano, "requests"),
        "seconds": None if usage.seconds is None else _figure(usage.seconds, "requests"),
    }


def _figure(figure: Figure, of: str) -> dict[str, Any]:
    interval = None if figure.interval is None else [figure.interval.low, figure.interval.high]
    return {"mean": figure.value, "interval": interval, of: figure.of}
