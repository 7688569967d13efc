"""What kind of value a question asks for, and whether a text holds one: a duration, money, a number, a date, a name.

English only: in another language no kind is recognised, and nothing is inferred from that.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["Kind", "asked_kind", "holds"]

Kind = Literal[
    "contact", "percent", "money", "frequency", "duration", "date", "number", "person", "place", "reason", "other"
]

_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|eighteen|twenty|"
    "thirty|forty|fifty|sixty|ninety|hundred|half|a few|several|unlimited"
)
_NUMBER = rf"(?:\d[\d.,]*|\b(?:{_NUMBER_WORDS})\b)"
_TIMES = "seconds|minutes|hours|days|weeks|months|years|nights"
_TIME_UNIT = (
    r"(?:milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|nights?|weeks?|fortnights?|months?|quarters?|"
    r"years?|decades?|centur(?:y|ies)|intervals?|ms|h)\b"
)
_TIME_KIND = r"(?:(?:working|business|calendar|unused|paid|full|consecutive|reporting|office|support|missed)\s)?"
_SPELL = rf"{_NUMBER}[\s-]*{_TIME_KIND}{_TIME_UNIT}"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# The first kind that matches counts.
_ASKED: dict[Kind, re.Pattern[str]] = {
    "contact": _any(
        r"\b(?:phone|telephone|fax) number\b",
        r"\bnumber of (?:the )?(?:\w+ ){0,3}(?:phone|telephone|hotline|line|desk)\b",
        r"\b(?:e-?mail|postal|web) address\b",
        r"\bwhat number do i (?:call|ring|dial)",
    ),
    "percent": _any(
        r"\b(?:what|which) (?:percentage|percent|per cent|share|proportion|fraction)",
        r"percent(?:age)?\b.*\?",
        r"\bwhat rate\b",
    ),
    "money": _any(
        r"\bhow much (?:does|do|did|would|will|is|are|was|were|to|money)\b.*"
        r"\b(?:cost|price|pay|paid|charge|fee|buy|spend|budget\w*|worth|offer\w*|set aside)",
        r"\b(?:price|cost|costs|fee|salary|pay range|dividend|revenue|budget)\b.*(?:\?|$)",
        r"\b(?:set (?:us|me|you) back|in (?:pounds|dollars|euros))\b",
        r"\bwhat do (?:we|you|they) pay\b",
        r"\bhow much do (?:we|you|i|they) (?:pay|get)\b",
    ),
    "frequency": _any(r"\bhow (?:often|frequently)\b"),
    "duration": _any(
        r"\bhow (?:long|soon|quickly|fast|much (?:more )?time|old)\b",
        rf"\b(?:for|within|over|after|in) (?:how many|what|which) (?:\w+ )?(?:{_TIMES}|period)",
        rf"\bhow many (?:\w+ )?(?:{_TIMES})",
        r"\bwhat (?:is the )?(?:\w+ ){0,2}(?:period|delay|notice|duration)\b",
    ),
    "date": _any(
        r"\bwhen\b",
        r"\b(?:what|which) (?:\w+ )?(?:date|day|weekday|month|year|time|hours?)\b",
    ),
    "number": _any(
        r"\bhow (?:many|much|far|high|tall|large|big|heavy|wide|deep|hot|cold|warm|strong)\b",
        r"\b(?:what|which) (?:number|port|version)\b",
        r"\b(?:weight|weigh|capacity|maximum|minimum|highest|lowest|limit|range|length|size|distance|temperature)\b",
        r"\btop of\b",
    ),
    "person": _any(r"\bwho(?:m)?\b"),
    "place": _any(r"\bwhere\b"),
    "reason": _any(r"\bwhy\b", r"\bhow come\b", r"\bcause\b"),
}

_HELD: dict[Kind, re.Pattern[str]] = {
    "contact": _any(r"\+?\d[\d\s()/.-]{5,}\d", r"\S@\S", r"\bwww\.", r"https?://"),
    "percent": _any(rf"{_NUMBER}\s*(?:%|per\s?cent|percent|percentage points)"),
    "money": _any(
        r"[$€£¥]\s?\d",
        r"\b\d[\d.,]*\s?(?:k|m|bn|million|billion|thousand)?\s?(?:pounds?|euros?|dollars?|usd|eur|gbp|pence|cents?)\b",
        r"\b(?:price|cost|salary|fee|budget|amount|total|q[1-4])\w*:? [$€£]?\d",
        r"\b(?:free of charge|on request|not paid|never paid)\b",
    ),
    "frequency": _any(
        r"\b(?:every|each|per|once|twice|daily|weekly|monthly|quarterly|annually|yearly|hourly|nightly)\b",
        rf"{_NUMBER} times",
    ),
    "duration": _any(
        _SPELL,
        r"\b(?:a|an|one|each|same|next) (?:working )?(?:second|minute|hour|day|week|month|year)\b",
        r"\b(?:permanent|immediately|at once|lifetime)\b",
    ),
    "date": _any(
        rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b",
        rf"\b{_MONTH}\s+\d{{1,4}}\b",
        r"\b(?:1[5-9]|20)\d\d\b",
        r"\b\d{1,2}:\d\d\b",
        r"\b\d{1,2}\s?[ap]\.?m\b",
        rf"\b{_WEEKDAY}\b",
        rf"\b{_MONTH}\b(?<!may)",
        _SPELL,
        r"\b(?:when|after|before|until|once|immediately|at once|midnight|noon)\b",
    ),
    "number": _any(_NUMBER),
    # A name counts by its capitals, an office by its word.
    "person": re.compile(
        r"\b[A-Z][a-z]{2,}\b"
        r"|(?i:\b(?:manager|director|head|team|officer|secretary|engineer|customer|owner|lead|board|user|employee|"
        r"partner|support|company|committee|people|department|administrator|president|minister|chief)s?\b)"
    ),
    "place": _any(r"\b(?:in|at|on|to|from|near|under|inside|outside)\s+(?:the\s+)?\w+"),
}


def asked_kind(question: str) -> Kind:
    """The kind of value `question` asks for; ``other`` when none is recognised.

    >>> asked_kind("How long is a return number valid?")
    'duration'
    """
    return next((kind for kind, pattern in _ASKED.items() if pattern.search(question)), "other")


def holds(kind: Kind, text: str) -> bool:
    """True when `text` holds a value of `kind`, or when nothing can be said about that kind.

    >>> holds("duration", "A return number is valid for 21 days."), holds("money", "It is grey.")
    (True, False)
    """
    pattern = _HELD.get(kind)
    return pattern is None or pattern.search(text) is not None
