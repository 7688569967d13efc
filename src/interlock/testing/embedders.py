"""An embedder without a model: words hashed into a vector. For tests and demonstrations of everything but meaning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from interlock.core.errors import TooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HashEmbedder"]


class HashEmbedder:
    """Texts that share words are near each other; the same text has the same vector on every machine."""

    def __init__(self, *, dimensions: int = 64, max_tokens: int = 254, name: str = "hash") -> None:
        self.id = f"{name}:{dimensions}"
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.texts: list[str] = []
        """Every text embedded so far, in order."""

    def count_tokens(self, text: str) -> int:
        """Words, and one more for every eight characters of a long one."""
        return sum(1 + len(word) // 8 for word in text.split())

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), dimensions)`` float32, L2-normalised. Raises: TooLarge."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            if self.count_tokens(text) > self.max_tokens:
                raise TooLarge(f"a text is longer than {self.max_tokens} tokens")
            self.texts.append(text)
            for word in text.casefold().split():
                digest = hashlib.sha256(word.strip(".,:;!?()[]|").encode()).digest()
                vectors[row, digest[0] % self.dimensions] += 1.0 if digest[1] & 1 else -1.0
            vectors[row, 0] += 0.01  # a text whose words cancel out still has a direction
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
