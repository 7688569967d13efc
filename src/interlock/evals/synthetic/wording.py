"""Variants that need no model: slips of the keyboard, questions turned round, figures changed."""

from __future__ import annotations

import hashlib
import random
import re

__all__ = ["changed_figure", "misspelt", "numbers_of", "reworded"]

_WORD = re.compile(r"[^\W\d_]{4,}")
_NUMBER = re.compile(r"(?<![\w.,])\d[\d.,]*\d|(?<![\w.,])\d")
_NEXT_KEYS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
_TURNED = (
    (re.compile(r"^what is meant by (?P<x>.+?)\?$", re.IGNORECASE), "could you explain what {x} means?"),
    (re.compile(r"^how many (?P<x>.+?)\?$", re.IGNORECASE), "tell me the number of {x}"),
    (re.compile(r"^(?P<t>[^:?]{2,80}): (?P<x>[^?]{2,80})$"), "where does {t} say something about {x}?"),
)


def _chance(text: str, salt: str) -> random.Random:
    # By the text alone: the same question always gets the same slip.
    seed = hashlib.sha256(f"{salt}\0{text}".encode()).digest()
    return random.Random(seed)  # noqa: S311 - a variant, no secret


def misspelt(question: str) -> str | None:
    """The question with a slip in one word, in two of a longer one; None where no word is long enough.

    Numbers and capitals in the middle of a word, which name things, stay.
    """
    chance = _chance(question, "typo")
    words = [match for match in _WORD.finditer(question) if match[0][1:].islower()]
    if not words:
        return None
    found = question
    # From the end, so that what stands before keeps its place.
    for match in sorted(chance.sample(words, 2 if len(words) >= 6 else 1), key=lambda match: -match.start()):
        slipped = _slip(match[0], chance)
        found = found[: match.start()] + slipped + found[match.end() :]
    return found if found != question else None


def _slip(word: str, chance: random.Random) -> str:
    # The first letter is the last that people get wrong.
    at = chance.randrange(1, len(word) - 1)
    kind = chance.choice(("swap", "drop", "double", "next"))
    if kind == "swap" and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == "drop":
        return word[:at] + word[at + 1 :]
    if kind == "next" and (keys := _NEXT_KEYS.get(word[at])):
        return word[:at] + chance.choice(keys) + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


def reworded(question: str) -> str | None:
    """A question that was made by rule, turned round; None for another one.

    >>> reworded("how many days may hardware be kept?")
    'tell me the number of days may hardware be kept'
    """
    for form, turned in _TURNED:
        if found := form.match(question):
            return turned.format(**found.groupdict())
    return None


def numbers_of(text: str) -> frozenset[str]:
    """Numbers as they stand in a text, without separators of thousands."""
    return frozenset(match[0].replace(",", "").rstrip(".") for match in _NUMBER.finditer(text))


def changed_figure(text: str) -> tuple[str, str, str] | None:
    """A text with its only figure changed, and the figure before and after; None where there is not exactly one.

    >>> changed_figure("Returns are taken for 30 days.")
    ('Returns are taken for 45 days.', '30', '45')
    """
    found = list(_NUMBER.finditer(text))
    if len(found) != 1:
        return None
    told = found[0][0]
    plain = told.replace(",", "")
    if not plain.isdigit() or len(plain) > 9:
        return None
    value = int(plain)
    other = value + max(1, value // 2)
    # A year stays a year that people would believe.
    if len(plain) == 4 and 1900 <= value <= 2100 and "," not in told:
        other = value + 3
    shown = f"{other:,}" if "," in told else str(other)
    at = found[0]
    return text[: at.start()] + shown + text[at.end() :], told, shown
