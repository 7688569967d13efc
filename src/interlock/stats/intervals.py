"""Confidence intervals of a proportion.

Sources: Wilson, JASA 22 (1927); Clopper and Pearson, Biometrika 26 (1934); Brown, Cai and DasGupta, Statistical Science
16 (2001), who recommend Wilson for small samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

__all__ = ["Interval", "binomial_tail", "clopper_pearson", "wilson"]


class Interval(NamedTuple):
    """A two-sided interval of a proportion, both ends in [0, 1]."""

    low: float
    high: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval: close to its nominal coverage also for small samples and rates near 0 or 1.

    >>> [round(end, 4) for end in wilson(0, 150)]
    [0.0, 0.025]

    Raises: ValueError: not 0 <= successes <= trials, no trials, or a confidence outside (0, 1).
    """
    _check(successes, trials, confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval: covers at least as often as it says, and is wider for it. For claims of safety.

    Raises: ValueError, as `wilson`.
    """
    _check(successes, trials, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _root(lambda p: 1 - _cdf(successes - 1, trials, p) - tail)
    high = 1.0 if successes == trials else _root(lambda p: tail - _cdf(successes, trials, p))
    return Interval(low, high)


def binomial_tail(successes: int, trials: int, rate: float) -> float:
    """P(X >= successes) of a binomial, for 0 <= successes <= trials and a rate in [0, 1]."""
    if successes == 0:
        return 1.0
    # The upper tail is summed itself: 1 less the lower one would lose every digit where it is small.
    return min(1.0, _cdf(trials - successes, trials, 1 - rate))


def _check(successes: int, trials: int, confidence: float) -> None:
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence}")


def _cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial, in logarithms so that large n does not overflow."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return 1.0 if k >= n else 0.0
    logs = math.lgamma(n + 1)
    return math.fsum(
        math.exp(logs - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p))
        for i in range(k + 1)
    )


def _root(function: Callable[[float], float]) -> float:
    """Zero of an increasing function on [0, 1] by bisection, to 1e-12."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
