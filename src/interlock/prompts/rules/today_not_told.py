"""A prompt that speaks of today and does not say which day it is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import sentences_of

__all__ = ["plugin"]

_NOW = re.compile(
    r"(?i)\b(?:today['’]s date|current date|the date of today|current (?:day|month|year)|days from today|as of today)\b"
)


def find(subject: Subject) -> Iterator[Fault]:
    """A date that a caller passes is as good."""
    for pieces in subject.pieces.values():
        used = {name for piece in pieces for name in piece.names}
        if "today" in used or any(re.search(r"date|day|now", name) for name in used):
            continue
        for said, place in sentences_of(pieces):
            if match := _NOW.search(said):
                yield Fault(f"it speaks of {match[0].lower()!r}, and nothing says which day it is", place)
                break


plugin = Rule("warn", "A model takes the end of its training for today.", "Write {{ today }}.", find)
