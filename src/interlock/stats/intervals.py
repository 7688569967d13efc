"""Confidence intervals of a proportion, in pure Python."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import NamedTuple

__all__ = ["Interval", "clopper_pearson", "wilson"]


class Interval(NamedTuple):
    """A closed interval of proportions, ``0 <= low <= high <= 1``."""

    low: float
    high: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval: near its nominal coverage even for few trials or rates near 0 and 1.

    Args:
        successes: in [0, trials].
        trials: 0 gives the whole range, because nothing is known.
        confidence: two-sided, in (0, 1).

    Source: Wilson, JASA 22 (1927); recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001).
    Raises: ValueError: arguments out of range.

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    _check(successes, trials, confidence)
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    margin = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if successes == 0 else max(0.0, (centre - margin) / scale)
    high = 1.0 if successes == trials else min(1.0, (centre + margin) / scale)
    return Interval(low, high)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact binomial interval: covers at least `confidence` always, so it is wider than Wilson's.

    Use it where a bound is a promise, e.g. "no leak in n questions". Arguments and errors as :func:`wilson`.

    Source: Clopper and Pearson, Biometrika 26 (1934). Solved by bisection on the binomial tail, to about 1e-12.

    >>> [round(x, 4) for x in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    _check(successes, trials, confidence)
    if trials == 0:
        return Interval(0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _root(lambda p: _upper_tail(successes, trials, p) - tail)
    high = 1.0 if successes == trials else _root(lambda p: tail - (1 - _upper_tail(successes + 1, trials, p)))
    return Interval(low, high)


def _check(successes: int, trials: int, confidence: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be in [0, {trials}], not {successes}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence}")


def _upper_tail(least: int, trials: int, p: float) -> float:
    """``P(X >= least)`` for X binomial; summed on the shorter side so that small tails keep their digits."""
    if least <= trials - least:
        return 1.0 - sum(_mass(k, trials, p) for k in range(least))
    return sum(_mass(k, trials, p) for k in range(least, trials + 1))


def _mass(k: int, trials: int, p: float) -> float:
    if p <= 0.0 or p >= 1.0:
        return float(k == (0 if p <= 0.0 else trials))
    ways = lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1)
    return exp(ways + k * log(p) + (trials - k) * log1p(-p))


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function crosses zero in [0, 1]."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
