"""Passages, evidence and an embedder without weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from interlock.core.passages import Passage, Span
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.types import Evidence
from interlock.knowledge.grounding.units import units


class BagEmbedder:
    """Hashed bags of terms: texts that share words are similar. Deterministic."""

    id = "bag"
    dimensions = 256
    max_tokens = 254

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for term in analyse(text):
                vectors[row, int(hashlib.sha256(term.encode()).hexdigest()[:8], 16) % self.dimensions] += 1
            vectors[row] /= max(1e-9, float(np.linalg.norm(vectors[row])))
        return vectors


def passage(
    text: str,
    *,
    source: str = "policy.md",
    title: str = "Policy",
    heading: str = "",
    start: int = 0,
    score: float = 1.0,
    **facts: str,
) -> Passage:
    """A passage of a document named `source`."""
    return Passage(
        f"{source}#{start}", source, f"sha256:{source}", source, title, heading, text, Span(start, start + len(text)),
        score=score, dense_score=0.6, metadata=tuple(sorted(facts.items())),
    )  # fmt: skip


def evidence(text: str, **more: str) -> Evidence:
    """The only sentence or row of a text."""
    found = units([passage(text, **more)], {})
    assert len(found) == 1, [f.text for f in found]
    return found[0]


def row(table: str, number: int = 1, **more: str) -> Evidence:
    """One row of a table, 1-based below its header."""
    return units([passage(table, **more)], {})[number - 1]
