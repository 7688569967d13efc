"""Which drafts are too weak to measure anything by. Whether a search finds the passage is looked up by the flow."""

from __future__ import annotations

import re
from collections.abc import Iterable

from interlock.knowledge.analysers import analyse
from interlock.knowledge.questions.types import Draft, Weakness

__all__ = ["Known", "copied_share", "weakness_of"]

_WORD = re.compile(r"\w+")
_FEWEST_WORDS, _MOST_WORDS, _MOST_CHARACTERS = 3, 40, 400
_RUN = 4
"""So many words in the passage's own order are a copy, not a coincidence."""
_MOST_COPIED = 0.5
_SAME = 0.8
"""Share of common words from which two questions are one."""
_SPEAKS_OF_PASSAGE = re.compile(
    r"\b(?:(?:this|the|given|above|following)\s+(?:passage|text|excerpt|paragraph|section|snippet)|the authors?|"
    r"according to the (?:document|passage|text))\b",
    re.IGNORECASE,
)


def weakness_of(draft: Draft, passage: str) -> Weakness | None:
    """Why a draft is thrown away; None when it may stay.

    Args:
        draft: question and quote.
        passage: the text that it was made of.
    """
    words = _WORD.findall(draft.text)
    if len(words) < (2 if draft.origin == "heading" else _FEWEST_WORDS):
        return "too_short"
    if len(words) > _MOST_WORDS or len(draft.text) > _MOST_CHARACTERS:
        return "too_long"
    if not draft.quote.strip() or draft.quote not in passage:
        return "not_quoted"
    if _SPEAKS_OF_PASSAGE.search(draft.text):
        return "refers_to_passage"
    if copied_share(draft.text, passage) > _MOST_COPIED and draft.origin != "heading":
        # A heading stands in the passage as it stands in the search of somebody who looks for it.
        return "copied"
    asked = set(analyse(draft.text, ("en",)))
    if not set(analyse(draft.quote, ("en",))) - asked:
        return "answers_itself"
    return None


def copied_share(question: str, passage: str) -> float:
    """Share of a question's words that stand in runs of four or more which the passage has too, in [0, 1]."""
    asked = [word.casefold() for word in _WORD.findall(question)]
    told = [word.casefold() for word in _WORD.findall(passage)]
    runs = {tuple(told[n : n + _RUN]) for n in range(len(told) - _RUN + 1)}
    copied: set[int] = set()
    for n in range(len(asked) - _RUN + 1):
        if tuple(asked[n : n + _RUN]) in runs:
            copied.update(range(n, n + _RUN))
    return len(copied) / len(asked) if asked else 0.0


class Known:
    """Questions that are there, so that none is asked twice."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._words = [_words(text) for text in texts]

    def has(self, text: str) -> bool:
        """Whether one with nearly the same words is there."""
        own = _words(text)
        return any(len(own & other) >= _SAME * len(own | other) for other in self._words if own or other)

    def add(self, text: str) -> None:
        """One more."""
        self._words.append(_words(text))


def _words(text: str) -> frozenset[str]:
    return frozenset(analyse(text, ("en",)))
