"""Two rankings into one: reciprocal rank fusion and convex score fusion; and a score that says something by itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

__all__ = ["bounded", "convex", "is_flat", "min_max", "relevance", "rrf"]

K = TypeVar("K", bound=Hashable)
_HALF_BM25 = 2.0
"""Mean BM25 of a question's words that counts as half."""


def rrf(rankings: Sequence[Sequence[K]], k: int = 60) -> list[tuple[K, float]]:
    """Fuse rankings by reciprocal rank: the sum of ``1 / (k + rank)``, ranks from 1.

    Args:
        rankings: best first; an item may be missing from some of them, and appears at most once in each.
        k: damping constant; larger flattens the ranks (60 in Cormack et al., SIGIR 2009).

    Returns: (item, score) best first, scores in (0, len(rankings) / (k + 1)]; ties keep first-seen order.
    Raises: ValueError: if `k` <= 0.
    """
    if k <= 0:
        raise ValueError(f"k must be positive, not {k}")
    scores: dict[K, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (k + rank)
    return _best_first(scores)


def convex(dense: Mapping[K, float], lexical: Mapping[K, float], weight: float = 0.5) -> list[tuple[K, float]]:
    """Fuse scores: ``weight`` of the dense leg plus the rest of the lexical leg, each min-max scaled first.

    An item missing from a leg counts 0 there. More robust than ranks when one leg is weak (Bruch et al., TOIS 2023),
    but no help against one that knows nothing: its best is scaled to 1 all the same. Scores that are all equal become
    1 each, so that whatever is in that leg is put before what is not: see `is_flat`.

    Args:
        dense: score by item, higher is better.
        lexical: the same for the other leg.
        weight: share of the dense leg, in [0, 1].

    Returns: (item, score) best first, scores in [0, 1]; ties keep first-seen order, dense first.
    Raises: ValueError: if `weight` is outside [0, 1].
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight must be in [0, 1], not {weight}")
    legs = ((weight, min_max(dense)), (1.0 - weight, min_max(lexical)))
    scores: dict[K, float] = {}
    for share, leg in legs:
        for item, score in leg.items():
            scores[item] = scores.get(item, 0.0) + share * score
    return _best_first(scores)


def min_max(scores: Mapping[K, float]) -> dict[K, float]:
    """Scale to [0, 1]: the lowest becomes 0 and the highest 1; equal scores all become 1."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    span = high - low
    if span <= 0:
        return dict.fromkeys(scores, 1.0)
    return {item: min(1.0, (score - low) / span) for item, score in scores.items()}


def is_flat(scores: Mapping[K, float]) -> bool:
    """True of two or more scores that are all equal: they say nothing of their order."""
    return len(scores) > 1 and max(scores.values()) <= min(scores.values())


def bounded(mean_bm25: float) -> float:
    """BM25 on a scale from 0 to 1: ``m / (m + 2)`` of the mean over a question's words."""
    return mean_bm25 / (mean_bm25 + _HALF_BM25)


def relevance(cosine: float | None, words: float | None, *, weight: float) -> float:
    """How near a passage is to a question, whatever else was found: for thresholds, and to compare questions.

    Args:
        cosine: None when the dense leg did not find it, which counts 0; so does a negative one.
        words: how much of the question's words it has, in [0, 1], see `bounded`; None counts 0.
        weight: share of the cosine, in [0, 1]; the words have the rest.

    Returns: in [0, 1].
    """
    return weight * min(1.0, max(0.0, cosine or 0.0)) + (1.0 - weight) * (words or 0.0)


def _best_first(scores: Mapping[K, float]) -> list[tuple[K, float]]:
    return sorted(scores.items(), key=lambda pair: -pair[1])
