"""What a document looks like in some hundred bytes: to find copies, near copies, and what many documents repeat."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from interlock.knowledge.types import LoadedDocument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HASHES", "VERSION", "Signature", "block_hashes", "signature_of", "similar", "tokens", "words"]

VERSION = "signature/1"


def words(text: str) -> frozenset[str]:
    """A list of words as it is read best: apart by blanks."""
    return frozenset(text.split())


HASHES = 128
_SLICE = 8_192
"""Word triples hashed at once: bounds memory for books."""
_ENDS = 64
"""Blocks looked at from either end of a document; what a site repeats stands there."""
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+(?:[.,:/'’]\w+)*|[^\w\s]")
_QUIET = frozenset(".,;:!?\"'()[]{}*_|•·–—-#>`“”„’‘«»…")
"""Marks that change nothing of what prose says."""
_NEGATIONS = words(
    """
    no not never none nothing without cannot can't don't doesn't didn't won't isn't aren't wasn't shouldn't mustn't
    nicht kein keine keinen keiner nie niemals ohne ne pas jamais sans sin nunca ningún ninguna non senza mai niet geen
    must may shall should only except unless
    """
)
_REPEATABLE = frozenset({"paragraph", "list", "heading"})


class Signature(NamedTuple):
    """Of one document's text."""

    exact: str
    """The same for the same words and marks, whatever their case and spacing."""
    critical: str
    """The same for the same numbers and negations in the same order."""
    words: int
    minhash: bytes
    """`HASHES` little-endian uint32."""


def tokens(text: str) -> list[str]:
    """Words in small letters, numbers whole, marks one by one; writing without spaces by characters."""
    return _TOKEN.findall(text.casefold())


def signature_of(text: str) -> Signature:
    """Deterministic across machines and versions of Python. CPU only: about 0.3 ms a page."""
    found = tokens(text)
    exact = hashlib.sha256("\0".join(found).encode()).hexdigest()[:32]
    critical = [t for t in found if t in _NEGATIONS or (not t.isalpha() and _says_something(t))]
    key = hashlib.sha256("\0".join(critical).encode()).hexdigest()[:32]
    said = [token for token in found if token not in _QUIET]
    return Signature(exact, key, len(said), _minhash(said))


def _says_something(token: str) -> bool:
    return token not in _QUIET and (any(c.isdigit() for c in token) or len(token) == 1)


def _minhash(said: list[str]) -> bytes:
    import numpy as np

    if not said:
        return b"\xff" * (4 * HASHES)
    factors, offsets = _permutations()
    hashes = np.fromiter(map(_hash, said), dtype=np.uint64, count=len(said))
    padded = np.concatenate([hashes, np.zeros(2, dtype=np.uint64)]) if len(said) < 3 else hashes
    with np.errstate(over="ignore"):
        triples = np.unique(
            padded[:-2] * np.uint64(0x9E3779B97F4A7C15)
            ^ padded[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F)
            ^ padded[2:] * np.uint64(0x165667B19E3779F9)
        )
        least = np.full(HASHES, 0xFFFFFFFF, dtype=np.uint64)
        for start in range(0, len(triples), _SLICE):
            part = triples[start : start + _SLICE]
            mixed = (part[None, :] * factors[:, None] + offsets[:, None]) >> np.uint64(32)
            least = np.minimum(least, mixed.min(axis=1))
    return least.astype("<u4").tobytes()


@lru_cache(maxsize=65_536)
def _hash(word: str) -> int:
    data = word.encode()
    return zlib.crc32(data) << 32 | zlib.adler32(data)


@lru_cache(maxsize=1)
def _permutations() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    import numpy as np

    seeds = [hashlib.sha256(f"interlock minhash {n}".encode()).digest() for n in range(HASHES)]
    factors = [int.from_bytes(seed[:8], "little") | 1 for seed in seeds]
    offsets = [int.from_bytes(seed[8:16], "little") for seed in seeds]
    return np.array(factors, dtype=np.uint64), np.array(offsets, dtype=np.uint64)


def similar(one: bytes, other: bytes) -> float:
    """Share of common word triples, estimated from two minhashes: standard error at most 0.045."""
    import numpy as np

    return float(np.mean(np.frombuffer(one, dtype="<u4") == np.frombuffer(other, dtype="<u4")))


def block_hashes(document: LoadedDocument) -> bytes:
    """8 bytes for each of the first and last blocks, in order; zeros for what is never left out (tables, code)."""
    blocks = document.blocks
    chosen = blocks if len(blocks) <= 2 * _ENDS else (*blocks[:_ENDS], *blocks[-_ENDS:])
    found = bytearray()
    for block in chosen:
        text = document.text[block.span.start : block.span.end]
        if block.kind not in _REPEATABLE:
            found += bytes(8)
        else:
            found += _block_hash(block.kind, text)
    return bytes(found)


def _block_hash(kind: str, text: str) -> bytes:
    """A heading, a short line and a long one never share a hash: they are treated otherwise."""
    said = " ".join(text.casefold().split())
    size = "h" if kind == "heading" else "s" if len(said) < 20 else "l"
    return size.encode() + hashlib.blake2b(said.encode(), digest_size=7).digest()
