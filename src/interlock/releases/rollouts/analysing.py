"""What the telemetry of two arms proves. Pure: the same outcomes give the same answer.

Every bound holds at all looks at once (asymptotic confidence sequences, `interlock.stats.sequential`), so looking each
minute for two weeks costs nothing. Units are what was assigned (people, conversations, keys), never requests: twenty
requests of one person are one piece of evidence. Harm is looked for with alpha divided over the guardrails, since any
one of them may raise a false alarm; safety is shown with alpha each, since all of them have to be (intersection-union).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from interlock.releases.rollouts.types import Check, Guardrail, Measure, RolloutSpec, UnitOutcome
from interlock.stats.intervals import Interval
from interlock.stats.sequential import Moments, count_bayes_factor, gap_between, lower_bound

__all__ = ["Finding", "analyse", "plain_value", "value_of"]

_SRM_ALARM = 1_000.0
"""Evidence against the shares that were asked for, from which on an experiment is broken: false once in a thousand."""
_SRM_UNITS = 100

Action = Literal["go_on", "advance", "roll_back", "pause"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What to do, and the numbers it rests on."""

    action: Action
    reason: str
    checks: tuple[Check, ...]
    units: tuple[int, int]
    """Of candidate and control."""


def analyse(
    spec: RolloutSpec,
    outcomes: Sequence[UnitOutcome],
    *,
    percent: float,
    step_ns: int,
    last: bool,
    shadow: bool = False,
) -> Finding:
    """Look at all outcomes since the rollout began.

    Args:
        outcomes: one a unit and arm; of a unit in both (it was moved when the share rose) only the candidate's counts.
        percent: the candidate's share now.
        step_ns: when this step began, Unix nanoseconds.
        last: this is the last step: going on from it takes proof that nothing is worse.
        shadow: the candidate answered copies: its units are the control's own, which makes the bounds wider than they
            need be, and no unit was assigned.
    """
    moved = set() if shadow else {each.unit for each in outcomes if each.arm == "candidate"}
    candidate = [each for each in outcomes if each.arm == "candidate"]
    control = [each for each in outcomes if each.arm == "control" and each.unit not in moved]
    units = (len(candidate), len(control))
    enough = spec.shadow.min_units if shadow and spec.shadow is not None else spec.min_units
    if not shadow and (reason := _mismatch(outcomes, percent, step_ns)):
        return Finding("pause", reason, (), units)
    if reason := _stopped(spec, candidate):
        return Finding("roll_back", reason, (), units)
    spent = sum(each.cost_nano for each in candidate) / 1e9
    if spec.max_cost_usd is not None and spent > spec.max_cost_usd:
        return Finding(
            "pause", f"the candidate has cost {spent:.2f} US dollars, more than {spec.max_cost_usd:g}", (), units
        )
    checks = tuple(check for each in spec.guardrails if (check := _check(each, spec, candidate, control)) is not None)
    harmful = [check for check in checks if check.verdict == "harmful"]
    if harmful:
        return Finding("roll_back", "; ".join(map(_harm, harmful)), checks, units)
    if min(units) < enough:
        return Finding("go_on", f"{min(units)} of {enough} units an arm", checks, units)
    if not last:
        return Finding("advance", "no harm is seen", checks, units)
    unsure = [check.measure for check in checks if check.verdict != "safe"]
    unmeasured = [each.measure for each in spec.guardrails if each.measure not in {check.measure for check in checks}]
    if unsure or unmeasured:
        told = ", ".join([*unsure, *(f"{name} (not measured)" for name in unmeasured)])
        return Finding("go_on", f"not yet shown to be no worse: {told}", checks, units)
    return Finding("advance", "every guardrail is shown to be no worse than its margin", checks, units)


def _mismatch(outcomes: Iterable[UnitOutcome], percent: float, step_ns: int) -> str:
    """Whether units that came in this step fall to the arms as they should."""
    counts: dict[str, int] = {"candidate": 0, "control": 0}
    for each in outcomes:
        if each.first_ns >= step_ns:
            counts[each.arm] += 1
    if sum(counts.values()) < _SRM_UNITS:
        return ""
    share = percent / 100
    if count_bayes_factor([counts["candidate"], counts["control"]], [share, 1 - share]) < _SRM_ALARM:
        return ""
    return (
        f"{counts['candidate']} and {counts['control']} new units in the arms are not the {percent:g} % asked for: "
        "requests are lost or counted twice in one of them"
    )


def _stopped(spec: RolloutSpec, candidate: Sequence[UnitOutcome]) -> str:
    for stop in spec.stops:
        values = [value for each in candidate if (value := plain_value(each, stop.measure)) is not None]
        if len(values) >= stop.after and (mean := math.fsum(values) / len(values)) > stop.above:
            return f"{stop.measure} of the candidate is {mean:.3g}, above its hard limit {stop.above:g}"
    return ""


def plain_value(outcome: UnitOutcome, measure: Measure) -> float | None:
    """What a unit met, in seconds and US dollars where that is its unit; None where it was not measured."""
    if measure == "latency":
        return outcome.latency_s
    if measure == "cost":
        return outcome.cost_nano / 1e9
    return _VALUES[measure](outcome)


def value_of(outcome: UnitOutcome, measure: Measure) -> float | None:
    """What a unit met, on the scale on which it is compared: of latency and cost the logarithm."""
    return _VALUES[measure](outcome)


_VALUES: dict[Measure, Callable[[UnitOutcome], float | None]] = {
    "error": lambda each: each.error,
    "declined": lambda each: each.declined,
    "blocked": lambda each: each.blocked,
    "unsupported": lambda each: each.unsupported,
    "complaint": lambda each: each.complaint,
    "latency": lambda each: each.log_latency,
    "cost": lambda each: each.log_cost,
}


def _check(
    guardrail: Guardrail, spec: RolloutSpec, candidate: Sequence[UnitOutcome], control: Sequence[UnitOutcome]
) -> Check | None:
    treated, usual = (_moments(side, guardrail.measure) for side in (candidate, control))
    # Bounds of this kind are for numbers that are not small; below them only the hard limits speak.
    if min(treated.n, usual.n) < max(10, spec.min_units // 2):
        return None
    # Of a share the range is known, so what was not met yet is not taken for absent.
    gap = gap_between(treated, usual, within=None if guardrail.is_ratio else Interval(0.0, 1.0))
    low = lower_bound(gap, spec.alpha / len(spec.guardrails))
    high = -lower_bound(gap._replace(mean=-gap.mean), spec.alpha)
    tolerance, margin = guardrail.tolerance, guardrail.margin
    if guardrail.is_ratio:
        tolerance, margin = math.log1p(tolerance), math.log1p(margin)
    verdict: Literal["harmful", "safe", "open"] = "harmful" if low > tolerance else "safe" if high < margin else "open"
    shown: Callable[[float], float] = math.exp if guardrail.is_ratio else float
    harm: Callable[[float], float] = math.expm1 if guardrail.is_ratio else float
    return Check(
        guardrail.measure,
        candidate=shown(treated.mean),
        control=shown(usual.mean),
        harm=harm(gap.mean),
        low=harm(low),
        high=harm(high),
        margin=guardrail.margin,
        units=(treated.n, usual.n),
        verdict=verdict,
    )


def _moments(side: Sequence[UnitOutcome], measure: Measure) -> Moments:
    moments = Moments()
    for each in side:
        if (value := value_of(each, measure)) is not None:
            moments.add(value)
    return moments


def _harm(check: Check) -> str:
    if check.measure in {"latency", "cost"}:
        return (
            f"{check.measure} is {check.harm:+.0%} ({check.candidate:.3g} against {check.control:.3g}), "
            f"surely more than {check.low:+.1%}"
        )
    return (
        f"{check.measure} rose from {check.control:.1%} to {check.candidate:.1%} over {check.units[0]} and "
        f"{check.units[1]} units, surely by more than {check.low:.1%}"
    )
