"""Tests of the mean of values that lie in a known range, exact however few there are and however they scatter.

A gambler bets against "the mean is not above the threshold" with a fixed share of what she owns; if it is not above,
she ever owns 1 / alpha times her first coin with probability alpha at most (Ville 1939; Waudby-Smith and Ramdas,
JRSS-B (2024), arXiv 2010.09686). So it may be looked at after every value, and order does not matter. A test of signs
or ranks may not be used here: with a margin of 0.03 and harms of 1 in rare cases, it passes what it should not one time
in five.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

from interlock.stats.intervals import binomial_tail

__all__ = ["bounded_mean_p", "proportion_p"]

_STAKES = tuple(k / 20 for k in range(1, 20))
_NORMAL = NormalDist()
Side = Literal["above", "below"]


def bounded_mean_p(
    values: Sequence[float], threshold: float, *, side: Side = "above", low: float = 0.0, high: float = 1.0
) -> float:
    """p-value against "the mean is not above (or below) `threshold`", valid at every look at once.

    Args:
        values: independent, each in [low, high].
        threshold: in [low, high].

    Returns: in (0, 1]; 1 without values.
    Raises: ValueError: a value outside the range, or a range without width.
    """
    if not low < high:
        raise ValueError(f"a range from {low} to {high} has no width")
    scaled = [(value - low) / (high - low) for value in values]
    if any(not -1e-12 <= value <= 1 + 1e-12 for value in scaled):
        raise ValueError(f"values lie in [{low}, {high}]")
    at = (threshold - low) / (high - low)
    if side == "below":
        scaled, at = [1 - value for value in scaled], 1 - at
    if at <= 0:
        # Every mean is at or above the lower end; strictly above it nothing proves but a value that is.
        return 1.0 if all(value <= 0 for value in scaled) else 0.0 if at < 0 else _any_above(scaled)
    if at >= 1:
        return 1.0
    shares = [(min(max(value, 0.0), 1.0) - at) / at for value in scaled]
    logs = [math.fsum(math.log1p(stake * share) for share in shares) for stake in _STAKES]
    most = max(logs)
    log_e = most + math.log(math.fsum(math.exp(log - most) for log in logs) / len(logs))
    return math.exp(-log_e) if log_e > 0 else 1.0


def _any_above(values: Sequence[float]) -> float:
    """A threshold at the lower end itself: one value above it is proof that the mean is."""
    return 0.0 if any(value > 0 for value in values) else 1.0


def proportion_p(successes: int, trials: int, threshold: float, *, side: Side = "above") -> float:
    """Exact p-value against "the proportion is not above (or below) `threshold`" (Clopper and Pearson 1934).

    Returns: in [0, 1]; 1 without trials. Raises: ValueError: a threshold outside [0, 1], or impossible counts.
    """
    if not 0 <= threshold <= 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} against {threshold}")
    if trials == 0:
        return 1.0
    if side == "below":
        successes, threshold = trials - successes, 1 - threshold
    return binomial_tail(successes, trials, threshold)
