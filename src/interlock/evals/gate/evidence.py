"""What a rule is decided on: one value a unit of evidence, and what is not known bounded by the worst it could be."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from interlock.evals.ports import Better, Scale
from interlock.evals.tally import CaseInfo, MetricValues

__all__ = ["Measured", "Units", "gaps", "units"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of a run, as a gate looks at it."""

    name: str
    scale: Scale
    better: Better
    values: MetricValues


@dataclass(frozen=True, slots=True)
class Units:
    """One value a unit of evidence, as far as it is known, and its worst and best where it is not."""

    known: tuple[float, ...]
    """Values as measured, for estimates."""
    worst: tuple[float, ...]
    """The same with what is missing put in at its worst: what a pass is decided on. Longer than `known`."""
    best: tuple[float, ...]
    """At its best: what a failure is decided on."""
    missing: int
    """Executions whose metric failed."""
    failed: int
    """Executions whose target failed. In [0, 1] these count as the worst value everywhere."""
    not_applicable: int
    """Cases without this metric."""
    single: bool
    """Every unit is one execution of one case: counts of a proportion are then exact."""


def units(measured: Measured, cases: Collection[CaseInfo]) -> Units:
    """Values of a metric by unit.

    A value in [0, 1] that is missing may be anything there. Of a metric without bounds (seconds) it is infinite: a mean
    can then not pass, a quantile still may.
    """
    bad, good = (0.0, 1.0) if measured.better == "higher" else (1.0, 0.0)
    if measured.scale == "real":
        bad, good = (-math.inf, math.inf) if measured.better == "higher" else (math.inf, -math.inf)
    of = measured.values
    members: dict[str, list[tuple[list[float], int, int]]] = {}
    not_applicable = 0
    for case in cases:
        values = list(of.values.get(case.id, ()))
        missing, failed = of.missing.get(case.id, 0), of.worst.get(case.id, 0)
        if not values and not missing and not failed:
            not_applicable += case.id in of.not_applicable
            continue
        members.setdefault(case.unit, []).append((values, missing, failed))
    known: list[float] = []
    worst: list[float] = []
    best: list[float] = []
    single = True
    for group in members.values():
        single &= len(group) == 1 and len(group[0][0]) + group[0][1] + group[0][2] == 1
        told = [
            v for values, _, failed in group for v in [*values, *([bad] * failed if measured.scale != "real" else [])]
        ]
        if told:
            known.append(_mean(told))
        worst.append(_mean([_mean([*values, *[bad] * (missing + failed)]) for values, missing, failed in group]))
        best.append(
            _mean(
                [
                    _mean([*values, *[good] * missing, *[bad if measured.scale != "real" else good] * failed])
                    for values, missing, failed in group
                ]
            )
        )
    return Units(
        tuple(known),
        tuple(worst),
        tuple(best),
        sum(of.missing.get(case.id, 0) for case in cases),
        sum(of.worst.get(case.id, 0) for case in cases),
        not_applicable,
        single,
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def gaps(
    new: Measured, old: Measured, cases: Collection[CaseInfo], *, ratio: bool = False
) -> tuple[list[float], list[float], int]:
    """New less old by unit, over cases that both have: at its worst, at its best, and cases that only one has.

    Args:
        ratio: of logarithms, for values above 0 that scatter by factors (seconds, tokens, money).

    A higher gap is a better one, whichever way the metric points.
    """
    sign = 1.0 if new.better == "higher" else -1.0
    change: Callable[[float], float] = (lambda v: math.log(v) if v > 0 else math.inf) if ratio else float
    bad, good = (0.0, 1.0) if new.better == "higher" else (1.0, 0.0)
    by_unit: dict[str, list[tuple[float, float]]] = {}
    unpaired = 0
    for case in cases:
        ours = _bounds(new.values, case.id, bad, good, new.scale == "real")
        theirs = _bounds(old.values, case.id, bad, good, old.scale == "real")
        if theirs is None or (ours is None and not _is_lost(new.values, case.id)):
            unpaired += theirs is not None or ours is not None
            continue
        if ours is None:
            # The baseline answered and the new one did not: nothing bounds how much worse that is.
            low, high = -math.inf, math.inf
        else:
            low = sign * (change(ours[0]) - change(theirs[1]))
            high = sign * (change(ours[1]) - change(theirs[0]))
        by_unit.setdefault(case.unit, []).append((low, high))
    worst = [_mean([low for low, _ in pairs]) for pairs in by_unit.values()]
    best = [_mean([high for _, high in pairs]) for pairs in by_unit.values()]
    return worst, best, unpaired


def _is_lost(values: MetricValues, case: str) -> bool:
    return bool(values.missing.get(case, 0) or values.worst.get(case, 0))


def _bounds(values: MetricValues, case: str, bad: float, good: float, unbounded: bool) -> tuple[float, float] | None:
    told = list(values.values.get(case, ()))
    missing, failed = values.missing.get(case, 0), values.worst.get(case, 0)
    if unbounded:
        # A value without bounds that is not there says nothing of the difference: the case is not compared.
        return None if missing or failed or not told else (_mean(told), _mean(told))
    if not told and not missing and not failed:
        return None
    return _mean([*told, *[bad] * (missing + failed)]), _mean([*told, *[good] * missing, *[bad] * failed])
