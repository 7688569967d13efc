"""A reranker's scores put to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from interlock.core.passages import Passage
from interlock.knowledge.fusion import min_max
from interlock.knowledge.retrieval.types import StepFailed

__all__ = ["reordered"]


def reordered(
    passages: Sequence[Passage], read: Sequence[Passage], scores: Sequence[float], *, weight: float
) -> tuple[list[Passage], int]:
    """The passages by ``weight`` of the reranker's scores, scaled to [0, 1], and the rest of their own.

    Args:
        passages: best first.
        read: those the reranker read; they stay before all others.
        scores: one for each of `read`.
        weight: in [0, 1].

    Returns: best first, scores falling and in [0, 1]; and how many changed their place.
    Raises: StepFailed: the reranker gave another number of scores, or some that are no numbers.
    """
    if len(scores) != len(read) or not all(math.isfinite(score) for score in scores):
        raise StepFailed("the reranker gave no score for each passage")
    scaled = min_max({passage.id: float(score) for passage, score in zip(read, scores, strict=True)})
    own = min_max({passage.id: passage.score for passage in read})
    mixed = {passage.id: weight * scaled[passage.id] + (1 - weight) * own[passage.id] for passage in read}
    head = sorted(read, key=lambda p: -mixed[p.id])
    rest = [p for p in passages if p.id not in mixed]
    floor = rest[0].score if rest else 0.0
    ranked = [replace(p, score=floor + (1.0 - floor) * mixed[p.id]) for p in head] + rest
    return ranked, sum(a.id != b.id for a, b in zip(passages, ranked, strict=True))
