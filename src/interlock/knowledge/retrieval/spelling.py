"""Words of a question that no readable document holds, and the one near word that some do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from interlock.knowledge.analysers import analyse

__all__ = ["Correction", "corrected", "distance"]

# Parts of identifiers, addresses and codes are meant as they stand.
_WORD = re.compile(r"(?<![\w@./:#'’-])[^\W\d_]+(?![\w@/#'’-])(?!\.\w)")
_SHORTEST = 5
_TWICE_FROM = 8
"""Letters from which two slips are forgiven."""
_MOST = 8
_MOST_LOOKED_AT = 40
"""Words of one question that are corrected, and unknown ones that are compared with a whole vocabulary."""


class Correction(NamedTuple):
    """One word, and what it became."""

    word: str
    meant: str


def corrected(
    question: str, words: Mapping[str, int], languages: Sequence[str] = ("en",)
) -> tuple[str, list[Correction]]:
    """The question with its misspelt words set right.

    A word is misspelt when neither it nor another form of it is in `words`. It becomes the word with the fewest slips
    (a letter too many, missing, wrong, or two in the wrong order), one slip for words of five letters and two from
    eight on; of several with the same number, the one that clearly most documents hold. Otherwise it stays.

    Args:
        words: case-folded, with the number of documents that hold each.
        languages: of the documents, by which other forms of a word are known.
    """
    found: list[Correction] = []
    looked_at = 0

    def mend(match: re.Match[str]) -> str:
        nonlocal looked_at
        word = match.group()
        if len(found) >= _MOST or looked_at >= _MOST_LOOKED_AT or not _is_unknown(word, words):
            return word
        looked_at += 1
        meant = _meant(word.casefold(), words, tuple(languages) or ("en",))
        if meant is None:
            return word
        shown = meant.capitalize() if word[0].isupper() else meant
        found.append(Correction(word, shown))
        return shown

    return _WORD.sub(mend, question), found


def _is_unknown(word: str, words: Mapping[str, int]) -> bool:
    folded = word.casefold()
    if len(folded) < _SHORTEST or folded in words or not word[1:].islower() or not _has_case(word):
        return False
    # A stop word vanishes beside another word; "could" is no slip of "cloud".
    return len(analyse(f"{folded} {_OTHER}", ("en",))) > 1


def _meant(folded: str, words: Mapping[str, int], languages: tuple[str, ...]) -> str | None:
    forms = set(analyse(folded, ("en",))) if languages == ("en",) else set()
    most = 2 if len(folded) >= _TWICE_FROM else 1
    near: list[tuple[int, int, str]] = []
    for other in _alike(folded, words, most):
        if forms & set(analyse(other, ("en",))) or (not forms and _same_stem(folded, other)):
            return None  # another form of the same word is known
        slips = distance(folded, other, most)
        if slips <= most:
            near.append((slips, -words[other], other))
    if not near:
        return None
    near.sort()
    slips, held, best = near[0]
    rivals = [-count for number, count, _ in near[1:] if number == slips]
    return best if not rivals or -held >= 3 * max(rivals) else None


_OTHER = "zq"
_ENDING = 3


def _same_stem(a: str, b: str) -> bool:
    """Words of other languages that differ in their ending alone."""
    shared = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return shared >= _SHORTEST and max(len(a), len(b)) - shared <= _ENDING and (shared == len(a) or shared == len(b))


def _has_case(word: str) -> bool:
    return word.casefold() != word.upper()


def _alike(word: str, words: Mapping[str, int], most: int) -> Iterator[str]:
    """Words of about this length that begin alike: the first letter is hardly ever the wrong one."""
    starts = {word[0], word[1]}
    for other in words:
        if (
            other[0] in starts
            and abs(len(other) - len(word)) <= most + 1
            and (other[0] == word[0] or other[1:2] == word[0])
        ):
            yield other


def distance(a: str, b: str, most: int) -> int:
    """Slips between two words (optimal string alignment); `most` + 1 stands for anything above `most`.

    >>> distance("refnud", "refund", 2), distance("polcy", "policy", 2), distance("lamp", "ladder", 2)
    (1, 1, 3)
    """
    if abs(len(a) - len(b)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
