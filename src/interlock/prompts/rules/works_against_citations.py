"""A prompt of an app with documents that asks for what the app's checks refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import sentences_of

__all__ = ["plugin"]

_AGAINST = re.compile(
    r"(?i)\b(?:do not|don['’]?t|never|without)\b[^.!?\n]{0,30}"
    r"\b(?:cite|citing|citations?|source numbers?|references?|mention(?:ing)? (?:the )?(?:source|passage|document)s?)\b"
    r"|\b(?:use|from|rely on|draw on)\b[^.!?\n]{0,20}\byour own knowledge\b"
    r"|\bignore the (?:passages|documents|sources|context)\b"
)
_FORBIDS = re.compile(r"(?i)\b(?:do not|don['’]?t|never|not)\b[^.!?\n]{0,20}\b(?:use|rely|draw)\b")


def find(subject: Subject) -> Iterator[Fault]:
    """What is asked under a condition is let be."""
    if subject.app is None or not subject.app.documents:
        return
    for pieces in subject.pieces.values():
        for said, place in sentences_of(pieces, always=True):
            match = _AGAINST.search(said)
            if match and not (match[0].lower().endswith("own knowledge") and _FORBIDS.search(said)):
                yield Fault(f"{match[0].lower()!r} works against the citations that {subject.app.name} asks for", place)


plugin = Rule(
    "error",
    "Interlock asks for citations and takes out what no passage supports: the app would decline what it could answer.",
    "Take the sentence out; how citations look is the client's to decide.",
    find,
)
