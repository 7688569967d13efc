"""Bounds that hold however often one looks: for canaries and for evaluations that stop when the answer is clear.

A test that is made for one look and repeated at every look finds a difference between equal arms about one time in
three (`benchmarks/rollouts.py`). What is here may be looked at after every unit.

Sources: asymptotic confidence sequences, Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 52(6)
(2024), arXiv 2103.06476; betting, Waudby-Smith and Ramdas, JRSS-B (2024), arXiv 2010.09686; counts of a multinomial,
Lindon and Malek, NeurIPS 2022, arXiv 2011.03567.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from interlock.stats.intervals import Interval

__all__ = [
    "BettingProcess",
    "Gap",
    "Moments",
    "always_valid_p",
    "count_bayes_factor",
    "gap_between",
    "lower_bound",
    "mean_gap",
    "two_sided",
    "units_needed",
]

_LAMBDAS = tuple(k / 20 for k in range(1, 20))
"""Stakes of the betting process: .05 to .95."""
_PRIOR = 50.0
"""Weight of the expected shares in `count_bayes_factor`, per arm."""


class Moments:
    """Mean and variance of values that come one by one (Welford 1962)."""

    __slots__ = ("_squares", "mean", "n")

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take one more value. Raises: ValueError: it is not finite."""
        if not math.isfinite(value):
            raise ValueError(f"{value} is no value of a metric")
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self._squares += step * (value - self.mean)

    @property
    def variance(self) -> float:
        """Of the sample; 0 below two values."""
        return self._squares / (self.n - 1) if self.n > 1 else 0.0

    def variance_within(self, low: float, high: float) -> float:
        """The same with one more value at each end of the range: what n units did not show may be of 3 in n."""
        n = self.n + 2
        mean = (self.n * self.mean + low + high) / n
        squares = self._squares + self.n * (self.mean - mean) ** 2 + (low - mean) ** 2 + (high - mean) ** 2
        return squares / (n - 1)


class Gap(NamedTuple):
    """A difference of two means and how sure it is."""

    mean: float
    error: float
    """Standard error of `mean`."""
    n: int
    """Units of both arms."""


def gap_between(treated: Moments, control: Moments, *, within: Interval | None = None) -> Gap:
    """Mean of `treated` less that of `control`.

    Args:
        within: the range of the values, where it is known: without it, arms in which something rare was not met yet
            look as if they were surely equal.

    Raises: ValueError: an arm has fewer than two units.
    """
    if treated.n < 2 or control.n < 2:
        raise ValueError("each arm needs two units")
    variances = [each.variance if within is None else each.variance_within(*within) for each in (treated, control)]
    error = math.sqrt(variances[0] / treated.n + variances[1] / control.n)
    return Gap(treated.mean - control.mean, error, treated.n + control.n)


def mean_gap(values: Moments, *, within: Interval | None = None) -> Gap:
    """Mean of one sample, to be held against 0. Arguments and errors as of `gap_between`."""
    if values.n < 2:
        raise ValueError("a mean needs two units")
    variance = values.variance if within is None else values.variance_within(*within)
    return Gap(values.mean, math.sqrt(variance / values.n), values.n)


def two_sided(gap: Gap, alpha: float, *, tightest_at: int = 2000) -> Interval:
    """Holds the true difference at every look at once with probability 1 - alpha, for large n.

    Args:
        alpha: in (0, 1).
        tightest_at: units of both arms at which it is narrowest; it holds at every other number too.
    """
    scale, growth = _scale(gap, _rho(alpha, tightest_at))
    half = scale * math.sqrt(math.log(growth / alpha))
    return Interval(gap.mean - half, gap.mean + half)


def lower_bound(gap: Gap, alpha: float, *, tightest_at: int = 2000) -> float:
    """The true difference is above it at every look at once with probability 1 - alpha, for large n.

    The upper bound of a difference is minus the lower bound of its negative. Arguments as of `two_sided`.
    """
    scale, growth = _scale(gap, _rho(min(2 * alpha, 0.999), tightest_at))
    return gap.mean - scale * math.sqrt(math.log1p(growth / (2 * alpha)))


def always_valid_p(gap: Gap, alpha: float, *, tightest_at: int = 2000) -> float:
    """p-value against "there is no difference", valid at all looks at once: it ever falls to a with probability a.

    The level at which `two_sided` meets 0, made for `alpha`. Arguments as of `two_sided`.
    """
    if gap.error == 0:
        return 1.0 if gap.mean == 0 else 0.0
    inflated = gap.n * _rho(alpha, tightest_at) ** 2
    log = 0.5 * math.log(inflated + 1) - (gap.mean / gap.error) ** 2 * inflated / (2 * (inflated + 1))
    return math.exp(min(0.0, log))


def units_needed(
    spread: float, difference: float, *, alpha: float, power: float = 0.8, controls: float | None = 1.0
) -> int:
    """Units of the treated arm at which `two_sided` finds `difference` with probability `power`, looked at always.

    Args:
        spread: standard deviation of a unit's value, the same in both arms.
        power: in (0, 1); by the normal approximation at one look, so a little less is needed.
        controls: units of the control for each of the treated; None where there is one sample, held against 0.

    Raises: ValueError.
    """
    if spread <= 0 or difference <= 0 or (controls is not None and controls <= 0) or not 0 < power < 1:
        raise ValueError("spread, difference and controls above 0, power between 0 and 1")
    z = NormalDist().inv_cdf(power)

    def reaches(units: int) -> bool:
        total = units if controls is None else max(2, round(units * (1 + controls)))
        error = spread * math.sqrt((1 if controls is None else 1 + 1 / controls) / units)
        found = two_sided(Gap(0.0, error, total), alpha, tightest_at=total)
        return found.high + z * error <= difference

    high = 2
    while not reaches(high):
        high *= 2
        if high > 1 << 40:
            raise ValueError("no number of units that anybody has finds so small a difference")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _rho(alpha: float, tightest_at: int) -> float:
    if not 0 < alpha < 1 or tightest_at < 1:
        raise ValueError(f"alpha must lie between 0 and 1 and tightest_at be 1 or more, not {alpha} and {tightest_at}")
    told = -2 * math.log(alpha)
    return math.sqrt((told + math.log(told + 1)) / tightest_at)


def _scale(gap: Gap, rho: float) -> tuple[float, float]:
    inflated = gap.n * rho * rho + 1
    return gap.error * math.sqrt(2 * inflated / (gap.n * rho * rho)), math.sqrt(inflated)


@dataclass(slots=True)
class BettingProcess:
    """Evidence that one arm is worse, from pairs of outcomes in [0, 1]; exact however few there are.

    The mean over a grid of stakes of what a gambler who bets on harm would own. If there is none, it passes 1 / alpha
    with probability alpha at most, ever.

    Args:
        margin: harm that is tolerated, as a difference of means.
    """

    margin: float = 0.0
    pairs: int = 0
    _logs: list[float] | None = None

    def add(self, control: float, treated: float) -> None:
        """Take one unit of each arm. Raises: ValueError: an outcome outside [0, 1]."""
        if not (0 <= control <= 1 and 0 <= treated <= 1):
            raise ValueError(f"outcomes lie in [0, 1], not {control} and {treated}")
        logs = self._logs if self._logs is not None else [0.0] * len(_LAMBDAS)
        share = (control - treated - self.margin) / (1 + self.margin)
        self._logs = [log + math.log1p(stake * share) for log, stake in zip(logs, _LAMBDAS, strict=True)]
        self.pairs += 1

    @property
    def evidence(self) -> float:
        """The e-value: act when it reaches 1 / alpha."""
        if not self._logs:
            return 1.0
        most = max(self._logs)
        if most > 700:
            return math.inf
        return math.exp(most) * sum(math.exp(log - most) for log in self._logs) / len(self._logs)


def count_bayes_factor(counts: Sequence[int], shares: Sequence[float]) -> float:
    """How much likelier the counts are under other shares than under those that were asked for.

    Alarm when it passes 1 / alpha: with the right shares that ever happens with probability alpha at most.

    Args:
        counts: units of each arm so far.
        shares: what the assignment should give, in the same order; they sum to 1.

    Raises: ValueError.
    """
    if len(counts) != len(shares) or len(counts) < 2 or min(counts) < 0:
        raise ValueError("as many counts as shares, two or more, none below 0")
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError("shares are above 0 and sum to 1")
    weights = [_PRIOR * len(shares) * share for share in shares]
    total, weight = sum(counts), sum(weights)
    log = math.lgamma(weight) - math.lgamma(total + weight)
    for count, own, share in zip(counts, weights, shares, strict=True):
        log += math.lgamma(count + own) - math.lgamma(own) - count * math.log(share)
    return math.exp(min(log, 700.0))
