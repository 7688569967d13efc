"""How well a document could be read, page by page, and which pages a person should look at.

A score is 1 for text as people write it and 0 for none; reasons lower it:

- ``no_text``: a picture or drawing in which nothing was recognised, or recognition is not installed;
- ``unclear_scan``: text recognition was unsure;
- ``broken_lines``: lines of the file are no records and were left out;
- ``hidden_text``: text that people do not see, by its colour, size or place, or in hidden columns and rows;
- ``garbled``: characters no font or encoding means (replacement signs, private ones, twice-encoded UTF-8);
- ``symbols``: hardly any letters or digits;
- ``loose_letters``: words fall apart into single letters;
- ``run_together``: blanks between words are missing;
- ``cut_words``: many words end in a hyphen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

from interlock.knowledge.types import LoadedDocument, PageNote, PageReview

__all__ = ["MAX_REVIEWS", "NEEDS_A_PERSON", "Quality", "assess"]

NEEDS_A_PERSON = 0.6
"""Pages below this score are listed."""
MAX_REVIEWS = 200
"""Pages listed of one document."""
_UNSURE = 0.85
"""Mean confidence of recognition below which a page counts as unclear."""
_LITTLE = 80
"""Characters below which text says too little about itself."""
_STRANGE = re.compile(r"[\ufffd\ue000-\uf8ff\x80-\x9f]|\(cid:\d+\)")
_TWICE = re.compile(r"[ÃÂ][\x80-\xbf]|â€[\x80-\x9f\u2018-\u201d\u2122\u0153\u00a6\u0093-\u0094]")
_VISIBLE = re.compile(r"\S")
_LETTER = re.compile(r"[^\W_]")
_WORD = re.compile(r"\S+")
_CASED = re.compile(r"[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff]")
"""Scripts that part words by blanks and whose words have several letters."""


class Quality(NamedTuple):
    """Of one document."""

    score: float
    """Mean over its pages, 0 to 1."""
    review: tuple[PageReview, ...]
    """Pages below 0.6, in order, at most 200."""


def assess(document: LoadedDocument) -> Quality:
    """Judge what was read. Looks at the text and at the loader's notes; needs no model."""
    notes: dict[int, list[PageNote]] = {}
    for note in document.notes:
        notes.setdefault(note.page, []).append(note)
    judged: list[PageReview] = []
    for page, prose, text in _pages(document):
        judged.append(_judge(page, prose, text, notes.pop(page or 0, [])))
    judged += [_judge(page, "", "", left) for page, left in notes.items()]
    judged.sort(key=lambda review: review.page or 0)
    poor = [review for review in judged if review.score < NEEDS_A_PERSON]
    return Quality(round(fmean(review.score for review in judged), 3), tuple(poor[:MAX_REVIEWS]))


def _pages(document: LoadedDocument) -> Iterator[tuple[int | None, str, str]]:
    """(page, its text without code, its whole text); a document without pages is one."""
    prose: dict[int | None, list[str]] = {}
    whole: dict[int | None, list[str]] = {}
    for block in document.blocks:
        words = document.text[block.span.start : block.span.end]
        whole.setdefault(block.page, []).append(words)
        if block.kind != "code":
            prose.setdefault(block.page, []).append(words)
    for page, pieces in whole.items():
        yield page, "\n".join(prose.get(page, ())), "\n".join(pieces)


def _judge(page: int | None, prose: str, text: str, notes: list[PageNote]) -> PageReview:
    found: dict[str, float] = {}
    for note in notes:
        if note.reason == "no_text":
            found["no_text"] = 0.0
        elif note.reason in {"broken_lines", "hidden_text"}:
            found[note.reason] = 0.5
        elif note.score < _UNSURE:
            found["unclear_scan"] = note.score * 0.7  # recognition is surer of itself than it is right
    if len(text) >= _LITTLE:
        strange = (len(_STRANGE.findall(text)) + len(_TWICE.findall(text))) / len(text)
        if strange > 0.003:
            found["garbled"] = max(0.0, 0.6 - 20 * strange)
    if len(prose) >= _LITTLE:
        found |= _shape(prose)
    return PageReview(page, round(min(found.values(), default=1.0), 3), tuple(sorted(found)))


def _shape(text: str) -> dict[str, float]:
    """What the look of words says, without knowing their language."""
    found: dict[str, float] = {}
    visible = len(_VISIBLE.findall(text))
    if len(_LETTER.findall(text)) < 0.5 * visible:
        found["symbols"] = 0.4
    words = [word for word in _WORD.findall(text) if _CASED.search(word)]
    if len(words) >= 20:
        if sum(len(word) == 1 for word in words) > 0.4 * len(words):
            found["loose_letters"] = 0.3
        if sum(word.endswith(("-", "\xad")) and len(word) > 2 for word in words) > 0.08 * len(words):
            found["cut_words"] = 0.5
    letters = sum(len(_CASED.findall(word)) for word in words)
    if words and letters / len(words) > 22:
        found["run_together"] = 0.3
    return found
