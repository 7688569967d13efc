"""What kind of value a question asks for, and whether a text holds one: a duration, money, a number, a date, a name.

English only: in another language no kind is recognised, and nothing is inferred from that.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["Kind", "asked_kind", "holds"]

Kind = Literal["duration", "money", "percent", "number", "date", "frequency", "person", "place", "reason", "contact", "other"]

_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|eighteen|twenty|"
    "thirty|forty|fifty|sixty|ninety|hundred|half|a few|several|unlimited"
)
_NUMBER = rf"(?:\d[\d.,]*|\b(?:{_WORDS})\b)"
_TIME_UNIT = r"(?:milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|nights?|weeks?|fortnights?|months?|quarters?|years?|decades?|centur(?:y|ies)|intervals?|ms|h)\b"
_MONTH = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"

_ASKED: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (
            "percent",
            r"\b(?:what|which) (?:percentage|percent|per cent|share|proportion|fraction)|percent(?:age)?\b.*\?|\bwhat rate\b",
        ),
        (
            "money",
            r"\bhow much (?:does|do|did|would|will|is|are|was|were|to|money)\b.*\b(?:cost|price|pay|paid|charge|fee|buy|spend|budget\w*|worth|offer\w*|set aside)"
            r"|\b(?:price|cost|costs|fee|salary|pay range|dividend|revenue|budget)\b.*(?:\?|$)"
            r"|\b(?:set (?:us|me|you) back|in (?:pounds|dollars|euros))\b|\bwhat do (?:we|you|they) pay\b|\bhow much do (?:we|you|i|they) (?:pay|get)\b",
        ),
        ("frequency", r"\bhow often\b|\bhow frequently\b"),
        (
            "duration",
            r"\bhow (?:long|soon|quickly|fast|much (?:more )?time|old)\b|\b(?:for|within|over|after|in) (?:how many|what|which) (?:\w+ )?(?:seconds|minutes|hours|days|weeks|months|years|period)"
            r"|\bhow many (?:\w+ )?(?:seconds|minutes|hours|days|weeks|months|years|nights)|\bwhat (?:is the )?(?:\w+ ){0,2}(?:period|delay|notice|duration)\b",
        ),
        (
            "date",
            r"\bwhen\b|\b(?:what|which) (?:date|day|weekday|month|year|time|hours?)\b|\bby when\b|\b(?:on|at|in) (?:what|which) (?:\w+ )?(?:date|day|weekday|month|year|time|hours)\b",
        ),
        (
            "number",
            r"\bhow many\b|\b(?:what|which) (?:number|port|version)\b|\bhow (?:far|high|tall|large|big|heavy|wide|deep|hot|cold|warm|strong)\b|\bhow much\b"
            r"|\b(?:weight|weigh|capacity|maximum|minimum|highest|lowest|limit|range|length|size|distance|temperature|top of)\b",
        ),
        ("person", r"\bwho(?:m)?\b"),
        ("place", r"\bwhere\b"),
        ("reason", r"\bwhy\b|\bhow come\b|\bcause\b"),
    )
)

_HELD: dict[Kind, re.Pattern[str]] = {
    kind: re.compile(pattern, re.IGNORECASE)
    for kind, pattern in {
        "contact": r"\+?\d[\d\s()/.-]{5,}\d|\S@\S|\bwww\.|https?://",
        "percent": rf"{_NUMBER}\s*(?:%|per\s?cent|percent|percentage points)",
        "money": r"[$€£¥]\s?\d|\b\d[\d.,]*\s?(?:k|m|bn|million|billion|thousand)?\s?(?:pounds?|euros?|dollars?|usd|eur|gbp|pence|cents?)\b"
        r"|\b(?:price|cost|salary|fee|budget|amount|total|q[1-4])\w*:? [$€£]?\d|\bfree of charge\b|\bon request\b|\b(?:not|never) paid\b",
        "frequency": rf"\b(?:every|each|per|once|twice|daily|weekly|monthly|quarterly|annually|yearly|hourly|nightly)\b|{_NUMBER} times",
        "duration": rf"{_NUMBER}[\s-]*(?:(?:working|business|calendar|unused|paid|full|consecutive|reporting|office|support|missed)\s)?{_TIME_UNIT}"
        r"|\b(?:a|an|one|each|same|next) (?:working )?(?:second|minute|hour|day|week|month|year)\b|\b(?:permanent|immediately|at once|lifetime)\b",
        "date": rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b|\b{_MONTH}\s+\d{{1,4}}\b|\b(?:1[5-9]|20)\d\d\b|\b\d{{1,2}}:\d\d\b|\b\d{{1,2}}\s?[ap]\.?m\b|\b{_DAY}\b"
        rf"|{_NUMBER}[\s-]*(?:(?:working|business|calendar|reporting|missed)\s)?{_TIME_UNIT}|\b(?:when|after|before|until|once|immediately|at once|midnight|noon)\b",
        "number": _NUMBER,
        "person": r"\b[A-Z][a-z]+ [A-Z][a-z]+\b|\b(?:manager|director|head|team|officer|secretary|engineer|customer|owner|lead|board|user|employee|partner|support|company|committee|person|people|department|administrator|primary|president|minister|chief)s?\b"
        r"|\b[A-Z][a-z]{2,}\b",
        "place": r"\b(?:in|at|on|to|from|near|under|inside|outside)\s+(?:the\s+)?\w+",
    }.items()
}
# A name counts by its capitals.
_HELD["person"] = re.compile(_HELD["person"].pattern.replace("(?i)", ""))


def asked_kind(question: str) -> Kind:
    """The kind of value `question` asks for; ``other`` when none is recognised.

    >>> asked_kind("How long is a return number valid?")
    'duration'
    """
    for kind, pattern in _ASKED:
        if pattern.search(question):
            return kind
    return "other"


def holds(kind: Kind, text: str) -> bool:
    """True when `text` holds a value of `kind`, or when nothing can be said about that kind.

    >>> holds("duration", "A return number is valid for 21 days."), holds("money", "It is grey.")
    (True, False)
    """
    pattern = _HELD.get(kind)
    return pattern is None or pattern.search(text) is not None
