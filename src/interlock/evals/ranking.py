"""Measures of a ranking against graded judgements. Pure.

``ranking`` holds ids, best first and each once; ``relevant`` grades by id, 0 or absent for none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

__all__ = ["MEASURES", "Measure", "average_precision", "hit", "ndcg", "precision", "recall", "reciprocal_rank"]

Measure = Callable[[Sequence[str], Mapping[str, int], int], float]


def ndcg(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Normalised discounted cumulative gain with linear gain, as trec_eval's ``ndcg_cut`` (Järvelin & Kekäläinen 2002).

    >>> round(ndcg(["b", "a"], {"a": 1}, 10), 3)
    0.631
    """
    gain = sum(max(0, relevant.get(each, 0)) / math.log2(rank + 2) for rank, each in enumerate(ranking[:k]))
    grades = sorted((grade for grade in relevant.values() if grade > 0), reverse=True)[:k]
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades))
    return gain / ideal if ideal else 0.0


def recall(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Share of what is relevant among the first `k`."""
    wanted = {each for each, grade in relevant.items() if grade > 0}
    return len(wanted.intersection(ranking[:k])) / len(wanted) if wanted else 0.0


def precision(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Share of the first `k` places that hold something relevant; empty places count as wrong."""
    return sum(relevant.get(each, 0) > 0 for each in ranking[:k]) / k


def reciprocal_rank(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """One over the place of the first relevant one among the first `k`, else 0."""
    return next((1 / rank for rank, each in enumerate(ranking[:k], start=1) if relevant.get(each, 0) > 0), 0.0)


def average_precision(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Mean of the precision at each relevant place among the first `k`, over all that is relevant."""
    wanted = sum(grade > 0 for grade in relevant.values())
    found, total = 0, 0.0
    for rank, each in enumerate(ranking[:k], start=1):
        if relevant.get(each, 0) > 0:
            found += 1
            total += found / rank
    return total / min(wanted, k) if wanted else 0.0


def hit(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """1 when anything relevant is among the first `k`."""
    return float(any(relevant.get(each, 0) > 0 for each in ranking[:k]))


MEASURES: Mapping[str, Measure] = {
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "mrr": reciprocal_rank,
    "map": average_precision,
    "hit": hit,
}
