"""The words and short forms of a collection, as far as the asker may read it.

Built from the extracted texts of readable documents and kept in memory until the collection changes. What only other
documents contain is never in what a caller gets, so nothing made from it can tell of them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from interlock.knowledge.readable import Bounds, ReadableTexts
from interlock.knowledge.retrieval.acronyms import Pair, explained_in
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo
from interlock.stores.blob.base import Blobs

__all__ = ["Lexicon", "Vocabulary"]

_WORD = re.compile(r"[^\W\d_]{3,40}")
_BOUNDS = Bounds(collections=16, selections=8, characters=60_000_000)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words of the documents that one caller may read."""

    words: Mapping[str, int]
    """Case-folded, with the number of readable documents that hold it."""
    pairs: Mapping[str, Sequence[str]]
    """Short forms, case-folded, with what they stand for, the one most documents give first."""


class _Held(NamedTuple):
    words: tuple[str, ...]
    pairs: tuple[Pair, ...]
    characters: int


class Lexicon(ReadableTexts[_Held, Vocabulary]):
    """Vocabularies of all collections.

    Args:
        documents: says who may read what.
        blobs: the extracted texts.
    """

    def __init__(self, documents: DocumentStore, blobs: Blobs) -> None:
        super().__init__(documents, blobs, find=_held, make=_merged, bounds=_BOUNDS)


def _held(text: str) -> _Held:
    folded = unicodedata.normalize("NFKC", text)
    # Interned: most words stand in many documents, and one copy of each is enough.
    words = {sys.intern(word.casefold()) for word in _WORD.findall(folded)}
    return _Held(tuple(words), tuple(explained_in(folded)), len(text))


def _merged(documents: Sequence[tuple[DocumentInfo, _Held]]) -> Vocabulary:
    words: Counter[str] = Counter()
    pairs: dict[str, Counter[str]] = {}
    for _, held in documents:
        words.update(held.words)
        for short, long in set(held.pairs):
            pairs.setdefault(short.casefold(), Counter())[" ".join(long.casefold().split())] += 1
    return Vocabulary(words, {short: [long for long, _ in found.most_common()] for short, found in pairs.items()})
