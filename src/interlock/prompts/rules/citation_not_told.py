"""Passages that come in by a variable, and no word of naming where an answer comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.rules.refusal_not_told import passages_in

__all__ = ["plugin"]

_CITES = re.compile(
    r"(?i)\b(?:cite|cites|citation\w*|quote|sources?|reference\w*|number of the|attribut\w+"
    r"|zitier\w*|quellen?|belege?n?|citez?|fuentes?|fonti?)\b|\[\d\]"
)


def find(subject: Subject) -> Iterator[Fault]:
    """For apps with `knowledge` Interlock adds the instruction, and checks every sentence."""
    names = passages_in(subject)
    for name, pieces in subject.pieces.items() if names else ():
        if not _CITES.search(" ".join(piece.text for piece in pieces)):
            yield Fault(f"{name} does not say that an answer names its place in {names[0]!r}", Place(name, 1))


plugin = Rule(
    "warn",
    "An answer without its source can be checked by nobody.",
    "Say it: `End each sentence with the number of the passage it comes from, like [2].` Or let the app search itself.",
    find,
)
