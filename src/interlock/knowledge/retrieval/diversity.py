"""Less of the same: maximal marginal relevance, and a bound on passages of one document."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from interlock.core.ids import DocumentId
from interlock.core.passages import Passage
from interlock.knowledge.analysers import analyse

__all__ = ["capped", "mmr"]

_READ_CHARACTERS = 4000


def mmr(passages: Sequence[Passage], share: float, *, head: int) -> tuple[list[Passage], int]:
    """Order by ``share * relevance - (1 - share) * likeness`` to what comes before (Carbonell, Goldstein, SIGIR 1998).

    Relevance is the score, scaled within the head; likeness is the cosine of word counts weighted by rarity within it,
    which needs no vectors and works for a search by words alone.

    Args:
        passages: best first.
        share: of relevance, in [0, 1].
        head: how many are ordered; the rest follows as it is.

    Returns: the passages, with the scores they had, falling; and how many changed their place.
    """
    chosen, rest = list(passages[:head]), list(passages[head:])
    vectors = _vectors([p.text[:_READ_CHARACTERS] for p in chosen])
    low = min((p.score for p in chosen), default=0.0)
    span = max((p.score for p in chosen), default=0.0) - low
    relevance = [(p.score - low) / span if span > 0 else 1.0 for p in chosen]
    likest = [0.0] * len(chosen)
    left, order = list(range(len(chosen))), []
    while left:
        best = max(left, key=lambda n: (share * relevance[n] - (1 - share) * likest[n], -n))
        left.remove(best)
        order.append(best)
        for n in left:
            likest[n] = max(likest[n], _cosine(vectors[best], vectors[n]))
    return _reordered(chosen, order, rest)


def capped(passages: Sequence[Passage], most: int) -> tuple[list[Passage], int]:
    """At most `most` passages of a document first, the others behind everything else, both in their order.

    Returns: as of `mmr`.
    """
    seen: Counter[DocumentId] = Counter()
    first: list[int] = []
    later: list[int] = []
    for n, passage in enumerate(passages):
        (first if seen[passage.document_id] < most else later).append(n)
        seen[passage.document_id] += 1
    return _reordered(passages, [*first, *later], [])


def _reordered(passages: Sequence[Passage], order: Sequence[int], rest: Sequence[Passage]) -> tuple[list[Passage], int]:
    # The first place keeps the first score: whoever reads scores still finds them falling.
    moved = [replace(passages[n], score=min(p.score, passages[0].score)) for n, p in zip(order, passages, strict=True)]
    return [*moved, *rest], sum(place != n for place, n in enumerate(order))


def _vectors(texts: Sequence[str]) -> list[Mapping[str, float]]:
    counts = [Counter(analyse(text)) for text in texts]
    held = Counter(term for count in counts for term in count)
    vectors: list[Mapping[str, float]] = []
    for count in counts:
        weights = {term: (1 + math.log(n)) * math.log(1 + len(texts) / held[term]) for term, n in count.items()}
        length = math.sqrt(sum(w * w for w in weights.values())) or 1.0
        vectors.append({term: w / length for term, w in weights.items()})
    return vectors


def _cosine(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    if len(b) < len(a):
        a, b = b, a
    return sum(w * b[term] for term, w in a.items() if term in b)
