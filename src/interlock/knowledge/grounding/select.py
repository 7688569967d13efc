"""Evidence selection: which sentences and rows of the found passages answer the question.

A sentence is scored by its meaning (cosine to the question, read under its headings and column names), by the
question's words it covers, and by the rank of its passage. A question that asks several things is cut into its parts,
and each part may bring one piece of evidence. Withdrawn documents are set aside while a standing one is found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interlock.core.passages import Passage
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.features import FEATURES, asked_terms, searchable, table, term_coverage, term_weights
from interlock.knowledge.grounding.questions import asking_clauses, question_parts
from interlock.knowledge.grounding.reading import reading
from interlock.knowledge.grounding.types import AnswerSpec, Evidence, Selection
from interlock.knowledge.grounding.units import units
from interlock.knowledge.grounding.wordmatch import WordMatcher
from interlock.knowledge.ports import Reader
from interlock.knowledge.sentences import first_sentences

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
_READ, _READ_OF_PART = 8, 5
"""Sentences that the reader reads, the best scored first: at about 100 tokens each, 0.4 CPU-seconds."""
_READ_WEIGHT = 0.15
_READ_MOST = 5.0
"""Logits are cut to this size."""
_UNREAD = -3.0
"""Logit of a sentence that was scored too low to be read."""
_CLOSE_RUNNER_UP = 0.6
_PART_SHARE = 0.8
"""How much a part of the question says of its evidence; the whole question says the rest."""
_BESIDE = 2.5
"""Weight of the meaning that a part has beside the evidence of another part."""
_BEHIND = -2.5
"""Logit that the second choice of a part needs when the first one serves another part already."""


class Selector:
    """Scores sentences with an embedder; stateless besides it."""

    def __init__(self, embedder: Embedder, reader: Reader | None = None) -> None:
        self._embedder = embedder
        self._reader = reader
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
        read = await self._read(question, parts, near, scores)
        if read is not None:
            scores = scores + _READ_WEIGHT * np.nan_to_num(read, nan=_UNREAD)
        order = sorted(range(len(near)), key=lambda i: -float(scores[0][i]))
        chosen = _choose(scores, spec, order, read)
        if len(parts) == len(chosen) > 1:
            chosen = await self._beside(parts, near, features.vectors, scores, chosen)
        if parts and read is not None:
            await self._read_whole(question, near, chosen, read)
        meaning = values[:, :, 0].max(axis=0)
        scored = [
            replace(
                e,
                similarity=float(meaning[i]),
                coverage=float(values[0, i, 2]),
                score=float(scores[0][i]),
                read=_known(read, i),
                features=tuple(float(x) for x in values[0, i]),
            )
            for i, e in enumerate(near)
        ]
        return Selection(
            tuple(scored[i] for i in chosen),
            tuple(scored[i] for i in order[:8]),
            tuple(found),
            asked_terms(question, features, near, chosen if parts else chosen[:1], standing),
            conflicts if chosen else (),
        )

    async def _beside(
        self,
        parts: Sequence[str],
        found: Sequence[Evidence],
        vectors: NDArray[np.float32],
        scores: NDArray[np.float32],
        chosen: Sequence[int],
    ) -> list[int]:
        """Choose again for each part, read together with the evidence of another one.

        A part may mean what only the other's answer names: "Which plan has sign-on, and what does that plan cost?"
        """
        import numpy as np

        others = [chosen[0] if p else chosen[1] for p in range(len(parts))]
        told = [f"{part} {found[other].readable}" for part, other in zip(parts, others, strict=True)]
        asked = [first_sentences(one, self._embedder) for one in told]
        near = await self._embedder.embed(asked, "passage") @ vectors.T
        again = list(chosen)
        for p, blended in enumerate(_blended(scores) + _BESIDE * near):
            free = [i for i in np.argsort(-blended, kind="stable") if int(i) not in again[:p] + again[p + 1 :]]
            again[p] = int(free[0]) if free else again[p]
        return again

    async def _read(
        self, question: str, parts: Sequence[str], found: Sequence[Evidence], scores: NDArray[np.float32]
    ) -> NDArray[np.float32] | None:
        """Logits of the reader, ``(1 + parts, candidates)`` float32, NaN where it did not read; None without a reader.

        It reads the best few sentences of each part. The whole question is read only when it has no parts; else it
        takes the best of them.
        """
        if self._reader is None:
            return None
        import numpy as np

        asked = parts or (question,)
        most = _READ if not parts else _READ_OF_PART
        rows = _blended(scores)
        places = [(p, int(i)) for p in range(len(asked)) for i in np.argsort(-rows[p], kind="stable")[:most]]
        logits = np.full((len(asked), len(found)), np.nan, dtype=np.float32)
        values = await self._reader.read([reading(asked[p], found[i]) for p, i in places])
        for (p, i), value in zip(places, values, strict=True):
            logits[p, i] = min(_READ_MOST, max(-_READ_MOST, float(value)))
        if not parts:
            return logits
        whole = np.where(np.isnan(logits).all(axis=0), np.nan, np.nan_to_num(logits, nan=-_READ_MOST).max(axis=0))
        return np.vstack([whole[None], logits]).astype(np.float32)

    async def _read_whole(
        self, question: str, found: Sequence[Evidence], chosen: Sequence[int], read: NDArray[np.float32]
    ) -> None:
        """Read what was chosen with the whole question too, and keep the better: a part alone may lack its subject."""
        if self._reader is None:
            return
        values = await self._reader.read([reading(question, found[i]) for i in chosen])
        for i, value in zip(chosen, values, strict=True):
            whole = min(_READ_MOST, max(-_READ_MOST, float(value)))
            read[0, i] = whole if math.isnan(float(read[0, i])) else max(float(read[0, i]), whole)


def _known(read: NDArray[np.float32] | None, column: int) -> float | None:
    return None if read is None or math.isnan(value := float(read[0, column])) else value


def _blended(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """A part alone may have lost its subject: the whole question keeps a say. One row a part, or the whole one."""
    return scores if len(scores) == 1 else _PART_SHARE * scores[1:] + (1 - _PART_SHARE) * scores[:1]


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
        (-term_coverage(asked, t, weights) - (0.25 + 0.25 * e.passage.score) / e.rank**0.5, e.rank)
        for e, t in zip(found, terms, strict=True)
    ]
    order = sorted(range(len(found)), key=keys.__getitem__)[:_CANDIDATES]
    return [found[i] for i in sorted(order)]


def _choose(
    scores: NDArray[np.float32], spec: AnswerSpec, order: Sequence[int], read: NDArray[np.float32] | None
) -> list[int]:
    """The best sentence of each part of the question; and the runner-up when it is close.

    A part whose best sentence serves another part already takes the next one that the reader does not rule out.
    """
    import numpy as np

    whole = scores[0]
    best = float(whole[order[0]])
    if len(scores) == 1:
        close = [i for i in order[1:2] if best - float(whole[i]) <= _CLOSE_RUNNER_UP]
        return [order[0], *close][: spec.max_sentences]
    chosen: list[int] = []
    for part, blended in enumerate(_blended(scores), start=1):
        top = int(np.argmax(blended))
        if top in chosen and read is not None:
            behind = [i for i in np.argsort(-blended) if int(i) not in chosen and read[part, i] > _BEHIND]
            top = int(behind[0]) if behind else top
        if top not in chosen and len(chosen) < spec.max_sentences:
            chosen.append(top)
    return chosen
