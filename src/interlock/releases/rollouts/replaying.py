"""What the same past requests, answered by two releases, prove. Pure.

Each request is compared with itself, so what makes questions hard cancels out; requests of one person or conversation
are one piece of evidence. Shares are judged by a test that is exact however few there are, latency and cost by
resampled means of their logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from interlock.releases.rollouts.types import Check, Guardrail, Measure
from interlock.stats.bounded import bounded_mean_p
from interlock.stats.paired import bca_interval, bca_p, cases_needed, grouped

__all__ = ["MEASURED", "Met", "Replay", "Replayed", "judge_replay"]

_FEWEST = {False: 10, True: 30}
"""Units below which a share, or a ratio, is not judged."""


class Met(NamedTuple):
    """What one request met with one release; None where it says nothing."""

    error: float | None = None
    declined: float | None = None
    blocked: float | None = None
    latency: float | None = None
    """Logarithm of seconds."""
    cost: float | None = None
    """Logarithm of nano-dollars."""


MEASURED = frozenset(Met._fields)
"""Measures of rollouts that a replay can see too."""


class Replayed(NamedTuple):
    """One request with both."""

    unit: str
    control: Met
    candidate: Met


class Replay(NamedTuple):
    """What a replay has shown."""

    verdict: Literal["pass", "fail", "not_enough_evidence"]
    reason: str
    checks: tuple[Check, ...]
    requests: int
    units: int
    more_units: int
    """That would show what is still open, by what was seen; 0 where nothing is."""
    p: float = 1.0
    """How likely such answers are of a release that is worse than some margin: the largest over the guardrails."""


def judge_replay(guardrails: Sequence[Guardrail], alpha: float, seen: Sequence[Replayed]) -> Replay:
    """The verdict of the guardrails that rollouts have too.

    Harm is looked for with alpha divided over them; safety is shown with alpha each, since all of them have to be.
    """
    checks: list[Check] = []
    open_ones: list[str] = []
    more, p = 0, 0.0
    for guardrail in guardrails:
        pairs = [
            (each.unit, new, old)
            for each in seen
            if (new := _value(each.candidate, guardrail.measure)) is not None
            and (old := _value(each.control, guardrail.measure)) is not None
        ]
        gaps = grouped([new - old for _, new, old in pairs], [unit for unit, _, _ in pairs])
        if len(gaps) < _FEWEST[guardrail.is_ratio]:
            open_ones.append(f"{guardrail.measure} (measured in {len(gaps)} units)")
            p = 1.0
            continue
        means = [math.fsum(values) / len(pairs) for values in zip(*((n, o) for _, n, o in pairs), strict=True)]
        judged = _check(guardrail, alpha, gaps, (means[0], means[1]), tests=len(guardrails))
        check, p = judged.check, max(p, judged.safe_p)
        checks.append(check)
        if check.verdict == "open":
            open_ones.append(guardrail.measure)
            room = _scaled(guardrail.margin, guardrail) - math.fsum(gaps) / len(gaps)
            if room > 0:
                more = max(more, cases_needed(gaps, room, alpha=alpha) - len(gaps), len(gaps) // 4)
    units = len({each.unit for each in seen})
    if harmful := [check.measure for check in checks if check.verdict == "harmful"]:
        return Replay("fail", f"surely worse: {', '.join(harmful)}", tuple(checks), len(seen), units, 0, p)
    if open_ones:
        reason = f"not yet shown to be no worse: {', '.join(open_ones)}"
        return Replay("not_enough_evidence", reason, tuple(checks), len(seen), units, more, p)
    reason = "every guardrail is shown to be no worse than its margin"
    return Replay("pass", reason, tuple(checks), len(seen), units, 0, p)


def _value(met: Met, measure: Measure) -> float | None:
    values: dict[str, float | None] = met._asdict()
    return values.get(measure)


def _scaled(value: float, guardrail: Guardrail) -> float:
    return math.log1p(value) if guardrail.is_ratio else value


class _Judged(NamedTuple):
    check: Check
    safe_p: float


def _check(
    guardrail: Guardrail, alpha: float, gaps: Sequence[float], means: tuple[float, float], *, tests: int
) -> _Judged:
    tolerance, margin = _scaled(guardrail.tolerance, guardrail), _scaled(guardrail.margin, guardrail)
    if guardrail.is_ratio:
        harm, safe = bca_p(gaps, tolerance), bca_p([-gap for gap in gaps], -margin)
    else:
        harm = bounded_mean_p(gaps, tolerance, side="above", low=-1.0)
        safe = bounded_mean_p(gaps, margin, side="below", low=-1.0)
    verdict: Literal["harmful", "safe", "open"] = (
        "harmful" if harm <= alpha / tests else "safe" if safe <= alpha else "open"
    )
    interval = bca_interval(gaps, 1 - 2 * alpha)
    shown: Callable[[float], float] = math.exp if guardrail.is_ratio else float
    gap: Callable[[float], float] = math.expm1 if guardrail.is_ratio else float
    check = Check(
        guardrail.measure,
        shown(means[0]),
        shown(means[1]),
        gap(math.fsum(gaps) / len(gaps)),
        gap(interval.low),
        gap(interval.high),
        guardrail.margin,
        (len(gaps), len(gaps)),
        verdict,
    )
    return _Judged(check, float(safe))
