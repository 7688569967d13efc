"""Has something changed since then? Inputs by their distances, shares of kinds, and values that come one by one.

How often each alarms for nothing, and how soon it finds a change, is simulated by `benchmarks/drift.py`.

Sources: energy distance, Székely and Rizzo, J. Statistical Planning and Inference 143 (2013), with a permutation test
(Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010)); population stability index, Yurdakul and Naranjo, J. Risk
Model Validation 14 (2020), on why its rule of thumb (.2) means nothing without the sizes of the samples; e-detectors,
Shin, Ramdas and Rinaldo, New England J. Statistics in Data Science 2 (2024), arXiv 2203.03532.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from operator import itemgetter
from typing import Literal, NamedTuple

__all__ = ["ChangeDetector", "Energy", "Shift", "energy_test", "psi", "psi_test"]

_SEED = 7
_LAMBDAS = (0.05, 0.1, 0.2, 0.35, 0.55, 0.8)
"""Stakes of the change detector: small ones find small changes, large ones find large ones soon."""
_FLOOR = 0.5
"""Added to each count, so that a kind that one side lacks has a share."""


class Energy(NamedTuple):
    """How far two samples are apart."""

    distance: float
    """Twice the mean distance between them, less those within each: 0 for equal distributions, biased up a little."""
    p: float
    contributions: tuple[float, ...]
    """Of each of the second sample: how much nearer it is to its own than to the first. Large ones are what is new."""


def energy_test(distances: Sequence[Sequence[float]], first: int, *, draws: int = 499) -> Energy:
    """Whether two samples come from one distribution, by the distances of all their members.

    Args:
        distances: symmetric, of the first sample's members and then the second's.
        first: members of the first sample.
        draws: permutations; p is 1 / (draws + 1) at least. The same distances always give the same p.

    Raises: ValueError: a sample with fewer than two members, or rows of unequal length.
    """
    n = len(distances)
    if not 2 <= first <= n - 2:
        raise ValueError(f"two samples of two or more, not {first} and {n - first}")
    if any(len(row) != n for row in distances):
        raise ValueError("as many distances a row as rows")
    sums = [math.fsum(row) for row in distances]
    whole = math.fsum(sums)

    def statistic(members: Sequence[int]) -> float:
        of = itemgetter(*members)
        own = sum(sum(of(row)) for row in of(distances))
        across = sum(of(sums)) - own
        other = whole - own - 2 * across
        m, k = len(members), n - len(members)
        return float(2 * across / (m * k) - own / (m * m) - other / (k * k))

    # The smaller sample is summed: the statistic is the same for either.
    size = min(first, n - first)
    told = statistic(range(first) if size == first else range(first, n))
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    slack = 1e-9 * abs(told)
    hits = sum(statistic(chance.sample(range(n), size)) >= told - slack for _ in range(draws))
    contributions = []
    for row in range(first, n):
        to_first = math.fsum(distances[row][:first]) / first
        to_own = math.fsum(distances[row][first:]) / (n - first - 1)
        contributions.append(to_first - to_own)
    return Energy(told, (hits + 1) / (draws + 1), tuple(contributions))


def psi(before: Sequence[int], after: Sequence[int]) -> float:
    """Population stability index of two sets of counts over the same kinds; 0 for the same shares.

    >>> round(psi([50, 50], [50, 50]), 6), round(psi([80, 20], [50, 50]), 2)
    (0.0, 0.41)

    Raises: ValueError: other kinds, fewer than two, or a count below 0.
    """
    if len(before) != len(after) or len(before) < 2 or min(*before, *after) < 0:
        raise ValueError("counts of the same kinds, two or more, none below 0")
    old, new = (math.fsum(each) + _FLOOR * len(each) for each in (before, after))
    shares = [((b + _FLOOR) / old, (a + _FLOOR) / new) for b, a in zip(before, after, strict=True)]
    return math.fsum((a - b) * math.log(a / b) for b, a in shares)


class Shift(NamedTuple):
    """How far shares have moved."""

    psi: float
    p: float


def psi_test(before: Sequence[int], after: Sequence[int], *, draws: int = 999) -> Shift:
    """The index, and how often it is as large when all are dealt to the two sides by chance.

    Raises: ValueError: as `psi`, or a side without any.
    """
    told = psi(before, after)
    if not sum(before) or not sum(after):
        raise ValueError("both sides need a count")
    pool = [kind for kind, counts in enumerate(zip(before, after, strict=True)) for _ in range(sum(counts))]
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    hits = 0
    size = sum(after)
    for _ in range(draws):
        dealt = [0] * len(before)
        for kind in chance.sample(pool, size):
            dealt[kind] += 1
        left = [b + a - d for b, a, d in zip(before, after, dealt, strict=True)]
        hits += psi(left, dealt) >= told - 1e-12
    return Shift(told, (hits + 1) / (draws + 1))


class ChangeDetector:
    """Watches values in [0, 1] that come one by one, and tells when their mean has left what it was.

    A Shiryaev-Roberts e-detector: the sum, over all times at which the change may have begun, of what a gambler who
    bets on it from then on would own. While the mean is within `bound`, the expected number of values until
    `evidence` reaches N is N at least, however they are distributed, as long as each is drawn without regard to the
    ones before.

    Args:
        bound: the mean is not beyond it while nothing has changed: a confidence bound of the mean before, with
            whatever margin is tolerated.
        side: ``below`` alarms when the mean falls below `bound`, ``above`` when it rises above.
        logs: state of an earlier one with the same arguments.

    Raises: ValueError: a bound outside [0, 1].
    """

    __slots__ = ("_at", "_side", "logs", "n")

    def __init__(
        self, bound: float, side: Literal["above", "below"], *, logs: Sequence[float] | None = None, n: int = 0
    ) -> None:
        if not 0 <= bound <= 1:
            raise ValueError(f"a mean of values in [0, 1] is bounded in it, not by {bound}")
        at = bound if side == "below" else 1 - bound
        # At the end of the range one value beyond it is proof; a stake is relative to what is left of the range.
        self._at = min(at, 1 - 1e-6)
        self._side = side
        self.logs = list(logs) if logs is not None else [-math.inf] * len(_LAMBDAS)
        if len(self.logs) != len(_LAMBDAS):
            raise ValueError("a state of another detector")
        self.n = n

    def add(self, value: float) -> float:
        """Take one more value; gives `evidence`. Raises: ValueError: it lies outside [0, 1]."""
        if not 0 <= value <= 1:
            raise ValueError(f"values lie in [0, 1], not {value}")
        x = value if self._side == "below" else 1 - value
        share = (self._at - x) / (1 - self._at)
        self.logs = [
            _log1p_exp(log) + math.log(max(1e-300, 1 + stake * share))
            for log, stake in zip(self.logs, _LAMBDAS, strict=True)
        ]
        self.n += 1
        return self.evidence

    @property
    def evidence(self) -> float:
        """Alarm when it reaches N; see the class."""
        most = max(self.logs)
        if most == -math.inf:
            return 0.0
        if most > 700:
            return math.inf
        return math.exp(most) * math.fsum(math.exp(log - most) for log in self.logs) / len(self.logs)


def _log1p_exp(log: float) -> float:
    """log(1 + exp(log)) without overflow."""
    if log == -math.inf:
        return 0.0
    return log + math.log1p(math.exp(-log)) if log > 0 else math.log1p(math.exp(log))
