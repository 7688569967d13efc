"""Decide a gate: pass, fail, or not enough evidence and how much more it takes.

Each rule gives two p-values: that it holds, and that it is violated. The gate passes when every rule is shown to hold,
each at alpha: a gate that should not pass has a rule that does not hold, and that one is passed with probability alpha
at most (intersection-union test: Berger, Technometrics 24, 1982), so no correction is due and none would be honest. It
fails when a rule is shown to be violated, Holm's correction over all rules and slices made: there any one of many
could be wrong. Everything else is not enough evidence.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from interlock.evals.gate.evidence import Measured, gaps, units
from interlock.evals.gate.rules import GateSpec, Rule
from interlock.evals.tally import CaseInfo
from interlock.stats.bounded import bounded_mean_p, proportion_p
from interlock.stats.intervals import Interval, wilson
from interlock.stats.paired import bca_interval, bca_p, cases_needed, holm, permutation_p, trials_needed

__all__ = ["Decision", "Estimate", "RuleResult", "Verdict", "decide", "estimate"]

Verdict = Literal["pass", "fail", "not_enough_evidence"]
_MOST_NEEDED = 1_000_000


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule over all cases, or over those of one slice."""

    rule: str
    metric: str
    slice: str
    """``language=de``; empty for all cases."""
    verdict: Verdict
    value: float | None
    """Mean of the metric; for rules against a baseline the mean difference (a ratio less 1 for `margin_ratio`), new
    less old; for a quantile the share of cases that keep the threshold. None without data."""
    interval: Interval | None
    """95 %, two-sided."""
    units: int
    """Independent pieces of evidence: cases, or groups of them."""
    p_holds: float
    p_violated: float
    """After Holm's correction."""
    more: int | None
    """Further cases (or groups) that would likely settle it; None when it is settled, or when nothing would."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's answer."""

    verdict: Verdict
    alpha: float
    rules: tuple[RuleResult, ...]
    reasons: tuple[str, ...]
    """Why it does not pass, for people; empty when it does."""

    def unfinished(self, why: str) -> Decision:
        """The same of a run that did not ask everything: what it shows against is shown, what it shows for is not."""
        if self.verdict != "pass":
            return self
        return replace(self, verdict="not_enough_evidence", reasons=(why,))

    @property
    def more(self) -> int | None:
        """Further cases that would likely settle every rule that is open."""
        open_rules = [each.more for each in self.rules if each.verdict == "not_enough_evidence" and not each.slice]
        return None if not open_rules or None in open_rules else max(each for each in open_rules if each is not None)


class Estimate(NamedTuple):
    """A mean and how sure it is."""

    mean: float
    interval: Interval
    """95 %, two-sided."""
    units: int
    error: float
    """Standard error."""


def estimate(measured: Measured, cases: Collection[CaseInfo]) -> Estimate | None:
    """Mean by unit of evidence; None without a value. For reports."""
    told = units(measured, cases)
    if not told.known:
        return None
    mean, n = _mean(told.known), len(told.known)
    variance = math.fsum((v - mean) ** 2 for v in told.known) / (n - 1) if n > 1 else 0.25
    counts, bounded = told.single and measured.scale == "binary", measured.scale != "real"
    interval = _interval(told.known, counts=counts, bounded=bounded)
    return Estimate(mean, interval, n, math.sqrt(variance / n))


def decide(
    spec: GateSpec,
    new: Mapping[str, Measured],
    cases: Sequence[CaseInfo],
    baseline: Mapping[str, Measured] | None = None,
    *,
    paired: Sequence[CaseInfo] = (),
    looks_often: bool = False,
    barred: Mapping[str, str] | None = None,
) -> Decision:
    """Decide.

    Args:
        new: metrics of the run by name.
        cases: of the run.
        baseline: metrics of the run to compare with.
        paired: cases that both runs asked, word for word: those that rules against the baseline look at.
        barred: metrics that may not decide, and why: a judge without a licence. What they show is told, no more.
        looks_often: the run stops as soon as this is clear: only tests that may be looked at after every case are used.
    """
    look = _Look(new, baseline, spec.alpha, looks_often)
    results: list[RuleResult] = []
    for rule in spec.rules:
        asked = paired if rule.needs_baseline else cases
        results.append(_result(rule, "", asked, look))
        for key in spec.slices:
            results += [_result(rule, f"{key}={value}", members, look) for value, members in _slices(asked, key)]
    if barred:
        results = [_barred(each, barred[each.metric]) if each.metric in barred else each for each in results]
    adjusted = holm([min(1.0, each.p_violated) for each in results])
    done = tuple(_judged(replace(each, p_violated=p), spec.alpha) for each, p in zip(results, adjusted, strict=True))
    failed = [each for each in done if each.verdict == "fail"]
    binding = [each for each in done if not each.slice or spec.slices_must_pass]
    unsure = [each for each in binding if each.verdict == "not_enough_evidence"]
    verdict: Verdict = "fail" if failed else "not_enough_evidence" if unsure else "pass"
    return Decision(verdict, spec.alpha, done, tuple(_reason(each) for each in [*failed, *unsure]))


def _barred(result: RuleResult, why: str) -> RuleResult:
    return replace(result, p_holds=1.0, p_violated=1.0, more=None, note=f"its judge may not gate: {why}")


def _slices(cases: Sequence[CaseInfo], key: str) -> list[tuple[str, list[CaseInfo]]]:
    values = sorted({case.slices[key] for case in cases if key in case.slices})
    return [(value, [case for case in cases if case.slices.get(key) == value]) for value in values]


def _judged(result: RuleResult, alpha: float) -> RuleResult:
    if result.p_violated < alpha:
        return replace(result, verdict="fail", more=None)
    if result.p_holds < alpha:
        return replace(result, verdict="pass", more=None)
    return result


def _reason(result: RuleResult) -> str:
    where = f" in {result.slice}" if result.slice else ""
    if result.verdict == "fail":
        shown = "" if result.value is None else f": {result.value:.3g}"
        return f"{result.rule}{where} is violated{shown} (p = {result.p_violated:.2g})"
    told = result.note or (f"about {result.more:,} more cases would tell" if result.more else "more cases are needed")
    return f"{result.rule}{where} is not shown: {told}"


class _Look(NamedTuple):
    """What every rule of a gate is decided by."""

    new: Mapping[str, Measured]
    baseline: Mapping[str, Measured] | None
    alpha: float
    often: bool


def _result(rule: Rule, slice_: str, cases: Sequence[CaseInfo], look: _Look) -> RuleResult:
    measured = look.new[rule.metric]
    blank = RuleResult(rule.text(), rule.metric, slice_, "not_enough_evidence", None, None, 0, 1.0, 1.0, None)
    if not rule.needs_baseline:
        return _absolute(rule, blank, measured, cases, look)
    if look.baseline is None:
        return replace(blank, note="there is no baseline; give one with --baseline")
    if rule.metric not in look.baseline:
        return replace(blank, note="the baseline did not measure it")
    return _against(rule, blank, (measured, look.baseline[rule.metric]), cases, look)


def _absolute(rule: Rule, blank: RuleResult, measured: Measured, cases: Sequence[CaseInfo], look: _Look) -> RuleResult:
    told = units(measured, cases)
    if not told.worst:
        return replace(blank, note="no case has a value of it")
    wants_more = rule.at_least is not None
    threshold = rule.at_least if rule.at_least is not None else rule.at_most
    assert threshold is not None, "the rule was checked when it was read"
    if rule.quantile is not None:
        worst, best = ([_keeps(v, threshold, wants_more) for v in side] for side in (told.worst, told.best))
        known, counts, threshold, wants_more = worst, True, rule.quantile, True
        bounded = True
    else:
        worst, best, known = list(told.worst), list(told.best), list(told.known)
        counts, bounded = told.single and measured.scale == "binary", measured.scale != "real"
    if bounded and rule.quantile is None and threshold == float(wants_more):
        return _every(blank, told.worst, told.best, threshold, known)
    holds = _mean_p(worst, threshold, above=wants_more, bounded=bounded, counts=counts and not look.often)
    violated = _mean_p(best, threshold, above=not wants_more, bounded=bounded, counts=counts and not look.often)
    note = ""
    if not bounded and look.often:
        holds = violated = 1.0
        note = "a mean without bounds cannot be decided while the run goes on"
    elif not bounded and told.missing + told.failed:
        note = f"{told.missing + told.failed} answers have no value of it"
    elif not bounded and len(known) < 2:
        note = "needs two cases or more"
    value = _mean(known) if known else None
    interval = _interval(known, counts=counts, bounded=bounded) if known else None
    test = "counts" if counts and not look.often else "bounded" if bounded else "normal"
    more = _more([v if wants_more else -v for v in known], threshold if wants_more else -threshold, look.alpha, test)
    return replace(
        blank,
        value=value,
        interval=interval,
        units=len(told.worst),
        p_holds=holds,
        p_violated=violated,
        more=more,
        note=note,
    )


def _every(
    blank: RuleResult, worst: Sequence[float], best: Sequence[float], perfect: float, known: Sequence[float]
) -> RuleResult:
    """At least 1, or at most 0: no mean can be shown to be perfect, so it is a demand on each case of the suite."""
    broken = sum(value != perfect for value in best)
    unsure = sum(value != perfect for value in worst) - broken
    if broken:
        note = f"{broken} of {len(best)} cases break it"
    elif unsure:
        note = f"{unsure} cases have no value of it"
    else:
        note = f"every case keeps it; of others, up to {min(1.0, 3 / len(worst)):.1%} may not (95 %)"
    return replace(
        blank,
        value=_mean(known) if known else None,
        interval=_interval(known, counts=False) if known else None,
        units=len(worst),
        p_holds=float(bool(broken or unsure)),
        p_violated=float(not broken),
        note=note,
    )


def _keeps(value: float, threshold: float, wants_more: bool) -> float:
    return float(value >= threshold if wants_more else value <= threshold)


def _against(
    rule: Rule, blank: RuleResult, sides: tuple[Measured, Measured], cases: Sequence[CaseInfo], look: _Look
) -> RuleResult:
    new, old = sides
    ratio = rule.margin_ratio is not None
    worst, best, unpaired = gaps(new, old, cases, ratio=ratio)
    if not worst:
        return replace(blank, note="no case was measured in both runs")
    bounded = new.scale != "real"
    margin = 0.0 if rule.kind == "better" else _margin(rule, new)
    if bounded:
        if rule.kind == "better" and not look.often:
            # Without a margin "no difference" makes every sign as likely as the other: the sharper test is valid.
            holds = permutation_p(worst, alternative="greater")
            violated = permutation_p(best, alternative="less")
        else:
            holds = bounded_mean_p(worst, -margin, low=-1.0, high=1.0)
            violated = bounded_mean_p(best, -margin, side="below", low=-1.0, high=1.0)
    elif look.often:
        holds = violated = 1.0
    else:
        holds = _unbounded_p(worst, -margin, above=True)
        violated = _unbounded_p(best, -margin, above=False)
    finite = [low for low, high in zip(worst, best, strict=True) if math.isfinite(low) and math.isfinite(high)]
    note = f"{unpaired} cases are in one run only" if unpaired else ""
    lost = len(worst) - len(finite)
    if lost:
        note = f"{lost} cases that the baseline answered have no value now"
    value, interval = (None, None) if not finite else (_mean(finite), _interval(finite, counts=False, bounded=False))
    more = _more(finite, -margin, look.alpha, "bounded" if bounded else "normal")
    if value is not None and interval is not None:
        value, interval = _shown(value, interval, new, ratio=ratio)
    return replace(
        blank,
        value=value,
        interval=interval,
        units=len(worst),
        p_holds=holds,
        p_violated=violated,
        more=more,
        note=note,
    )


def _margin(rule: Rule, new: Measured) -> float:
    """As a gap. Worse by a share m: the logarithm of the ratio is below log(1 - m), or above log(1 + m)."""
    if rule.margin is not None:
        return rule.margin
    assert rule.margin_ratio is not None, "the rule was checked when it was read"
    return math.log1p(rule.margin_ratio) if new.better == "lower" else -math.log1p(-rule.margin_ratio)


def _shown(value: float, interval: Interval, new: Measured, *, ratio: bool) -> tuple[float, Interval]:
    """In the metric's own direction and unit: gaps are turned so that more is better, and may be logarithms."""
    if new.better == "lower":
        value, interval = -value, Interval(-interval.high, -interval.low)
    if ratio:
        value, interval = math.expm1(value), Interval(math.expm1(interval.low), math.expm1(interval.high))
    return value, interval


def _mean_p(values: Sequence[float], threshold: float, *, above: bool, bounded: bool, counts: bool) -> float:
    if not bounded:
        return _unbounded_p(values, threshold, above=above)
    side: Literal["above", "below"] = "above" if above else "below"
    if counts:
        return proportion_p(round(math.fsum(values)), len(values), threshold, side=side)
    return bounded_mean_p(values, threshold, side=side)


def _unbounded_p(values: Sequence[float], threshold: float, *, above: bool) -> float:
    if not all(map(math.isfinite, values)):
        return 1.0
    return bca_p(values if above else [-v for v in values], threshold if above else -threshold)


_EXACTNESS = {"bounded": 2.5, "normal": 1.1}
"""How many more cases a test takes than the normal approximation they are reckoned by: docs/design/0010-gates.md."""


def _more(values: Sequence[float], threshold: float, alpha: float, kind: str) -> int | None:
    """Further units at which the difference seen would likely be proven; None when there is none to prove."""
    if not values:
        return None
    difference = abs(_mean(values) - threshold)
    if difference <= 1e-9:
        return None
    if kind == "counts":
        needed = _trials(values, threshold, alpha)
    else:
        needed = math.ceil(cases_needed(values, difference, alpha=alpha) * _EXACTNESS[kind])
    return None if needed > _MOST_NEEDED else max(1, needed - len(values))


def _trials(values: Sequence[float], threshold: float, alpha: float) -> int:
    """For a proportion; values and threshold are negative where little is asked for."""
    rate, threshold, n = abs(_mean(values)), abs(threshold), len(values)
    if rate in {0.0, 1.0}:
        # That none of a few failed does not mean that none ever will.
        drawn = (rate * n + 1) / (n + 2)
        rate = drawn if (drawn - threshold) * (rate - threshold) > 0 else rate
    return trials_needed(rate, threshold, alpha=alpha)


def _interval(values: Sequence[float], *, counts: bool, bounded: bool = True) -> Interval:
    # Resampling values that are all 0 or all 1 gives an interval without width, which is never true.
    if counts or (bounded and len(set(values)) == 1 and values[0] in {0, 1}):
        return wilson(round(math.fsum(values)), len(values))
    return bca_interval(values)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
