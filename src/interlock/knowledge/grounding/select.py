"""Evidence selection: which sentences and rows of the found passages answer the question.

A sentence is scored by its meaning (cosine to the question, read under its headings and column names), by the
question's words it covers, and by the rank of its passage. A question that asks several things is cut into its parts,
and each part may bring one piece of evidence. Withdrawn documents are set aside while a standing one is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interlock.core.passages import Passage
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.features import FEATURES, asked_terms, searchable, table, term_coverage, term_weights
from interlock.knowledge.grounding.questions import asking_clauses, question_parts
from interlock.knowledge.grounding.types import AnswerSpec, Evidence, Selection
from interlock.knowledge.grounding.units import units
from interlock.knowledge.grounding.wordmatch import WordMatcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Selector", "shortlist"]

WITHDRAWN = frozenset({"withdrawn", "superseded", "obsolete", "archived", "expired", "deprecated", "draft"})
"""Values of the document fact `status` that make it worse than any other document."""

_CANDIDATES = 24
"""Sentences that are embedded: at about 40 tokens each, half a CPU-second with MiniLM."""
_WEIGHTS = {
    "similarity": 3.0, "own": 1.0, "context": 1.0, "near": 1.0, "pairs": 0.5, "names": 1.0,
    "place": 0.5, "dense": 0.0, "kind": 1.0, "row": 0.0, "short": -0.5,
}  # fmt: skip
_CLOSE_RUNNER_UP = 0.4
_PART_SHARE = 0.6


class Selector:
    """Scores sentences with an embedder; stateless besides it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.words = WordMatcher(embedder)

    async def select(
        self, question: str, passages: Sequence[Passage], spec: AnswerSpec, *, texts: Mapping[str, str]
    ) -> Selection:
        """Choose at most ``spec.max_sentences`` pieces of evidence. CPU heavy: embeds up to 32 sentences.

        Args:
            passages: best first, all readable by the caller.
            texts: document digest to extracted text, where known.
        """
        import numpy as np

        standing, conflicts = _standing(passages)
        found = units(standing, texts)
        if not found:
            return Selection((), (), conflicts=conflicts)
        parts = question_parts(question)
        parts = parts if len(parts) > 1 else ()
        bare = tuple(clause for clause in asking_clauses(question) if clause != question)
        near = shortlist(question, found)
        features = await table([question, *parts, *bare], near, self._embedder, self.words)
        values = features.values
        # A clause without its story only ever helps the meaning; the words stay those of the whole question.
        values[: 1 + len(parts), :, 0] = np.maximum(
            values[: 1 + len(parts), :, 0], values[1 + len(parts) :, :, 0].max(axis=0) if bare and not parts else 0.0
        )
        scores = values[: 1 + len(parts)] @ _weights_array()
        order = sorted(range(len(near)), key=lambda i: -float(scores[0][i]))
        meaning = values[:, :, 0].max(axis=0)
        scored = [
            replace(
                e,
                similarity=float(meaning[i]),
                coverage=float(values[0, i, 2]),
                score=float(scores[0][i]),
                features=tuple(float(x) for x in values[0, i]),
            )
            for i, e in enumerate(near)
        ]
        chosen = _choose(scores, spec, order)
        return Selection(
            tuple(scored[i] for i in chosen),
            tuple(scored[i] for i in order[:8]),
            tuple(found),
            asked_terms(question, features, near, chosen if parts else chosen[:1], standing),
            conflicts if chosen else (),
        )


def _weights_array() -> NDArray[np.float32]:
    import numpy as np

    return np.array([_WEIGHTS[name] for name in FEATURES], dtype=np.float32)


def _standing(passages: Sequence[Passage]) -> tuple[list[Passage], tuple[str, ...]]:
    """Passages of documents in force, and the sources set aside for them. All are kept when none is in force."""
    withdrawn = [p for p in passages if dict(p.metadata).get("status", "").strip().lower() in WITHDRAWN]
    standing = [p for p in passages if p not in withdrawn]
    if not standing:
        return list(passages), ()
    return standing, tuple(dict.fromkeys(p.source for p in withdrawn))


def shortlist(question: str, found: Sequence[Evidence]) -> list[Evidence]:
    """The sentences worth embedding: most shared words first, then by passage."""
    if len(found) <= _CANDIDATES:
        return list(found)
    asked = set(analyse(question))
    terms = [frozenset(analyse(searchable(e))) for e in found]
    weights = term_weights([asked], terms)
    keys = [
        (-term_coverage(asked, t, weights) - 0.5 * e.passage.score / e.rank**0.5, e.rank)
        for e, t in zip(found, terms, strict=True)
    ]
    order = sorted(range(len(found)), key=keys.__getitem__)[:_CANDIDATES]
    return [found[i] for i in sorted(order)]


def _choose(scores: NDArray[np.float32], spec: AnswerSpec, order: Sequence[int]) -> list[int]:
    """The best sentence of each part of the question; and the runner-up when it is close."""
    import numpy as np

    whole = scores[0]
    best = float(whole[order[0]])
    if len(scores) == 1:
        close = [i for i in order[1:2] if best - float(whole[i]) <= _CLOSE_RUNNER_UP]
        return [order[0], *close][: spec.max_sentences]
    chosen: list[int] = []
    for row in scores[1:]:
        # A part alone may have lost its subject: the whole question keeps a say.
        blended = _PART_SHARE * row + (1 - _PART_SHARE) * whole
        top = int(np.argmax(blended))
        if top not in chosen and len(chosen) < spec.max_sentences:
            chosen.append(top)
    return chosen
