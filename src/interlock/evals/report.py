"""What a run found, whole: for people, for other tools, for a release's evidence."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.evals.floors import FloorResult
from interlock.evals.gate.deciding import Decision, estimate
from interlock.evals.gate.evidence import Measured
from interlock.evals.running.runner import Ended
from interlock.evals.tally import CaseInfo, Tally
from interlock.stats.intervals import Interval

__all__ = [
    "Flaky",
    "MetricSummary",
    "Report",
    "SliceSummary",
    "WorstCase",
    "flaky_cases",
    "slice_summaries",
    "summaries",
    "untried_note",
    "worst_cases",
]

_FLAKY_SHOWN = 50
_WORST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric over all cases."""

    name: str
    scale: str
    better: str
    mean: float | None
    interval: Interval | None
    """95 %, by unit of evidence: Wilson's for plain proportions, else BCa bootstrap."""
    units: int
    not_applicable: int
    """Cases it does not apply to."""
    errors: int
    """Executions it failed on."""
    p50: float | None = None
    p95: float | None = None
    """Of unbounded metrics, over executions."""


@dataclass(frozen=True, slots=True)
class SliceSummary:
    """One metric over one value of a slice."""

    slice: str
    metric: str
    mean: float
    interval: Interval
    units: int
    shrunk: float
    """Drawn towards the mean of all by as much as its scatter is noise: what to expect of the slice next time."""


@dataclass(frozen=True, slots=True)
class Flaky:
    """A case that passes and fails without anything having changed."""

    case: str
    metric: str
    passed: int
    runs: int


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A case far on the bad side of a metric in [0, 1]."""

    case: str
    metric: str
    value: float
    """Mean over its repeats; an execution that the target failed counts as the worst value."""


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    id: str
    suite: str
    suite_digest: str
    cases_digest: str
    target: str
    target_identity: Mapping[str, Any]  # Any: JSON values
    release: str
    """Digest of the release that answered; empty where none did."""
    began_at: datetime
    ended_at: datetime
    ended: Ended
    cases: int
    repeats: int
    executions: int
    failed: int
    kept: int
    """Executions answered from earlier runs."""
    cost_nano: int
    unpriced: int
    """Executions whose cost is not known: the true cost is higher than `cost_nano`."""
    metrics: tuple[MetricSummary, ...]
    slices: tuple[SliceSummary, ...]
    flaky: tuple[Flaky, ...]
    floors: tuple[FloorResult, ...]
    weak_cases: tuple[str, ...]
    """Cases that a floor passes."""
    sealed: int
    """Cases whose rows are not shown."""
    sealed_uses: Mapping[str, int]
    """By the digest of a sealed file's cases: how often it was used, this run included."""
    gate: Decision | None
    baseline: str
    """Run it was compared with; empty without one."""
    notes: tuple[str, ...] = ()
    worst: tuple[WorstCase, ...] = ()
    """Of every metric in [0, 1] the worst cases: where to look first. Never sealed ones."""

    @property
    def passed(self) -> bool:
        """Whether the gate passes; a run without a gate, or one that did not finish, passes nothing."""
        return self.gate is not None and self.gate.verdict == "pass"

    def canonical(self) -> bytes:
        """Everything in it as canonical JSON."""
        return canonical_bytes(msgspec.to_builtins(self))

    def digest(self) -> str:
        """Of `canonical`: what evidence points to."""
        return digest_bytes(self.canonical())


def summaries(measured: Mapping[str, Measured], cases: Sequence[CaseInfo]) -> list[MetricSummary]:
    """Every metric, in the suite's order."""
    made = []
    for name, each in measured.items():
        told = estimate(each, cases)
        every = sorted(value for values in each.values.values.values() for value in values)
        real = each.scale == "real" and bool(every)
        made.append(
            MetricSummary(
                name,
                each.scale,
                each.better,
                mean=None if told is None else told.mean,
                interval=None if told is None else told.interval,
                units=0 if told is None else told.units,
                not_applicable=len(each.values.not_applicable),
                errors=sum(each.values.missing.values()),
                p50=_quantile(every, 0.5) if real else None,
                p95=_quantile(every, 0.95) if real else None,
            )
        )
    return made


def untried_note(count: int) -> str:
    """What is said of executions whose target was asked nothing."""
    attacks = "1 attack was" if count == 1 else f"{count:,} attacks were"
    return f"{attacks} not tried: the attacker said nothing that could be sent"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def slice_summaries(measured: Mapping[str, Measured], cases: Sequence[CaseInfo]) -> list[SliceSummary]:
    """Every metric over every value of every slice, the shrunken mean beside it."""
    keys = sorted({key for case in cases for key in case.slices})
    found: list[SliceSummary] = []
    for name, each in measured.items():
        for key in keys:
            rows = []
            for value in sorted({case.slices[key] for case in cases if key in case.slices}):
                members = [case for case in cases if case.slices.get(key) == value]
                told = estimate(each, members)
                if told is not None:
                    rows.append((f"{key}={value}", told))
            centre = estimate(each, [case for case in cases if key in case.slices])
            if centre is None or not rows:
                continue
            shrunk = _shrunk([(told.mean, told.error) for _, told in rows], centre.mean)
            found.extend(
                SliceSummary(label, name, told.mean, told.interval, told.units, each_shrunk)
                for (label, told), each_shrunk in zip(rows, shrunk, strict=True)
            )
    return found


def _shrunk(means: Sequence[tuple[float, float]], centre: float) -> list[float]:
    """Empirical Bayes, normal with normal (Efron and Morris, JASA 70, 1975): the method of moments for the scatter
    between slices, DerSimonian and Laird's without weights.
    """
    noise = [max(error * error, 1e-9) for _, error in means]
    if len(means) < 2:
        return [mean for mean, _ in means]
    spread = math.fsum((mean - centre) ** 2 for mean, _ in means) / (len(means) - 1)
    between = max(0.0, spread - math.fsum(noise) / len(noise))
    return [centre + between / (between + each) * (mean - centre) for (mean, _), each in zip(means, noise, strict=True)]


def flaky_cases(measured: Mapping[str, Measured], tally: Tally) -> list[Flaky]:
    """Cases whose repeats disagree on a metric of 0 and 1, most undecided first."""
    found = []
    for name, each in measured.items():
        if each.scale != "binary" or name == "failed":
            continue
        for case, values in each.values.values.items():
            passed = sum(value == (1.0 if each.better == "higher" else 0.0) for value in values)
            if 0 < passed < len(values):
                found.append(Flaky(case, name, passed, len(values)))
    return sorted(found, key=lambda each: abs(each.passed / each.runs - 0.5))[:_FLAKY_SHOWN]


def worst_cases(measured: Mapping[str, Measured], hidden: Collection[str]) -> list[WorstCase]:
    """Of each metric in [0, 1] up to 20 cases on its bad half, worst first; none of `hidden`."""
    found: list[WorstCase] = []
    for name, each in measured.items():
        if each.scale == "real":
            continue
        good, bad = (1.0, 0.0) if each.better == "higher" else (0.0, 1.0)
        cases = []
        for case in {**each.values.values, **each.values.worst}:
            told = [*each.values.values.get(case, ()), *[bad] * each.values.worst.get(case, 0)]
            value = math.fsum(told) / len(told)
            if abs(value - good) > 0.5 and case not in hidden:
                cases.append(WorstCase(case, name, value))
        found += sorted(cases, key=lambda each: abs(each.value - good), reverse=True)[:_WORST_SHOWN]
    return found
