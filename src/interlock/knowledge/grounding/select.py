"""Evidence selection: which sentences and rows of the found passages answer the question.

A sentence is scored by its meaning (cosine to the question, read under its headings and column names), by the
question's words it covers, and by the rank of its passage. A question that asks several things is cut into its parts,
and each part may bring one piece of evidence. Withdrawn documents are set aside while a standing one is found.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from interlock.core.passages import Passage
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.types import AnswerSpec, Evidence, Selection
from interlock.knowledge.grounding.units import units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Selector", "question_parts"]

WITHDRAWN = frozenset({"withdrawn", "superseded", "obsolete", "archived", "expired", "deprecated", "draft"})
"""Values of the document fact `status` that make it worse than any other document."""

_CANDIDATES = 32
"""Sentences that are embedded: at about 40 tokens each, half a CPU-second with MiniLM."""
_CONTEXT_TOKENS = 200
_SIMILARITY_WEIGHT, _COVERAGE_WEIGHT, _PASSAGE_WEIGHT = 0.55, 0.35, 0.10

_ASKS = r"(?:how|what|which|when|where|who|whom|whose|why|can|could|may|must|do|does|did|is|are|was|were|will|should|has|have)"
_PART = re.compile(rf"(?:[,;:?]\s*(?:and|or|but)?|\s(?:and|but))\s+(?={_ASKS}\b)", re.IGNORECASE)
_AND_WHAT = re.compile(r"\s+and\s+", re.IGNORECASE)


def question_parts(question: str) -> tuple[str, ...]:
    """The separate things a question asks, in order; the question alone when it asks one.

    >>> question_parts("How long can it be returned, and who pays the postage?")
    ('How long can it be returned', 'who pays the postage?')
    """
    pieces = [piece.strip() for piece in _PART.split(question) if piece.strip()]
    kept = [piece for piece in pieces if len(analyse(piece)) >= 2 and len(piece.split()) >= 3]
    return tuple(kept) if len(kept) > 1 else (question,)


@dataclass(frozen=True, slots=True)
class _Scored:
    evidence: tuple[Evidence, ...]
    parts: NDArray[np.float32]
    """``(questions, sentences)`` float32 scores: row 0 for the whole question, then one row a part."""
    terms: tuple[frozenset[str], ...]


class Selector:
    """Scores sentences with an embedder; stateless besides it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def select(
        self, question: str, passages: Sequence[Passage], spec: AnswerSpec, *, texts: Mapping[str, str]
    ) -> Selection:
        """Choose at most ``spec.max_sentences`` pieces of evidence. CPU heavy: embeds up to 32 sentences.

        Args:
            passages: best first, all readable by the caller.
            texts: document digest to extracted text, where known.
        """
        standing, conflicts = _standing(passages)
        found = units(standing, texts)
        if not found:
            return Selection((), (), (), conflicts)
        parts = question_parts(question)
        queries = [question, *parts] if len(parts) > 1 else [question]
        scored = await self._score(queries, _shortlist(question, found))
        order = sorted(range(len(scored.evidence)), key=lambda i: -float(scored.parts[0][i]))
        chosen = _choose(scored, spec, order, set(analyse(question)))
        return Selection(
            tuple(scored.evidence[i] for i in chosen),
            tuple(scored.evidence[i] for i in order[:8]),
            tuple(found),
            _relevant_conflicts(conflicts, [scored.evidence[i] for i in chosen]),
        )

    async def _score(self, queries: Sequence[str], found: Sequence[Evidence]) -> _Scored:
        import numpy as np

        contexts = [self._context(evidence) for evidence in found]
        vectors = await self._embedder.embed([*queries, *contexts], "passage")
        asked, said = vectors[: len(queries)], vectors[len(queries) :]
        similar = asked @ said.T
        terms = tuple(frozenset(analyse(_searchable(evidence))) for evidence in found)
        weights = _weights([set(analyse(query)) for query in queries], terms)
        covered = np.array(
            [[_coverage(set(analyse(query)), t, weights) for t in terms] for query in queries], dtype=np.float32
        )
        best = max((e.passage.score for e in found), default=0.0) or 1.0
        placed = np.array([e.passage.score / best for e in found], dtype=np.float32)
        scores = (
            _SIMILARITY_WEIGHT * np.clip(similar, 0, 1) + _COVERAGE_WEIGHT * covered + _PASSAGE_WEIGHT * placed[None, :]
        )
        evidence = tuple(
            replace(e, similarity=float(similar[0][i]), coverage=float(covered[0][i]), score=float(scores[0][i]))
            for i, e in enumerate(found)
        )
        return _Scored(evidence, scores, terms)

    def _context(self, evidence: Evidence) -> str:
        """What is embedded: the innermost headings and the sentence, cut to what the embedder reads."""
        body = evidence.readable
        lead = " › ".join(evidence.heading.split(" › ")[-2:])
        text = f"{lead}: {body}" if lead else body
        limit = min(_CONTEXT_TOKENS, self._embedder.max_tokens)
        while self._embedder.count_tokens(text) > limit:
            text = text[: int(len(text) * 0.8)]
        return text


def _standing(passages: Sequence[Passage]) -> tuple[list[Passage], tuple[str, ...]]:
    """Passages of documents in force, and the sources set aside for them. All are kept when none is in force."""
    withdrawn = [p for p in passages if dict(p.metadata).get("status", "").strip().lower() in WITHDRAWN]
    standing = [p for p in passages if p not in withdrawn]
    if not standing:
        return list(passages), ()
    return standing, tuple(dict.fromkeys(p.source for p in withdrawn))


def _relevant_conflicts(sources: Sequence[str], chosen: Sequence[Evidence]) -> tuple[str, ...]:
    return tuple(sources) if chosen else ()


def _searchable(evidence: Evidence) -> str:
    return f"{evidence.heading}\n{evidence.readable}"


def _shortlist(question: str, found: Sequence[Evidence]) -> list[Evidence]:
    """The sentences worth embedding: most shared words first, then by passage."""
    if len(found) <= _CANDIDATES:
        return list(found)
    asked = set(analyse(question))
    terms = [frozenset(analyse(_searchable(e))) for e in found]
    weights = _weights([asked], terms)
    keys = [
        (-_coverage(asked, t, weights) - 0.5 * e.passage.score / e.rank**0.5, e.rank)
        for e, t in zip(found, terms, strict=True)
    ]
    order = sorted(range(len(found)), key=keys.__getitem__)[:_CANDIDATES]
    return [found[i] for i in sorted(order)]


def _weights(asked: Sequence[set[str]], terms: Sequence[frozenset[str]]) -> dict[str, float]:
    """Rarity of each asked term among the candidates, in (0, ~log(n)]."""
    counts = Counter(term for row in terms for term in row)
    return {term: math.log(1 + (len(terms) + 1) / (counts[term] + 0.5)) for term in set().union(*asked) if term}


def _coverage(asked: set[str], terms: frozenset[str], weights: Mapping[str, float]) -> float:
    total = sum(weights[term] for term in asked)
    return sum(weights[term] for term in asked & terms) / total if total else 0.0


def _choose(scored: _Scored, spec: AnswerSpec, order: Sequence[int], asked: set[str]) -> list[int]:
    """The best sentence of each part of the question, then what still covers something new."""
    import numpy as np

    chosen: list[int] = []
    if not order:
        return chosen
    floor = spec.min_complement * float(scored.parts[0][order[0]])
    rows = list(scored.parts[1:]) if len(scored.parts) > 1 else [scored.parts[0]]
    for row in rows:
        # A part alone may have lost its subject: the whole question keeps half a say.
        blended = 0.6 * row + 0.4 * scored.parts[0] if len(rows) > 1 else row
        best = int(np.argmax(blended))
        if best not in chosen and float(blended[best]) >= floor and len(chosen) < spec.max_sentences:
            chosen.append(best)
    return chosen
