"""Short forms and what they stand for, as texts explain them: ``service level agreement (SLA)`` and the other way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from interlock.knowledge.analysers import UNSPACED

__all__ = ["Pair", "expanded", "explained_in"]

# Of any script with capitals; that the first is one, `_is_short` sees to. What cannot be one is left out for speed.
_SHORT = rf"[^\W\d_a-zß-öø-ÿа-яё{UNSPACED}](?:[^\W_]|[&/-]){{1,9}}"
_LONG_FIRST = re.compile(rf"\(({_SHORT})s?\)")
_SHORT_FIRST = re.compile(rf"(?<![\w-])({_SHORT})s?\s\(([^()\n]{{5,80}})\)")
_WORDS = re.compile(r"\S+")
_TOKEN = re.compile(r"[^\W_][\w&/-]*")
_BEFORE = 160
_MOST = 4
"""Expansions added to one question."""
_READINGS = 2
"""Of one short form: which one is meant, the search finds out."""


class Pair(NamedTuple):
    """One explanation."""

    short: str
    long: str


def explained_in(text: str) -> Iterator[Pair]:
    """Every explanation in a text, by the rule of Schwartz and Hearst (PSB 2003): the letters of the short form occur
    in the long one in their order, and the first of them begins a word.

    >>> list(explained_in("A Service Level Agreement (SLA) says how fast. The DPO (data protection officer) asks."))
    [Pair(short='SLA', long='Service Level Agreement'), Pair(short='DPO', long='data protection officer')]
    """
    for match in _LONG_FIRST.finditer(text):
        short = match.group(1)
        before = re.split(r"[.;:!?()]\s|\n\s*\n", text[max(0, match.start() - _BEFORE) : match.start()])[-1]
        words = list(_WORDS.finditer(before))[-min(len(short) + 5, 2 * len(short)) :]
        if _is_short(short) and words:
            long = _long_form(short, before[words[0].start() :].rstrip())
            if long is not None:
                yield Pair(short, " ".join(long.split()))
    for match in _SHORT_FIRST.finditer(text):
        short, inside = match.groups()
        if _is_short(short) and len(inside.split()) > 1:
            long = _long_form(short, inside)
            if long is not None and len(long) >= len(inside.strip()) - 1:
                yield Pair(short, " ".join(long.split()))


def _stands_in(form: str, asked: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(form)}s?(?!\w)", asked) is not None


def _is_short(short: str) -> bool:
    return short[0].isupper() and sum(c.isupper() for c in short) >= 2


def _long_form(short: str, before: str) -> str | None:
    """The end of `before` that `short` stands for, read from the right."""
    place = len(before) - 1
    letters = [c for c in short.casefold() if c.isalnum()]
    for number in range(len(letters) - 1, -1, -1):
        while place >= 0 and (
            before[place].casefold() != letters[number] or (number == 0 and place > 0 and before[place - 1].isalnum())
        ):
            place -= 1
        if place < 0:
            return None
        place -= 1
    long = before[place + 1 :].strip()
    # "the A (A)" explains nothing; a short form of two letters stands for at least two words.
    words = re.split(r"[\s-]+", long)
    if len(long) <= len(short) or len(words) > len(short) + 5 or (len(words) == 1 and len(letters) < 3):
        return None
    return None if short in long.split() else long


def expanded(question: str, pairs: Mapping[str, Sequence[str]]) -> list[Pair]:
    """What may be added to a question: long forms of its short ones, and short forms of its long ones.

    Args:
        pairs: short forms, case-folded, with their readings, the most frequent first.

    Returns: in the order of the question; nothing that it says already.
    """
    asked = " ".join(question.casefold().split())
    found: list[Pair] = []
    for match in _TOKEN.finditer(question):
        token = match.group()
        short = token.casefold()
        for form in (short, short.removesuffix("s")):
            readings = pairs.get(form)
            # In small letters only where nobody could mean the word: "it", "us", "who".
            if readings and (not token[:2].islower() or len(form) > 3):
                found += [Pair(form.upper(), long) for long in readings[:_READINGS] if long not in asked]
                break
    said = {pair.short.casefold() for pair in found}
    for short, readings in pairs.items():
        # The cheap look first: a collection may explain thousands of short forms.
        long = next((r for r in readings[:_READINGS] if r in asked and _stands_in(r, asked)), None)
        if long is not None and short not in said and not _stands_in(short, asked):
            found.append(Pair(short.upper(), long))
    return list(dict.fromkeys(found))[:_MOST]
