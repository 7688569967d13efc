"""Answers without effort: what a suite gives to somebody who says nothing, refuses, repeats the question, or copies.

An app has to beat them. A case that a floor passes tells nothing of an app, and is flagged as weak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from interlock.evals.ports import Instruments, Metric
from interlock.evals.running.scoring import score_all
from interlock.evals.suite import MeasuredBy, Suite
from interlock.evals.types import Case, CitedSpan, Output

__all__ = ["FLOORS", "FloorResult", "cheap_metrics", "floor_results"]

_REFUSAL = "I'm sorry, but I can't help with that."
_PASSES = 0.5
"""A value on the good side of it passes a case, of metrics in [0, 1]."""

Floor = Callable[[Case, Output | None], Output | None]


def _nothing(case: Case, output: Output | None) -> Output:
    return Output("", outcome="declined")


def _refusal(case: Case, output: Output | None) -> Output:
    return Output(_REFUSAL, outcome="refused")


def _echo(case: Case, output: Output | None) -> Output:
    return Output(case.question)


def _longest(case: Case, output: Output | None) -> Output | None:
    """The longest text at hand: what wins where length is taken for quality."""
    texts = [*case.context, *(found.text for found in (output.found if output else ()))]
    return Output(max(texts, key=len)) if texts else None


def _retrieval(case: Case, output: Output | None) -> Output | None:
    """What was found first, word for word and cited: retrieval without an answer."""
    if output is None or not output.found or not output.found[0].text:
        return None
    first = output.found[0]
    span = CitedSpan(first.source, first.text, first.start, first.end, support="supported")
    return Output(first.text, citations=(span,), found=output.found)


FLOORS: Mapping[str, Floor] = {
    "null": _nothing,
    "refuse": _refusal,
    "echo": _echo,
    "longest": _longest,
    "retrieval": _retrieval,
}


@dataclass(frozen=True, slots=True)
class FloorResult:
    """What one floor gets."""

    name: str
    means: Mapping[str, float]
    """By metric, over the cases it has an answer for."""
    passed: tuple[str, ...]
    """Cases it passes on every metric that says how good an answer is."""
    cases: int


def cheap_metrics(suite: Suite) -> list[MeasuredBy]:
    """Metrics a floor is measured by: those in [0, 1] that cost nothing to ask."""
    return [
        each
        for each in suite.measured_by
        if isinstance(each.metric, Metric) and each.metric.scale != "real" and "judge" not in each.metric.needs
    ]


async def floor_results(
    suite: Suite, outputs: Mapping[str, Output], instruments: Instruments, *, cases: Sequence[Case] | None = None
) -> list[FloorResult]:
    """Measure every floor on the suite's cases.

    Args:
        outputs: what the target gave, by case, as far as it is at hand: two of the floors copy from it.
    """
    metrics = [each for each in cheap_metrics(suite) if not each.use.after]
    results: list[FloorResult] = []
    for name, floor in FLOORS.items():
        sums: dict[str, list[float]] = {}
        passed: list[str] = []
        asked = 0
        for case in suite.cases if cases is None else cases:
            output = floor(case, outputs.get(case.id))
            if output is None:
                continue
            asked += 1
            scores = await score_all(case, output, metrics, instruments)
            told = []
            for by in metrics:
                value = scores[by.label].value
                if value is not None:
                    sums.setdefault(by.label, []).append(value)
                    told.append(value > _PASSES if by.metric.better == "higher" else value < _PASSES)
            # Nothing is leaked, and nothing toxic said, by somebody who says nothing: alone these prove no skill.
            skilled = [by for by in metrics if by.metric.better == "higher" and scores[by.label].value is not None]
            if skilled and all(told):
                passed.append(case.id)
        if asked:
            means = {label: math.fsum(values) / len(values) for label, values in sums.items()}
            results.append(FloorResult(name, means, tuple(passed), asked))
    return results
