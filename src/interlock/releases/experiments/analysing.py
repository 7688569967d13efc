"""What the telemetry of several arms proves. Pure: the same outcomes give the same answer.

Each variant is held against the control. Every bound and p-value holds at all looks at once (asymptotic confidence
sequences), Holm keeps the chance of one false winner or loser among the variants at `alpha.primary`, and harm is
looked for with `alpha.guardrails` over variants and guardrails (Bonferroni). A guardrail is shown to be safe at
`alpha.primary` each, since all of them have to be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from interlock.releases.experiments.types import ArmCount, Comparison, Plan, Report, Verdict
from interlock.releases.rollouts.analysing import plain_value, value_of
from interlock.releases.rollouts.types import Guardrail, Measure, UnitOutcome
from interlock.stats.intervals import Interval
from interlock.stats.paired import holm
from interlock.stats.sequential import (
    Gap,
    Moments,
    always_valid_p,
    count_bayes_factor,
    gap_between,
    lower_bound,
    two_sided,
    units_needed,
)

__all__ = ["RATIOS", "ArmSeen", "analyse", "judge"]

RATIOS: frozenset[Measure] = frozenset({"latency", "cost"})
_MEASURES: tuple[Measure, ...] = get_args(Measure)
_SHARE = Interval(0.0, 1.0)
_SRM_ALARM = 1_000.0
_SRM_UNITS = 100
_CROSSED = 0.01
"""Share of units met in several arms from which on the arms are not what they are called."""


@dataclass(slots=True)
class ArmSeen:
    """What the units of one arm met."""

    units: int = 0
    requests: int = 0
    of: dict[Measure, Moments] = field(default_factory=dict)
    plain: dict[Measure, Moments] = field(default_factory=dict)
    """In seconds and US dollars, for hard limits."""

    def add(self, outcome: UnitOutcome) -> None:
        """Take one unit."""
        self.units += 1
        self.requests += outcome.requests
        for measure in _MEASURES:
            if (value := value_of(outcome, measure)) is not None:
                self.of.setdefault(measure, Moments()).add(value)
            if measure in RATIOS and (plain := plain_value(outcome, measure)) is not None:
                self.plain.setdefault(measure, Moments()).add(plain)


def analyse(plan: Plan, outcomes: Sequence[UnitOutcome]) -> Report:
    """Look at all outcomes since the experiment began: one a unit and arm. A unit of several arms is left out."""
    met = Counter(each.unit for each in outcomes)
    seen = {arm.name: ArmSeen() for arm in plan.arms}
    crossed = {unit for unit, arms in met.items() if arms > 1}
    for each in outcomes:
        if each.unit not in crossed and each.arm in seen:
            seen[each.arm].add(each)
    return judge(plan, seen, left_out=len(crossed))


def judge(plan: Plan, seen: Mapping[str, ArmSeen], *, left_out: int = 0) -> Report:
    """The verdict on what the units of each arm met."""
    spec = plan.spec
    counts = tuple(ArmCount(a.name, seen[a.name].units, seen[a.name].requests, a.share) for a in plan.arms)

    def report(verdict: Verdict, reason: str, *, settled: bool, **more: object) -> Report:
        told = {"winners": (), "more_units": 0, "comparisons": (), **more}
        return Report(verdict, settled, reason, counts=counts, left_out=left_out, **told)  # type: ignore[arg-type]  # named above

    if broken := _broken(plan, counts, left_out):
        return report("invalid", broken, settled=True)
    if stopped := _stopped(plan, seen):
        return report("harmful", stopped, settled=True)
    fewest = min(each.units for each in counts)
    if fewest < spec.min_units:
        reason = f"{fewest} of {spec.min_units} units in the smallest arm"
        return report("inconclusive", reason, settled=False, more_units=max(plan.forecast.units_at_most - fewest, 1))
    primaries = _primaries(plan, seen)
    guards = [
        found
        for guardrail in spec.guardrails
        for arm in plan.arms[1:]
        if (found := _guarded(plan, guardrail, arm.name, seen)) is not None
    ]
    others = [each for each in _MEASURES if each not in {spec.primary.measure, *(g.measure for g in spec.guardrails)}]
    beside = [
        found
        for measure in others
        for arm in plan.arms[1:]
        if (found := _explored(plan, measure, arm.name, seen)) is not None
    ]
    comparisons = (*primaries, *guards, *beside)
    if harmful := [each for each in guards if each.verdict == "harmful"]:
        return report("harmful", "; ".join(map(_harm, harmful)), settled=True, comparisons=comparisons)
    verdict, settled, reason, winners = _decided(plan, primaries, guards)
    more = 0 if settled else _more_units(plan, seen, fewest)
    return report(verdict, reason, settled=settled, winners=winners, more_units=more, comparisons=comparisons)


def _broken(plan: Plan, counts: Sequence[ArmCount], left_out: int) -> str:
    units = [each.units for each in counts]
    if sum(units) + left_out < _SRM_UNITS:
        return ""
    if left_out > _CROSSED * (sum(units) + left_out):
        return f"{left_out} units were met in several arms: what identifies a unit is not the same in every request"
    if count_bayes_factor(units, [arm.share for arm in plan.arms]) < _SRM_ALARM:
        return ""
    told = ", ".join(f"{each.name} {each.units}" for each in counts)
    asked = ", ".join(f"{100 * arm.share:.3g} %" for arm in plan.arms)
    return f"the arms have {told} units, which are not the {asked} asked for: requests are lost or counted twice in one"


def _stopped(plan: Plan, seen: Mapping[str, ArmSeen]) -> str:
    for stop in plan.spec.stops:
        for arm in plan.arms[1:]:
            moments = (seen[arm.name].plain if stop.measure in RATIOS else seen[arm.name].of).get(stop.measure)
            if moments is not None and moments.n >= stop.after and moments.mean > stop.above:
                return f"{stop.measure} of {arm.name} is {moments.mean:.3g}, above its hard limit {stop.above:g}"
    return ""


class _Pair(NamedTuple):
    """One measure of a variant and the control."""

    treated: Moments
    control: Moments
    gap: Gap


def _pair(plan: Plan, measure: Measure, arm: str, seen: Mapping[str, ArmSeen]) -> _Pair | None:
    treated, control = (seen[name].of.get(measure, Moments()) for name in (arm, plan.control.name))
    # Bounds of this kind are for numbers that are not small.
    if min(treated.n, control.n) < max(10, plan.spec.min_units // 2):
        return None
    within = None if measure in RATIOS else _SHARE
    return _Pair(treated, control, gap_between(treated, control, within=within))


def _shown(
    pair: _Pair,
    measure: Measure,
    arm: str,
    interval: Interval,
    *,
    role: Literal["primary", "guardrail", "exploratory"],
    verdict: Literal["better", "worse", "same", "safe", "harmful", "open", ""],
    margin: float | None = None,
    p: float | None = None,
) -> Comparison:
    as_ratio = measure in RATIOS
    value: Callable[[float], float] = math.exp if as_ratio else float
    gap: Callable[[float], float] = math.expm1 if as_ratio else float
    return Comparison(
        arm,
        measure,
        role,
        value(pair.treated.mean),
        value(pair.control.mean),
        gap(pair.gap.mean),
        gap(interval.low),
        gap(interval.high),
        margin,
        p,
        (pair.treated.n, pair.control.n),
        verdict,
    )


def _effect(plan: Plan) -> float:
    """The planned effect on the scale on which it is compared."""
    primary = plan.spec.primary
    return math.log1p(primary.effect) if primary.measure in RATIOS else primary.effect


def _measure(plan: Plan) -> Measure:
    """The primary measure of a plan whose units have one arm each."""
    assert plan.spec.primary.measure != "preference", "interleaved searches are judged in `preferring`"
    return plan.spec.primary.measure


def _primaries(plan: Plan, seen: Mapping[str, ArmSeen]) -> list[Comparison]:
    measure, variants = _measure(plan), plan.arms[1:]
    alpha = plan.spec.alpha.primary
    pairs = {arm.name: pair for arm in variants if (pair := _pair(plan, measure, arm.name, seen)) is not None}
    # A variant that is not measured yet takes its place in the correction all the same.
    ps = [
        always_valid_p(pairs[arm.name].gap, alpha / len(variants), tightest_at=plan.tightest_at)
        if arm.name in pairs
        else 1.0
        for arm in variants
    ]
    found: list[Comparison] = []
    effect = _effect(plan)
    for arm, p in zip(variants, holm(ps), strict=True):
        if arm.name not in pairs:
            continue
        pair = pairs[arm.name]
        interval = two_sided(pair.gap, alpha / len(variants), tightest_at=plan.tightest_at)
        verdict: Literal["better", "worse", "same", "open"] = "open"
        if p <= alpha:
            verdict = "better" if pair.gap.mean < 0 else "worse"
        elif -effect < interval.low and interval.high < effect:
            verdict = "same"
        found.append(
            _shown(
                pair,
                measure,
                arm.name,
                interval,
                role="primary",
                verdict=verdict,
                margin=plan.spec.primary.effect,
                p=p,
            )
        )
    return found


def _guarded(plan: Plan, guardrail: Guardrail, arm: str, seen: Mapping[str, ArmSeen]) -> Comparison | None:
    pair = _pair(plan, guardrail.measure, arm, seen)
    if pair is None:
        return None
    alpha, tests = plan.spec.alpha, len(plan.spec.guardrails) * (len(plan.arms) - 1)
    low = lower_bound(pair.gap, alpha.guardrails / tests, tightest_at=plan.tightest_at)
    high = -lower_bound(pair.gap._replace(mean=-pair.gap.mean), alpha.primary, tightest_at=plan.tightest_at)
    tolerance, margin = guardrail.tolerance, guardrail.margin
    if guardrail.is_ratio:
        tolerance, margin = math.log1p(tolerance), math.log1p(margin)
    verdict: Literal["harmful", "safe", "open"] = "harmful" if low > tolerance else "safe" if high < margin else "open"
    return _shown(
        pair,
        guardrail.measure,
        arm,
        Interval(low, high),
        role="guardrail",
        verdict=verdict,
        margin=guardrail.margin,
    )


def _explored(plan: Plan, measure: Measure, arm: str, seen: Mapping[str, ArmSeen]) -> Comparison | None:
    pair = _pair(plan, measure, arm, seen)
    if pair is None:
        return None
    interval = two_sided(pair.gap, plan.spec.alpha.primary, tightest_at=plan.tightest_at)
    return _shown(pair, measure, arm, interval, role="exploratory", verdict="")


class _Decided(NamedTuple):
    verdict: Verdict
    settled: bool
    reason: str
    winners: tuple[str, ...] = ()


def _decided(plan: Plan, primaries: Sequence[Comparison], guards: Sequence[Comparison]) -> _Decided:
    measure = plan.spec.primary.measure
    variants = [arm.name for arm in plan.arms[1:]]
    of = {each.arm: each for each in primaries}
    unsafe: dict[str, list[str]] = {}
    for name in variants:
        safe = {each.measure for each in guards if each.arm == name and each.verdict == "safe"}
        unsafe[name] = [each.measure for each in plan.spec.guardrails if each.measure not in safe]
    better = sorted((n for n in of if of[n].verdict == "better"), key=lambda n: of[n].difference)
    winners = tuple(name for name in better if not unsafe[name])
    waiting = [name for name in better if unsafe[name]]
    undecided = [name for name in variants if name not in of or of[name].verdict == "open"]
    settled = not waiting and not undecided
    if winners:
        told = "; ".join(f"{name}: {_told(of[name])}" for name in winners)
        if len(winners) > 1:
            told += "; which of them is best was not tested"
        return _Decided("winner", settled, told, winners)
    if not settled:
        parts = [f"{n} is better, but not yet shown to be no worse in {', '.join(unsafe[n])}" for n in waiting]
        parts += [f"{name}: {_told(of[name]) if name in of else f'{measure} is not measured'}" for name in undecided]
        return _Decided("inconclusive", False, "; ".join(parts))
    told = "; ".join(f"{name}: {_told(of[name])}" for name in variants)
    if any(of[name].verdict == "same" for name in variants):
        return _Decided("no_difference", True, told)
    return _Decided("worse", True, told)


def _told(check: Comparison) -> str:
    if check.measure in RATIOS:
        between = f"{check.low:+.1%} and {check.high:+.1%}"
        seen = f"{check.measure} {check.difference:+.1%} ({check.value:.3g} against {check.control:.3g})"
    else:
        between = f"{100 * check.low:+.1f} and {100 * check.high:+.1f} points"
        seen = f"{check.measure} {check.value:.1%} against {check.control:.1%}"
    return f"{seen}, surely between {between}"


def _harm(check: Comparison) -> str:
    return f"{check.arm} harms: {_told(check)}"


def _more_units(plan: Plan, seen: Mapping[str, ArmSeen], fewest: int) -> int:
    """Units more of the smallest arm until there is a verdict whatever is true, by the scatter that was seen."""
    measure, alpha = _measure(plan), plan.spec.alpha.primary / (len(plan.arms) - 1)
    control = seen[plan.control.name].of.get(measure)
    if control is None or control.n < 2:
        return max(plan.forecast.units_at_most - fewest, 1)
    variance = control.variance if measure in RATIOS else control.variance_within(*_SHARE)
    smallest = min(plan.arms[1:], key=lambda arm: arm.share)
    # Bounds half as wide as the effect either leave 0 out or lie within the margin.
    needed = units_needed(
        math.sqrt(variance) or 1e-9,
        _effect(plan) / 2,
        alpha=alpha,
        power=0.5,
        controls=plan.control.share / smallest.share,
    )
    return max(needed - fewest, plan.spec.min_units)
