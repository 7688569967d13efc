"""Is one version better than another on the same cases? Tests on differences by case, or by group of cases.

Cases of one conversation or one document are no independent evidence: given their groups, the group is what is counted.

Sources: Fisher, The Design of Experiments (1935); Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), who show
why a sampled p-value is (b + 1) / (m + 1); Holm, Scand. J. Statistics 6 (1979); Efron, JASA 82 (1987): BCa intervals.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from itertools import product
from statistics import NormalDist
from typing import Literal

from interlock.stats.intervals import Interval

__all__ = ["Alternative", "bca_interval", "bca_p", "cases_needed", "grouped", "holm", "permutation_p", "trials_needed"]

Alternative = Literal["two-sided", "greater", "less"]
_EXACT = 12
"""Up to so many differences every assignment of signs is looked at."""
_DRAWS = 9_999
_SEED = 7
_NORMAL = NormalDist()


def grouped(values: Sequence[float], groups: Sequence[Hashable] | None) -> list[float]:
    """The mean of each group, in the order in which groups are met; the values themselves without groups.

    Raises: ValueError: not as many groups as values.
    """
    if groups is None:
        return list(values)
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values and {len(groups)} groups")
    members: dict[Hashable, list[float]] = {}
    for group, value in zip(groups, values, strict=True):
        members.setdefault(group, []).append(value)
    return [math.fsum(each) / len(each) for each in members.values()]


def permutation_p(
    gaps: Sequence[float], *, alternative: Alternative = "two-sided", margin: float = 0.0, draws: int = _DRAWS
) -> float:
    """p-value of "the gaps are symmetric about -margin": every gap might as well have had the other sign.

    Args:
        gaps: new less old, one a case or group (see `grouped`).
        alternative: ``greater`` for evidence that the new one is better (with a margin: not worse by that much).
        margin: added to every gap: non-inferiority.
        draws: samples beyond 12 gaps; the same gaps always give the same p.

    Returns: exact up to 12 gaps; beyond them at least 1 / (draws + 1), never 0.
    Raises: ValueError: no gaps, or one that is not finite.
    """
    shifted = [gap + margin for gap in gaps]
    if not shifted or not all(map(math.isfinite, shifted)):
        raise ValueError("gaps are finite numbers, at least one")
    told = math.fsum(shifted)
    # A sum that differs from the one that was seen by rounding alone is as extreme as it.
    slack = 1e-12 * math.fsum(map(abs, shifted))

    def is_as_extreme(total: float) -> bool:
        if alternative == "greater":
            return total >= told - slack
        if alternative == "less":
            return total <= told + slack
        return abs(total) >= abs(told) - slack

    if len(shifted) <= _EXACT:
        signs = product((1, -1), repeat=len(shifted))
        hits = sum(is_as_extreme(math.fsum(s * g for s, g in zip(each, shifted, strict=True))) for each in signs)
        return hits / float(2 ** len(shifted))
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    hits = 0
    for _ in range(draws):
        bits = chance.getrandbits(len(shifted))
        hits += is_as_extreme(sum(gap if bits >> at & 1 else -gap for at, gap in enumerate(shifted)))
    return (hits + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that one of them is wrong with the stated probability at most.

    In the order given; the smallest is multiplied by their number, the next by one less, and none falls below the one
    before it.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]

    Raises: ValueError: a value outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("p-values lie in [0, 1]")
    adjusted = [0.0] * len(p_values)
    most = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = most
    return adjusted


def bca_interval(values: Sequence[float], confidence: float = 0.95, *, draws: int = 2000) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of a mean. The same values always give the same interval.

    Raises: ValueError: no values, or a confidence outside (0, 1).
    """
    if not values or not 0 < confidence < 1:
        raise ValueError("at least one value, and a confidence between 0 and 1")
    if all(value == values[0] for value in values):
        return Interval(values[0], values[0])
    means, bias, acceleration = _resampled(values, draws)

    def end(tail: float) -> float:
        z = bias + _NORMAL.inv_cdf(tail)
        share = _NORMAL.cdf(bias + z / (1 - acceleration * z))
        return means[min(draws - 1, max(0, math.ceil(share * draws) - 1))]

    return Interval(end((1 - confidence) / 2), end((1 + confidence) / 2))


def bca_p(values: Sequence[float], threshold: float, *, draws: int = 2000) -> float:
    """p-value against "the mean is not above `threshold`", for values without bounds, 30 of them or more.

    The level at which the lower end of `bca_interval` meets the threshold; at least 1 / (draws + 1). Below two values
    nothing is known: 1.
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return 1.0
    if all(value == values[0] for value in values):
        # No scatter was seen: the rule of three bounds the share of values that differ.
        return 1.0 if values[0] <= threshold else min(1.0, 3 / len(values))
    means, bias, acceleration = _resampled(values, draws)
    below = sum(each <= threshold for each in means)
    share = min(max(below / draws, 1 / (draws + 1)), draws / (draws + 1))
    z = _NORMAL.inv_cdf(share) - bias
    return max(1 / (draws + 1), _NORMAL.cdf(z / (1 + acceleration * z) - bias))


def _resampled(values: Sequence[float], draws: int) -> tuple[list[float], float, float]:
    """Sorted means of resamples, Efron's bias correction z0 and acceleration a."""
    n = len(values)
    mean = math.fsum(values) / n
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    means = sorted(math.fsum(chance.choices(values, k=n)) / n for _ in range(draws))
    below = sum(each < mean for each in means) + sum(each == mean for each in means) / 2
    bias = _NORMAL.inv_cdf(min(max(below / draws, 0.5 / draws), 1 - 0.5 / draws))
    # The jackknife's means differ from their own mean by (mean - value) / (n - 1): the factor cancels.
    gaps = [value - mean for value in values]
    squares = math.fsum(gap * gap for gap in gaps)
    return means, bias, math.fsum(gap**3 for gap in gaps) / (6 * squares**1.5)


def cases_needed(gaps: Sequence[float], difference: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Cases (or groups) at which a one-sided test finds `difference` with probability `power`, if gaps scatter so.

    By the normal approximation; never fewer than there are where the scatter is not known (fewer than two gaps give
    twice as many).

    Raises: ValueError: a difference that is not above 0, or a probability outside (0, 1).
    """
    if difference <= 0 or not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError("a difference above 0, alpha and power between 0 and 1")
    n = len(gaps)
    if n < 2:
        return max(2, 2 * n)
    mean = math.fsum(gaps) / n
    variance = math.fsum((gap - mean) ** 2 for gap in gaps) / (n - 1)
    # Twenty equal gaps do not prove that the next one is equal: the rule of three bounds what was not seen.
    variance = max(variance, 3 / n * difference**2)
    z = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)
    return max(2, math.ceil(variance * (z / difference) ** 2))


def trials_needed(rate: float, threshold: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Trials at which an exact one-sided test finds that a proportion is `rate` and not `threshold`.

    Source: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions (2003), section 2.4, with the
    continuity correction, which the exact test needs.

    Raises: ValueError: equal ones, one outside [0, 1], or a probability outside (0, 1).
    """
    difference = abs(rate - threshold)
    if not difference or not (0 <= rate <= 1 and 0 <= threshold <= 1) or not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"two different rates in [0, 1], alpha and power in (0, 1): {rate}, {threshold}")
    chance = _NORMAL.inv_cdf(1 - alpha) * math.sqrt(threshold * (1 - threshold))
    likely = _NORMAL.inv_cdf(power) * math.sqrt(rate * (1 - rate))
    plain = ((chance + likely) / difference) ** 2
    return max(2, math.ceil(plain / 4 * (1 + math.sqrt(1 + 2 / (plain * difference))) ** 2) if plain else 2)
