"""An embedder without a model, for tests of everything but meaning; and what every embedder promises, as one suite."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from interlock.core.errors import TooLarge
from interlock.core.ports import Embedder, TokenVectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbedderConformance", "HashEmbedder"]


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

    def tokens_of(self, text: str) -> Sequence[str]:
        """Its words."""
        return [word.casefold().strip(".,:;!?()[]|") for word in text.split()]

    async def embed_tokens(self, texts: Sequence[str]) -> Sequence[TokenVectors]:
        """Each word by itself, whatever stands around it."""
        words = [self.tokens_of(text) for text in texts]
        return [TokenVectors(each, await self.embed(each, "passage")) for each in words]


class EmbedderConformance:
    """What every embedder promises, as one suite. Derive it, and give one that is ready to use::

        class TestMine(EmbedderConformance):
            def embedder(self, models: Path) -> Embedder:
                return embedders.get("mine").open(models, threads=1)

    `models` is a fixture: the folder of models.
    """

    def embedder(self, models: Path) -> Embedder:
        """A fresh one."""
        raise NotImplementedError

    async def test_vectors_are_whole_unit_and_in_order(self, models: Path) -> None:
        """Also beyond one batch, and for texts of very different lengths."""
        import numpy as np

        embedder = self.embedder(models)
        texts = [f"Note number {n} is about the heron." + " It waits." * (n % 9) for n in range(40)]
        vectors = await embedder.embed(texts, "passage")
        assert vectors.shape == (40, embedder.dimensions)
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
        alone = await embedder.embed([texts[17]], "passage")
        assert int(np.argmax(vectors @ alone[0])) == 17
        assert (await embedder.embed([], "query")).shape == (0, embedder.dimensions)

    async def test_a_question_finds_what_answers_it(self, models: Path) -> None:
        """Vectors carry meaning, across the prefixes of questions and passages."""
        embedder = self.embedder(models)
        passages = ["The cat sleeps on the sofa.", "Revenue rose by four percent.", "Bread is baked at dawn."]
        vectors = await embedder.embed(passages, "passage")
        for row, question in enumerate(
            ["Where is the kitten resting?", "How did sales develop?", "When is the baker up?"]
        ):
            [asked] = await embedder.embed([question], "query")
            assert int((vectors @ asked).argmax()) == row

    async def test_what_is_too_long_is_refused_and_what_fits_is_read(self, models: Path) -> None:
        """Never cut in silence."""
        embedder = self.embedder(models)
        count = embedder.count_tokens
        words = max(1, embedder.max_tokens // max(1, count("bread bread") - count("bread")))
        text = " ".join(["bread"] * words)
        while count(text) > embedder.max_tokens:
            text = text.rsplit(" ", 1)[0]
        assert count(text) > embedder.max_tokens // 2
        await embedder.embed([text], "passage")
        longer = text
        while count(longer) <= embedder.max_tokens:
            longer += " bread bread bread bread"
        with pytest.raises(TooLarge):
            await embedder.embed(["short", longer], "passage")

    async def test_texts_of_any_kind_are_read(self, models: Path) -> None:
        """Empty, in any script, with zero characters and signs of other planes."""
        import numpy as np

        embedder = self.embedder(models)
        odd = ["", " ", "الإرجاع", "返品は三十日以内", "a\x00b", "😀", "\u202eabc", "x"]
        vectors = await embedder.embed(odd, "passage")
        assert np.isfinite(vectors).all()
        assert all(embedder.count_tokens(text) >= 0 for text in odd)

    async def test_two_of_a_kind_share_a_space(self, models: Path) -> None:
        """The id names it, and the same text has the same place in it."""
        one, other = self.embedder(models), self.embedder(models)
        assert one.id == other.id
        assert one.id
        [first], [second] = [await e.embed(["The heron waits."], "passage") for e in (one, other)]
        assert float(first @ second) > 0.999

    async def test_it_may_be_used_by_several_at_once(self, models: Path) -> None:
        """Searches come beside each other."""
        import asyncio

        import numpy as np

        embedder = self.embedder(models)
        texts = [f"Question {n} asks about herons." for n in range(8)]
        together = await asyncio.gather(*(embedder.embed([text], "query") for text in texts))
        one_by_one = [await embedder.embed([text], "query") for text in texts]
        assert np.allclose(np.concatenate(together), np.concatenate(one_by_one), atol=1e-3)
