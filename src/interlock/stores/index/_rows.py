"""What every index back end does to rows before they are stored: words, reader sets, vectors, all checked once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput, MissingExtra
from interlock.stores.index.base import IndexRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "COMMON",
    "K1",
    "MAX_K",
    "B",
    "check_k",
    "check_rows",
    "idf",
    "query_words",
    "reader_set",
    "unit_vector",
    "words",
]

K1, B = 1.2, 0.75
"""BM25's constants, as SQLite's FTS5 has them, so that every back end scores alike."""
COMMON = 1e-6
"""Weight of a word that half of the rows or more contain: FTS5's floor."""
MAX_K = 4096

_LONGEST = 128
_CONTROL = dict.fromkeys((*range(32), 127), " ")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def words(terms: str) -> list[str]:
    """The words of analysed text, in order: split at white space and control characters, ASCII letters folded.

    The analyser folds before; the fold here only makes every back end agree on text that was not analysed. A word of
    more than 128 characters is cut there: it is a token of data, and databases bound what they can index.
    """
    return [word[:_LONGEST] for word in terms.translate(_CONTROL).translate(_LOWER).split()]


def query_words(terms: Sequence[str]) -> list[str]:
    """Distinct words of a query, first seen first."""
    return list(dict.fromkeys(word for term in terms for word in words(term)))


def idf(rows: int, with_word: int) -> float:
    """Weight of a word that `with_word` of `rows` rows contain: FTS5's formula, with its floor for common words."""
    weight = math.log((rows - with_word + 0.5) / (with_word + 0.5))
    return weight if weight > 0 else COMMON


def reader_set(readers: Iterable[str]) -> str:
    """One text for one set of readers: sorted JSON. The empty set is the deny set."""
    return json.dumps(sorted(set(readers)), ensure_ascii=False)


def check_k(k: int) -> None:
    """Raises: InvalidInput: `k` is not in 1..4096."""
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"k is {k}, expected 1 to {MAX_K}", param="k")


def unit_vector(vector: Sequence[float] | NDArray[np.float32], dims: int | None) -> NDArray[np.float32]:
    """`vector` as ``(d,) float32``.

    Args:
        vector: the caller's, of any sequence type.
        dims: the collection's dimensions, None when it has none yet.

    Raises: InvalidInput: another length, a value that is not finite, or a length that is not about 1.
    """
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise MissingExtra("the index needs numpy", hint="pip install 'interlock[knowledge]'") from error

    values = np.asarray(vector, dtype=np.float32)
    if values.ndim != 1 or values.size == 0 or (dims is not None and values.size != dims):
        raise InvalidInput(f"a vector has the shape {values.shape}, expected ({dims or 'n'},)", param="vector")
    norm = float(np.linalg.norm(values.astype(np.float64)))
    if not math.isfinite(norm) or abs(norm - 1.0) > 0.01:
        raise InvalidInput(f"a vector has the length {norm:.4g}, expected 1", hint="normalise it", param="vector")
    return values


def check_rows(rows: Sequence[IndexRow]) -> None:
    """Raises: InvalidInput: a passage id twice, or text that no database stores."""
    twice = [passage for passage, n in Counter(row.passage_id for row in rows).items() if n > 1]
    if twice:
        raise InvalidInput(f"the passage {twice[0]!r} is there twice", param="upsert")
    for row in rows:
        for text in (row.passage_id, row.document_id, *row.readers):
            if not text or "\x00" in text or (not text.isascii() and _has_surrogate(text)):
                raise InvalidInput(f"{text!r} cannot be stored as an id or a reader", param="upsert")
        if not row.terms.isascii() and _has_surrogate(row.terms):
            raise InvalidInput(f"the terms of {row.passage_id!r} are not Unicode text", param="upsert")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
