"""All scores of a run, small enough to hold: one number a metric, case and repeat, and what a case belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from interlock.evals.types import Case

__all__ = ["CaseInfo", "MetricValues", "Tally"]


@dataclass(frozen=True, slots=True)
class CaseInfo:
    """What statistics need of a case."""

    id: str
    unit: str
    pair: str
    slices: Mapping[str, str]
    digest: str

    @staticmethod
    def of(case: Case, digest: str) -> CaseInfo:
        """The info of one case."""
        return CaseInfo(
            case.id, case.unit, case.pair, {**case.slices, **{f"tag:{tag}": "yes" for tag in case.tags}}, digest
        )


@dataclass(slots=True)
class MetricValues:
    """Values of one metric by case, in order of their repeats."""

    values: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    """Case to how many of its executions have no value though they should: the metric failed."""
    worst: dict[str, int] = field(default_factory=dict)
    """Case to how many of its executions the target failed: as bad as can be."""
    not_applicable: dict[str, str] = field(default_factory=dict)
    """Case to why."""

    def mean(self, case: str) -> float | None:
        """Over its repeats; None without a value."""
        values = self.values.get(case)
        return math.fsum(values) / len(values) if values else None


@dataclass(slots=True)
class Tally:
    """Scores of a run so far."""

    cases: dict[str, CaseInfo]
    metrics: dict[str, MetricValues]

    @staticmethod
    def empty(cases: Sequence[CaseInfo], metrics: Sequence[str]) -> Tally:
        """Before the first score."""
        return Tally({case.id: case for case in cases}, {name: MetricValues() for name in metrics})

    def add(self, metric: str, case: str, value: float) -> None:
        """One value."""
        self.metrics[metric].values.setdefault(case, []).append(value)

    def done_cases(self) -> Iterator[str]:
        """Cases with any result."""
        seen: set[str] = set()
        for values in self.metrics.values():
            for each in (*values.values, *values.missing, *values.worst, *values.not_applicable):
                if each not in seen:
                    seen.add(each)
                    yield each
