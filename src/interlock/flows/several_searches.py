"""What several searches found, as one list: of several questions, or of several collections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interlock.core.passages import Passage

__all__ = ["merged", "score_of"]


def score_of(passage: Passage) -> float:
    """How near a passage is to what was asked, in [0, 1]: what interfaces call its score.

    Fused scores only order what one search found: the best is near 1 whatever it is.
    """
    return passage.score if passage.relevance is None else passage.relevance


def merged(rankings: Iterable[Sequence[Passage]]) -> list[Passage]:
    """Every passage once, with its best score. Of the first ones that are left the nearest comes next, so that what one
    search put in order stays in it.
    """
    left = [list(ranking) for ranking in rankings if ranking]
    best: dict[str, Passage] = {}
    for ranking in left:
        for passage in ranking:
            if passage.id not in best or score_of(passage) > score_of(best[passage.id]):
                best[passage.id] = passage
    found: dict[str, Passage] = {}
    while left:
        ranking = max(left, key=lambda those: score_of(those[0]))
        passage = ranking.pop(0)
        found.setdefault(passage.id, best[passage.id])
        left = [those for those in left if those]
    return list(found.values())
