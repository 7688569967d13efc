"""A prompt that asks for another form than the app answers in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import sentences_of
from interlock.prompts.rules._wording import NEGATED

__all__ = ["plugin"]

_OTHER = re.compile(
    r"(?i)\b(?:answer|reply|respond|write|format|return|output)\b[^.!?\n]{0,40}?\b(?:in|as|with|using)\s+(?:a\s+|an\s+)?"
    r"(markdown|xml|yaml|csv|html|plain text|prose|bullet points|full sentences)\b"
)


def find(subject: Subject) -> Iterator[Fault]:
    """Only what is asked of every answer: in no branch, without a condition, not of one field."""
    if subject.app is None or subject.app.output is None:
        return
    for pieces in subject.pieces.values():
        for said, place in sentences_of(pieces, always=True):
            match = _OTHER.search(said)
            if match and not NEGATED.search(said) and not re.search(r"(?i)\b(?:if|when|field|json|inside)\b", said):
                yield Fault(f"it asks for {match[1].lower()}, and {subject.app.name} answers in JSON", place)


plugin = Rule(
    "error",
    "The model cannot do both: answers are repaired or refused.",
    "Leave the form to the app's `output`, or take that away.",
    find,
)
