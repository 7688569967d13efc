"""Runs beside each other: what differs beyond chance, and which of them nobody beats in everything at once."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interlock.core.errors import InvalidInput
from interlock.evals.gate.deciding import estimate
from interlock.evals.gate.evidence import Measured, gaps
from interlock.evals.tally import CaseInfo
from interlock.stats.intervals import Interval
from interlock.stats.paired import bca_interval, holm, permutation_p

__all__ = ["Beside", "Cell", "Difference", "compared", "frontier", "frontier_shares"]

_SEED = 7


@dataclass(frozen=True, slots=True)
class Beside:
    """A run that is compared."""

    id: str
    target: str
    cases: Mapping[str, CaseInfo]
    measured: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Difference:
    """A run against the first one, on the cases that both asked word for word."""

    value: float
    """Mean, this run less the first, in the metric's own direction."""
    interval: Interval
    """95 %, BCa bootstrap over units."""
    p: float
    """Of no difference, permutation test, Holm's correction over all runs and metrics shown."""
    units: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one run."""

    run: str
    metric: str
    better: str
    mean: float
    interval: Interval
    units: int
    against_first: Difference | None
    """None of the first run, and where no case is in both."""


def compared(runs: Sequence[Beside]) -> list[Cell]:
    """Every metric that all runs have, run by run in their order.

    Raises: InvalidInput: fewer than two runs, or no metric that all of them have.
    """
    if len(runs) < 2:
        raise InvalidInput("two runs or more are compared", param="runs", hint="interlock eval list")
    shared = [name for name in runs[0].measured if all(name in run.measured for run in runs) and name != "failed"]
    if not shared:
        raise InvalidInput("the runs have no metric in common", param="runs")
    raw: list[tuple[Cell, Difference | None]] = []
    for run in runs:
        cases = list(run.cases.values())
        for name in shared:
            told = estimate(run.measured[name], cases)
            if told is None:
                continue
            difference = None if run is runs[0] else _difference(run, runs[0], name)
            cell = Cell(run.id, name, run.measured[name].better, told.mean, told.interval, told.units, None)
            raw.append((cell, difference))
    tested = [difference for _, difference in raw if difference is not None]
    adjusted = iter(holm([difference.p for difference in tested]))
    return [
        Cell(
            cell.run,
            cell.metric,
            cell.better,
            cell.mean,
            cell.interval,
            cell.units,
            None if found is None else Difference(found.value, found.interval, next(adjusted), found.units),
        )
        for cell, found in raw
    ]


def _difference(run: Beside, first: Beside, name: str) -> Difference | None:
    both = [
        case for case in run.cases.values() if case.id in first.cases and first.cases[case.id].digest == case.digest
    ]
    worst, best, _ = gaps(run.measured[name], first.measured[name], both)
    # Where a value is missing the middle of what it could be is shown; the gate is what decides on the worst.
    values = [(low + high) / 2 for low, high in zip(worst, best, strict=True) if math.isfinite(low + high)]
    if not values:
        return None
    sign = 1.0 if run.measured[name].better == "higher" else -1.0
    interval = bca_interval([sign * value for value in values])
    mean = sign * math.fsum(values) / len(values)
    return Difference(mean, interval, permutation_p(values), len(values))


def frontier_shares(runs: Sequence[Beside], metrics: Sequence[str], *, draws: int = 1000) -> dict[str, float]:
    """How often each run stands on the frontier of `metrics` when the cases are drawn again (bootstrap over units).

    The frontier of the means is one draw of many: a share near 1 says that a run belongs there, one near 0 that it does
    not, anything between that these cases cannot tell. Only units that every run has a value of are drawn; without any
    the answer is empty. The same runs always give the same shares.
    """
    values = [[_by_unit(run.measured[name], run.cases) for name in metrics] for run in runs]
    shared = sorted(set.intersection(*(set(column) for row in values for column in row)))
    if not shared:
        return {}
    rows = [[[column[unit] for unit in shared] for column in row] for row in values]
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    counts = [0] * len(runs)
    for _ in range(draws):
        drawn = chance.choices(range(len(shared)), k=len(shared))
        means = [[math.fsum(column[at] for at in drawn) for column in row] for row in rows]
        for number, own in enumerate(means):
            counts[number] += not any(_beats(other, own) for other in means)
    return {run.id: count / draws for run, count in zip(runs, counts, strict=True)}


def _beats(other: Sequence[float], own: Sequence[float]) -> bool:
    return other != own and all(a >= b for a, b in zip(other, own, strict=True))


def _by_unit(measured: Measured, cases: Mapping[str, CaseInfo]) -> dict[str, float]:
    """Means by unit, higher being better; an execution that failed counts as the worst where there is a worst."""
    sign = 1.0 if measured.better == "higher" else -1.0
    bad = 0.0 if measured.better == "higher" else 1.0
    members: dict[str, list[float]] = {}
    for case in cases.values():
        failed = 0 if measured.scale == "real" else measured.values.worst.get(case.id, 0)
        told = [*measured.values.values.get(case.id, ()), *[bad] * failed]
        if told:
            members.setdefault(case.unit, []).append(math.fsum(told) / len(told))
    return {unit: sign * math.fsum(told) / len(told) for unit, told in members.items()}


def frontier(cells: Sequence[Cell], metrics: Sequence[str]) -> list[str]:
    """Runs that no other one equals in all of `metrics` and beats in one, by their means: quality, cost, latency, say.

    Raises: InvalidInput: a metric that the runs do not have.
    """
    table: dict[str, dict[str, float]] = {}
    for cell in cells:
        value = cell.mean if cell.better == "higher" else -cell.mean
        table.setdefault(cell.run, {})[cell.metric] = value
    missing = [name for name in metrics if not all(name in row for row in table.values())]
    if missing:
        raise InvalidInput(f"not every run has {missing[0]!r}", param="frontier")

    def beaten(run: str) -> bool:
        own = [table[run][name] for name in metrics]
        return any(_beats([row[name] for name in metrics], own) for other, row in table.items() if other != run)

    return [run for run in table if not beaten(run)]
