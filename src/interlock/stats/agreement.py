"""How far people, or people and a judge, agree beyond chance.

Sources: Cohen, Educ. Psychol. Meas. 20 (1960), weights: Psychol. Bull. 70 (1968); Fleiss, Psychol. Bull. 76 (1971);
Krippendorff, Content Analysis (2019), chapter 12.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal

__all__ = ["Level", "cohen_kappa", "fleiss_kappa", "krippendorff_alpha"]

Level = Literal["nominal", "ordinal", "interval"]


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    order: Sequence[Hashable] | None = None,
    weights: Literal["none", "linear", "quadratic"] = "none",
) -> float:
    """Agreement of two raters of the same items: 1 always, 0 as by chance, below 0 less than that.

    Args:
        order: all labels, lowest first; needed for weights, which count near misses less.

    Returns: 1.0 when both only ever used one and the same label: nothing speaks against them.
    Raises: ValueError: not as many labels of each, none at all, or a label that `order` does not have.
    """
    if len(first) != len(second) or not first:
        raise ValueError("two raters label the same items, at least one")
    known = list(order) if order is not None else list(dict.fromkeys([*first, *second]))
    if weights != "none" and order is None:
        raise ValueError("weights need the order of the labels")
    if not {*first, *second} <= set(known):
        raise ValueError("a label is not in the order")
    place = {label: at for at, label in enumerate(known)}
    n = len(first)
    ours, theirs = Counter(first), Counter(second)

    def cost(a: Hashable, b: Hashable) -> float:
        gap = abs(place[a] - place[b])
        return float(gap > 0) if weights == "none" else float(gap if weights == "linear" else gap * gap)

    seen = math.fsum(cost(a, b) for a, b in zip(first, second, strict=True)) / n
    by_chance = math.fsum(ours[a] * theirs[b] * cost(a, b) for a in ours for b in theirs) / (n * n)
    return 1.0 - seen / by_chance if by_chance else 1.0


def fleiss_kappa(ratings: Sequence[Mapping[Hashable, int]]) -> float:
    """Agreement of as many raters on every item, who need not be the same people.

    Args:
        ratings: of each item, how many raters gave each label.

    Raises: ValueError: no items, or not two raters or more on each, the same number everywhere.
    """
    sizes = {sum(item.values()) for item in ratings}
    if len(sizes) != 1 or (raters := sizes.pop()) < 2:
        raise ValueError("every item has the same number of raters, two or more")
    n = len(ratings)
    totals: Counter[Hashable] = Counter()
    for item in ratings:
        totals.update(item)
    alike = [sum(k * (k - 1) for k in item.values()) / (raters * (raters - 1)) for item in ratings]
    by_chance = sum((total / (n * raters)) ** 2 for total in totals.values())
    return 1.0 if by_chance == 1 else (math.fsum(alike) / n - by_chance) / (1 - by_chance)


def krippendorff_alpha(items: Sequence[Sequence[float | None]], level: Level = "nominal") -> float:
    """Agreement of any number of raters, some of whom left items out.

    Args:
        items: of each item the raters' values, None where one gave none; nominal labels as any numbers.
        level: what a difference means: none (`nominal`), ranks (`ordinal`), amounts (`interval`).

    Returns: 1.0 when every value is the same.
    Raises: ValueError: no item has two values.
    """
    units = [[value for value in item if value is not None] for item in items]
    units = [unit for unit in units if len(unit) > 1]
    if not units:
        raise ValueError("no item has values of two raters")
    totals: Counter[float] = Counter(value for unit in units for value in unit)
    n = sum(totals.values())
    distance = _distance(level, totals)
    seen = math.fsum(
        math.fsum(counts[a] * counts[b] * distance(a, b) for a in counts for b in counts) / (len(unit) - 1)
        for unit in units
        for counts in [Counter(unit)]
    )
    by_chance = math.fsum(totals[a] * totals[b] * distance(a, b) for a in totals for b in totals) / (n - 1)
    return 1.0 - seen / by_chance if by_chance else 1.0


def _distance(level: Level, totals: Mapping[float, int]) -> Callable[[float, float], float]:
    if level == "nominal":
        return lambda a, b: float(a != b)
    if level == "interval":
        return lambda a, b: (a - b) ** 2
    # Ranks: how many values lie between the two, each of their own counted half.
    below: dict[float, float] = {}
    passed = 0
    for value in sorted(totals):
        below[value] = passed + totals[value] / 2
        passed += totals[value]
    return lambda a, b: (below[a] - below[b]) ** 2
