"""Several rankings of one question into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from interlock.core.ids import PassageId

__all__ = ["Ranking", "gained", "merged"]

Ranking = Sequence[tuple[PassageId, float]]
"""Best first, scores in [0, 1]."""
_PARTS = 0.9
"""What the best passage of a part is worth beside the best of the whole question."""


def merged(main: Ranking, others: Sequence[Ranking], how: Literal["mean", "best"]) -> list[tuple[PassageId, float]]:
    """One ranking of all passages.

    Args:
        main: of the question itself.
        others: of further texts.
        how: `mean` for other words of the same question: half of the score is the question's own, the rest the others'
            mean, and a ranking without the passage counts 0. `best` for parts of it: a passage that answers one part
            well is wanted, whatever the others say.

    Returns: best first, scores in [0, 1]; ties keep first-seen order.
    """
    if not others:
        return list(main)
    scores: dict[PassageId, float] = {}
    if how == "mean":
        share = 0.5 / len(others)
        for ranking, weight in ((main, 0.5), *((other, share) for other in others)):
            for passage, score in ranking:
                scores[passage] = scores.get(passage, 0.0) + weight * score
    else:
        scores.update(main)
        for ranking in others:
            for passage, score in ranking:
                scores[passage] = max(scores.get(passage, 0.0), _PARTS * score)
    return sorted(scores.items(), key=lambda pair: -pair[1])


def gained(main: Ranking, gains: Mapping[PassageId, float], weight: float) -> list[tuple[PassageId, float]]:
    """A ranking in which some passages count more.

    Args:
        gains: in [0, 1]; passages that `main` lacks come in.
        weight: what a gain of 1 takes away of the distance to a score of 1.

    Returns: best first, scores in [0, 1], none lower than it was; ties keep first-seen order.
    """
    scores = dict(main)
    for passage, gain in gains.items():
        score = scores.get(passage, 0.0)
        scores[passage] = score + weight * gain * (1.0 - score)
    return sorted(scores.items(), key=lambda pair: -pair[1])
