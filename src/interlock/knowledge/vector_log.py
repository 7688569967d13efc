"""Vectors by text in a file, so that trials of one collection embed no text twice. It may be removed at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyio import to_thread

from interlock.core.ports import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RememberingEmbedder"]

_KEY = hashlib.sha256().digest_size


class RememberingEmbedder:
    """An embedder that asks another one for what it has not seen. One process at a time may write one file.

    Implements :class:`interlock.core.ports.Embedder`. A record is the SHA-256 of kind and text, then the vector as
    float32, little-endian; half a record at the end, of a process that was killed, is cut off.

    Args:
        inner: makes what is missing.
        folder: of the file, which is named after the embedding space.
    """

    def __init__(self, inner: Embedder, folder: Path) -> None:
        self._inner = inner
        self._path = folder / f"vectors-{hashlib.sha256(inner.id.encode()).hexdigest()[:16]}.bin"
        self._size = _KEY + 4 * inner.dimensions
        self._places: dict[bytes, int] = {}
        self.embedded = 0
        """Texts that the inner embedder was asked for."""
        if self._path.exists():
            self._load()

    @property
    def id(self) -> str:
        """That of the inner one: the vectors are its own."""
        return self._inner.id

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._inner.dimensions

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens that is read whole."""
        return self._inner.max_tokens

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without special tokens."""
        return self._inner.count_tokens(text)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """See :class:`interlock.core.ports.Embedder`."""
        keys = [hashlib.sha256(f"{kind}\0{text}".encode()).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._places}
        if missing:
            vectors = await self._inner.embed(list(missing.values()), kind)
            self.embedded += len(missing)
            await to_thread.run_sync(self._append, list(missing), vectors)
        return await to_thread.run_sync(self._read, keys)

    def _load(self) -> None:
        whole = self._path.stat().st_size // self._size
        with self._path.open("r+b") as file:
            file.truncate(whole * self._size)
            for number in range(whole):
                file.seek(number * self._size)
                self._places[file.read(_KEY)] = number

    def _append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        import numpy as np

        rows = np.ascontiguousarray(vectors, dtype="<f4")
        with self._path.open("ab") as file:
            for key, row in zip(keys, rows, strict=True):
                file.write(key + row.tobytes())
        for key in keys:
            self._places[key] = len(self._places)

    def _read(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        import numpy as np

        found = np.empty((len(keys), self.dimensions), dtype=np.float32)
        if not keys:
            return found
        with self._path.open("rb") as file:
            for row, key in enumerate(keys):
                file.seek(self._places[key] * self._size + _KEY)
                found[row] = np.frombuffer(file.read(4 * self.dimensions), dtype="<f4")
        return found
