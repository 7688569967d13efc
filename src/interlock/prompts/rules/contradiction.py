"""Two instructions that cannot both be followed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place, sentences_of
from interlock.prompts.rules._wording import LANGUAGE_ASKED, LANGUAGES, NEGATED

__all__ = ["plugin"]

_ORDER = re.compile(
    r"(?i)\A(?:you\s+)?(?P<sign>always|must always|must not|must never|must|never|do not ever|do not|don['’]?t)"
    r"\s+(?P<rest>.+?)[.!]?\Z"
)
_CONDITION = re.compile(r"(?i)\b(?:if|when|whenever|unless|except|until|in case|where|for|only)\b|…")
_BOUND = re.compile(
    r"(?i)\b(?P<how>at most|no more than|up to|fewer than|less than|maximum of|under"
    r"|at least|no fewer than|not less than|more than|minimum of|exactly)"
    r"\s+(?P<number>\d+|one|two|three|four|five|six|seven|eight|nine|ten)"
    r"\s+(?P<unit>words?|sentences?|paragraphs?|characters?|bullet points?|lines?)\b"
)
_NUMBERS = {
    name: number
    for number, name in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
_ABOUT_ALL = re.compile(
    r"(?i)\b(?:each|every|per|title|subject|summary|heading|introduction|intro|field|bullet|item)\b"
)


class _Bound(NamedTuple):
    low: int
    high: int
    unit: str
    place: Place


def find(subject: Subject) -> Iterator[Fault]:
    """Only what is found for certain: the same order with and without *not*, two languages for every answer, bounds of
    length without a number between them. What stands in a branch or under a condition is left out.
    """
    for pieces in subject.pieces.values():
        said = [(text, place) for text, place in sentences_of(pieces, always=True)]
        yield from _orders(said)
        yield from _languages(said)
        yield from _bounds(said)


def _orders(said: Sequence[tuple[str, Place]]) -> Iterator[Fault]:
    known: dict[tuple[str, ...], tuple[bool, Place]] = {}
    for text, place in said:
        match = _ORDER.match(text)
        if not match or _CONDITION.search(text):
            continue
        words = tuple(re.findall(r"\w+", match["rest"].casefold()))
        wanted = match["sign"].casefold() in {"always", "must", "must always"}
        before = known.setdefault(words, (wanted, place))
        if len(words) >= 2 and before[0] != wanted:
            yield Fault("asks for the opposite", place, other=before[1])


def _languages(said: Sequence[tuple[str, Place]]) -> Iterator[Fault]:
    first: tuple[str, Place] | None = None
    for text, place in said:
        match = LANGUAGE_ASKED.search(text)
        if not match or _CONDITION.search(text) or NEGATED.search(text) or re.search(r"(?i)\b(?:or|and|then)\b", text):
            continue
        code = LANGUAGES[match[1].lower()]
        if first is not None and first[0] != code:
            yield Fault("asks for another language than that", place, other=first[1])
        first = first or (code, place)


def _bounds(said: Sequence[tuple[str, Place]]) -> Iterator[Fault]:
    # Of all bounds of a unit so far the two that leave least room: what fits between them fits all.
    most: dict[str, _Bound] = {}
    least: dict[str, _Bound] = {}
    for text, place in said:
        if _CONDITION.search(text) or _ABOUT_ALL.search(text):
            continue
        for match in _BOUND.finditer(text):
            one = _bound(match, place)
            for other in (most.get(one.unit), least.get(one.unit)):
                if other is not None and (one.low > other.high or other.low > one.high):
                    yield Fault(f"no number of {one.unit}s holds to it and to that", one.place, other=other.place)
                    break
            most[one.unit] = min(most.get(one.unit, one), one, key=lambda each: each.high)
            least[one.unit] = max(least.get(one.unit, one), one, key=lambda each: each.low)


def _bound(match: re.Match[str], place: Place) -> _Bound:
    number = _NUMBERS.get(match["number"].lower()) or int(match["number"])
    how, unit = match["how"].lower(), match["unit"].lower().rstrip("s")
    least = how in {"at least", "no fewer than", "not less than", "minimum of", "exactly"}
    most = how in {"at most", "no more than", "up to", "maximum of", "exactly"}
    low = number if least else number + 1 if how == "more than" else 0
    high = number if most else number - 1 if how in {"fewer than", "less than", "under"} else 1 << 60
    return _Bound(low, high, unit, place)


plugin = Rule(
    "warn",
    "Which of the two a model follows changes from answer to answer.",
    "Keep one, or say when each of them holds.",
    find,
)
