"""How near words are in meaning, by embedding them alone: `laptop` and `device`, `texts` and `SMS`.

Only for words of letters: two numbers, years or model names look alike to an embedder and are different things.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.sentences import first_sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WordMatcher", "surfaces"]

_WORD = re.compile(r"[^\W\d_]{3,30}(?:['’-][^\W\d_]+)*")
_KEPT = 20_000
"""Word vectors kept: 8 kB a hundred… 30 MB at most with 384 dimensions."""
_NOISE, _SAME = 0.38, 0.78
"""Cosine of unrelated words (95th percentile of random pairs) and of inflections, with MiniLM."""


def surfaces(text: str) -> dict[str, str]:
    """Term of the analyser to a word as written, for the words of letters in `text`."""
    found: dict[str, str] = {}
    for match in _WORD.finditer(text):
        terms = analyse(match.group())
        if len(terms) == 1:
            found.setdefault(terms[0], match.group().lower())
    return found


class WordMatcher:
    """Nearness of words in [0, 1]; keeps the vectors of words it has met."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._lock = threading.Lock()  # several requests add words to the one cache

    async def learn(self, words: Iterable[str]) -> None:
        """Embed the words not met before; about 3 tokens each."""
        new = sorted({word for word in words if word not in self._vectors})
        if not new:
            return
        # What nothing parts is one word, however long.
        vectors = await self._embedder.embed([first_sentences(word, self._embedder) for word in new], "query")
        with self._lock:
            if len(self._vectors) + len(new) > _KEPT:
                self._vectors.clear()
            self._vectors.update(zip(new, vectors, strict=True))

    def nearness(self, asked: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
        """``(len(asked), len(words))`` float32 in [0, 1]: 0 for unrelated, 1 for the same word or an inflection.

        A word that was not learnt is near to nothing.
        """
        import numpy as np

        blank = np.zeros(self._embedder.dimensions, dtype=np.float32)
        known = self._vectors
        left = np.array([known.get(word, blank) for word in asked], dtype=np.float32).reshape(len(asked), -1)
        right = np.array([known.get(word, blank) for word in words], dtype=np.float32).reshape(len(words), -1)
        if not asked or not words:
            return np.zeros((len(asked), len(words)), dtype=np.float32)
        near: NDArray[np.float32] = np.clip((left @ right.T - _NOISE) / (_SAME - _NOISE), 0.0, 1.0)
        return near
