"""Passages of one version with their vectors, as one blob beside its text."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from interlock.core.passages import Span
from interlock.knowledge.types import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KeptPassages", "decode_kept", "encode_kept"]


class _Row(msgspec.Struct, frozen=True, array_like=True):
    start: int
    end: int
    page: int | None
    heading: str
    search_text: str
    stressed: str = ""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """Version 1. New fields go to the end with a default; older blobs then still decode."""

    version: int
    embedder: str
    fingerprint: str
    dimensions: int
    vectors: bytes
    """float32, little-endian, row by row."""
    rows: bytes
    """A deflated list of `_Row`: its words are those of the text, and pack well."""


class KeptPassages(NamedTuple):
    """What was kept of one version."""

    embedder: str
    """Embedding space of the vectors."""
    fingerprint: str
    """Of the pipeline that cut them."""
    chunks: tuple[Chunk, ...]
    vectors: NDArray[np.float32]
    """``(len(chunks), dimensions)``."""


def encode_kept(chunks: Sequence[Chunk], vectors: NDArray[np.float32], *, embedder: str, fingerprint: str) -> bytes:
    """About 1.6 KB a passage at 384 dimensions."""
    import numpy as np

    rows = [_Row(c.span.start, c.span.end, c.page, c.heading, c.search_text, c.stressed) for c in chunks]
    packed = zlib.compress(msgspec.msgpack.encode(rows), level=1)
    plain = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return msgspec.msgpack.encode(_Stored(1, embedder, fingerprint, int(vectors.shape[1]), plain, packed))


def decode_kept(data: bytes) -> KeptPassages:
    """Read what `encode_kept` of this or an older version wrote."""
    import numpy as np

    stored = msgspec.msgpack.decode(data, type=_Stored)
    rows = msgspec.msgpack.decode(zlib.decompress(stored.rows), type=list[_Row])
    chunks = tuple(Chunk(Span(r.start, r.end), r.heading, r.page, r.search_text, r.stressed) for r in rows)
    vectors = np.frombuffer(stored.vectors, dtype="<f4").reshape(len(rows), stored.dimensions)
    return KeptPassages(stored.embedder, stored.fingerprint, chunks, vectors.astype(np.float32))
