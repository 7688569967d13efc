"""Intervals of means by resampling, for figures without a formula of their own."""

from __future__ import annotations

import random
from collections.abc import Sequence

from interlock.stats.intervals import Interval

__all__ = ["mean_interval", "paired_interval"]

_DRAWS = 2000
_SEED = 7


def mean_interval(values: Sequence[float], confidence: float = 0.95, *, draws: int = _DRAWS) -> Interval:
    """Percentile bootstrap of the mean (Efron & Tibshirani 1993). The same values always give the same interval.

    Args:
        values: one a case; at least one.
        confidence: in (0, 1).
        draws: resamples.

    Raises: ValueError.
    """
    if not values:
        raise ValueError("no values")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    n = len(values)
    means = sorted(sum(chance.choices(values, k=n)) / n for _ in range(draws))
    cut = int((1 - confidence) / 2 * draws)
    return Interval(means[cut], means[draws - 1 - cut])


def paired_interval(
    new: Sequence[float], old: Sequence[float], confidence: float = 0.95, *, draws: int = _DRAWS
) -> tuple[float, Interval]:
    """Mean of ``new - old`` over the same cases, with its interval.

    Raises: ValueError: the two are not of the same length, or empty.
    """
    gaps = [a - b for a, b in zip(new, old, strict=True)]
    interval = mean_interval(gaps, confidence, draws=draws)
    return sum(gaps) / len(gaps), interval
