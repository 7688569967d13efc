"""Which of two interleaved searches finds what answers are made of. Pure.

A unit's value is the share of its requests in which the variant's passages were cited more, less the share in which the
control's were. Without a difference its mean is 0, whatever people ask and however good the model is: both are in the
same answer. The bounds are those of other experiments, of one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from interlock.releases.experiments.types import ArmCount, Comparison, Plan, Report, Verdict
from interlock.stats.intervals import Interval
from interlock.stats.sequential import Moments, always_valid_p, mean_gap, two_sided, units_needed

__all__ = ["UnitPreference", "prefer"]

_WITHIN = Interval(-1.0, 1.0)


class UnitPreference(NamedTuple):
    """Whose passages the answers to one unit cited."""

    unit: str
    requests: int
    control: float
    """Share of its requests which the control won."""
    variant: float


def prefer(plan: Plan, seen: Sequence[UnitPreference]) -> Report:
    """The verdict on what units have cited so far."""
    spec, variant = plan.spec, plan.arms[1]
    moments, requests = Moments(), 0
    won = {"control": Moments(), "variant": Moments()}
    for each in seen:
        moments.add(each.variant - each.control)
        won["control"].add(each.control)
        won["variant"].add(each.variant)
        requests += each.requests
    counts = tuple(ArmCount(arm.name, moments.n, requests, arm.share) for arm in plan.arms)
    if moments.n < spec.min_units:
        reason = f"{moments.n} of {spec.min_units} units"
        more = max(plan.forecast.units_at_most - moments.n, 1)
        return Report("inconclusive", False, reason, (), more, counts, ())
    alpha, effect = spec.alpha.primary, spec.primary.effect
    gap = mean_gap(moments, within=_WITHIN)
    interval = two_sided(gap, alpha, tightest_at=plan.tightest_at)
    p = always_valid_p(gap, alpha, tightest_at=plan.tightest_at)
    verdict: Literal["better", "worse", "same", "open"] = "open"
    if p <= alpha:
        verdict = "better" if gap.mean > 0 else "worse"
    elif -effect < interval.low and interval.high < effect:
        verdict = "same"
    check = Comparison(
        variant.name,
        "preference",
        "primary",
        won["variant"].mean,
        won["control"].mean,
        gap.mean,
        interval.low,
        interval.high,
        effect,
        p,
        (moments.n, moments.n),
        verdict,
    )
    reason = (
        f"passages of {variant.name} are cited more in {check.value:.1%} of the requests, those of "
        f"{plan.control.name} in {check.control:.1%}; the difference is surely between {100 * interval.low:+.1f} and "
        f"{100 * interval.high:+.1f} points"
    )
    verdicts: dict[str, Verdict] = {
        "better": "winner",
        "worse": "worse",
        "same": "no_difference",
        "open": "inconclusive",
    }
    more = 0
    if verdict == "open":
        spread = math.sqrt(moments.variance_within(*_WITHIN))
        more = max(units_needed(spread, effect / 2, alpha=alpha, power=0.5, controls=None) - moments.n, spec.min_units)
    winners = (variant.name,) if verdict == "better" else ()
    return Report(verdicts[verdict], verdict != "open", reason, winners, more, counts, (check,))
