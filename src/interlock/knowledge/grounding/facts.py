"""The parts of a sentence that must survive rewriting: words, numbers, negation, modality, bounds, conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.cues import (
    BOUND,
    CONDITION,
    FUNCTION,
    MODALITY,
    NEGATED_MODAL,
    NEGATION,
    NUMBER_WORDS,
)

__all__ = ["Token", "TokenKind", "tokens"]

TokenKind = Literal["word", "name", "number", "negation", "modality", "bound", "condition", "function"]


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a sentence. Two tokens mean the same when kind and `key` are equal."""

    kind: TokenKind
    key: str
    """Stem of a word, canonical value of a number, class of a cue (`permission`, `upper` …)."""
    start: int
    end: int


_TOKEN = re.compile(r"[$€£¥]?[+-]?\d(?:[\d.,:]*\d)?(?:\s?%)?|[^\W\d_]+(?:['’.&+_/-]?[^\W_]+)*", re.UNICODE)
_NUMBER = re.compile(r"^([$€£¥]?)([+-]?\d[\d.,:]*)\s?(%?)$")
_WITH_LETTERS = re.compile(r"(?=.*\d)(?=.*[^\W\d_])")

_PHRASES = (
    (re.compile(r"\bup to\b", re.I), "up-to"),
    (re.compile(r"\bat least\b|\bno (?:less|fewer) than\b|\bnot (?:less|fewer) than\b", re.I), "at-least"),
    (re.compile(r"\bat most\b|\bno more than\b|\bnot more than\b|\bno later than\b", re.I), "at-most"),
    (re.compile(r"\b(?:have|has|had) to\b", re.I), "have-to"),
    (re.compile(r"\b(?:is|are|be) (?:allowed|permitted|able) to\b", re.I), "may"),
    (re.compile(r"\bother than\b|\bapart from\b|\bexcept for\b", re.I), "except"),
    (re.compile(r"\bas long as\b|\bprovided that\b|\bon condition that\b|\bin case\b", re.I), "provided"),
)


def tokens(text: str) -> list[Token]:
    """Tokens of `text` in order, cues and numbers classified."""
    found: list[Token] = []
    phrases = _phrase_spans(text)
    skip_to = 0
    for match in _TOKEN.finditer(text):
        if match.start() < skip_to:
            continue
        phrase = phrases.get(match.start())
        if phrase is not None:
            end, word = phrase
            found.extend(_classified(word, match.start(), end, sentence_start=False))
            skip_to = end
            continue
        found.extend(
            _classified(match.group(), match.start(), match.end(), sentence_start=_starts(text, match.start()))
        )
    return _merged_numbers(found)


def _phrase_spans(text: str) -> dict[int, tuple[int, str]]:
    spans: dict[int, tuple[int, str]] = {}
    for pattern, word in _PHRASES:
        for match in pattern.finditer(text):
            spans.setdefault(match.start(), (match.end(), word))
    return spans


def _starts(text: str, position: int) -> bool:
    before = text[:position].rstrip(" \"'“‘(*_-•")
    return not before or before[-1] in ".!?:\n|;"


def _classified(raw: str, start: int, end: int, *, sentence_start: bool) -> list[Token]:
    word = raw.lower().replace("’", "'")
    number = _NUMBER.match(raw)
    if number:
        return [Token("number", _number(*number.groups()), start, end)]
    if word in NUMBER_WORDS:
        return [Token("number", NUMBER_WORDS[word], start, end)]
    if word.isupper() is False and "-" in word and all(p in NUMBER_WORDS for p in word.split("-")):
        return [
            Token(
                "number",
                str(sum(int(NUMBER_WORDS[p]) for p in word.split("-") if NUMBER_WORDS[p].isdigit())),
                start,
                end,
            )
        ]
    if word in NEGATION:
        tokens_ = [Token("negation", "not", start, end)]
        if word in NEGATED_MODAL:
            tokens_.append(Token("modality", NEGATED_MODAL[word], start, end))
        return tokens_
    # "May 2026" is a month.
    if word in MODALITY and (raw != "May" or sentence_start):
        return [Token("modality", MODALITY[word], start, end)]
    if word in CONDITION:
        return [Token("condition", "if" if word in {"when", "whenever", "once"} else word, start, end)]
    if BOUND.get(word):
        return [Token("bound", BOUND[word], start, end)]
    if word in FUNCTION or word.removesuffix("'s") in FUNCTION or word in BOUND:
        return [Token("function", word, start, end)]
    if _WITH_LETTERS.match(raw):
        return [Token("name", "".join(c for c in word if c.isalnum()), start, end)]
    capital = raw[0].isupper() and not sentence_start
    return [Token("name" if capital else "word", _stem(word), start, end)]


def _number(currency: str, digits: str, percent: str) -> str:
    plain = digits.strip(".,:")
    if ":" not in plain:
        plain = (
            plain.replace(",", "")
            if re.fullmatch(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", plain)
            else plain.replace(",", ".")
        )
        if "." in plain and plain.count(".") == 1:
            plain = plain.rstrip("0").rstrip(".")
    return f"{currency}{plain.lstrip('+')}{percent}"


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    terms = analyse(word)
    return terms[0] if terms else word


def _merged_numbers(found: Sequence[Token]) -> list[Token]:
    """``5.2 million`` and ``twenty five`` as one number each."""
    merged: list[Token] = []
    for token in found:
        previous = merged[-1] if merged else None
        if (
            previous is not None
            and token.kind == previous.kind == "number"
            and re.fullmatch(r"0{2,}", token.key)
            and token.start - previous.end <= 2
        ):
            merged[-1] = Token("number", previous.key + "e" + str(len(token.key)), previous.start, token.end)
        else:
            merged.append(token)
    return merged
