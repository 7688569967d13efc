"""A compound sentence into its claims: each with its exact characters, and as a sentence of its own for a checker.

Rules instead of a model. A sentence is cut at a semicolon or a conjunction only when both sides have a verb of their
own, and never behind a condition ("if … and …") or inside "either … or", whose parts do not hold alone. What is not
cut is checked whole, which is the stricter way. English; sentences of other languages are cut at semicolons only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interlock.core.passages import Span

__all__ = ["Piece", "split"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One claim of a sentence."""

    span: Span
    """Its characters in the sentence, without the conjunction before it and the stop behind it."""
    text: str
    """The sentence's text at `span`."""
    reads: str
    """As a sentence of its own: with the subject that it shares with the claim before it."""


_CUT = re.compile(r"\s*;\s*(?:(?:and|but|however|while|whereas)\b,?\s*)?|,?\s+(?:and|but|while|whereas|yet)\s+", re.I)
_STOPS = " \t\n\r.!?…;,"
_HELD = re.compile(
    r"\b(?:if|unless|when|whenever|provided|providing|until|except|once|as long as|in case|either|neither|both|between|"
    r"whether|not only|although|though|because|since|that|who|which|whose)\b",
    re.I,
)
"""Behind one of these, a conjunction may join what does not hold alone."""
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|may|can|must|will|shall|should|would|could|might|cannot|does|do|did|isn't|aren't|"
    r"doesn't|don't|won't|can't|takes?|took|costs?|lasts?|lasted|applies|apply|expires?|expired|needs?|requires?|includes?|"
    r"contains?|covers?|ends?|ended|starts?|started|begins?|began|remains?|gives?|gave|gets?|got|becomes?|became|pays?|paid|"
    r"allows?|offers?|offered|provides?|uses?|used|makes?|made|works?|supports?|receives?|received|opens?|closes?|"
    r"happens?|belongs?|depends?|means?|says?|said|won|wrote|played|born|died|founded|moved|became|led|held)\b",
    re.I,
)
_WORD = re.compile(r"\w+")
_SUBJECT_WORDS = 8
"""A longer lead-in before the verb is no plain subject."""


def split(sentence: str) -> tuple[Piece, ...]:
    """The claims of a sentence without markers, in order; the whole sentence when it cannot be cut safely.

    >>> [piece.text for piece in split("Refunds take 3 days and shipping is free.")]
    ['Refunds take 3 days', 'shipping is free']
    >>> [piece.reads for piece in split("A pass costs 12 euros and must be shown at the gate.")]
    ['A pass costs 12 euros.', 'A pass must be shown at the gate.']
    >>> len(split("If it is damaged, you may return it and will get a refund."))
    1
    """
    end = len(sentence.rstrip(_STOPS))
    start = len(sentence) - len(sentence.lstrip())
    if start >= end:
        return ()
    places: list[tuple[Span, str]] = []
    subject = ""
    at = start
    for cut in _CUT.finditer(sentence, start, end):
        left, right = sentence[at : cut.start()], sentence[cut.end() : end]
        if cut.end() >= end or not _stands(left) or _HELD.search(left):
            continue
        if ";" not in cut.group() and not _goes_on(right):
            continue
        places.append((Span(at, cut.start()), subject))
        own = _subject(left)
        subject = (own or subject) if _begins_with_verb(right) else ""
        at = cut.end()
    places.append((Span(at, end), subject))
    return tuple(_piece(sentence, span, lent) for span, lent in places)


def _stands(left: str) -> bool:
    """Something follows its verb: in `shipping costs and fees` the `costs` are none."""
    found = list(_VERB.finditer(left))
    return any(_WORD.search(left[verb.end() :]) for verb in found)


def _goes_on(right: str) -> bool:
    """What follows says something of its own: a verb at once, or behind a short subject."""
    verb = _VERB.search(right)
    return verb is not None and len(_WORD.findall(right[: verb.start()])) <= _SUBJECT_WORDS and _stands(right)


def _begins_with_verb(right: str) -> bool:
    return _VERB.match(right) is not None


def _subject(left: str) -> str:
    verb = _VERB.search(left)
    lead = left[: verb.start()].strip() if verb else ""
    return lead if 0 < len(_WORD.findall(lead)) <= _SUBJECT_WORDS else ""


def _piece(sentence: str, span: Span, subject: str) -> Piece:
    text = sentence[span.start : span.end]
    said = f"{subject} {text}" if subject else text[:1].upper() + text[1:]
    return Piece(span, text, f"{said}.")
