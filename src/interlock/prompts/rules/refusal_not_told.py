"""Passages that come in by a variable, and no word of what to do when they hold no answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.rules._wording import REFUSES

__all__ = ["passages_in", "plugin"]

_PASSAGES = re.compile(
    r"(?:\w+_)?(?:context|contexts|passages?|documents?|docs|sources?|excerpts?|snippets?|chunks?|evidence|knowledge|articles?|search_results?|results)\Z"
)


def passages_in(subject: Subject) -> list[str]:
    """Variables that hold passages, by their name and type; none where Interlock finds passages itself."""
    if subject.app is not None and subject.app.documents:
        return []
    return [
        name
        for name, spec in subject.spec.variables.items()
        if _PASSAGES.match(name)
        and (spec.type in {"list", "object"} or (spec.type == "string" and not spec.max_length))
    ]


def find(subject: Subject) -> Iterator[Fault]:
    """For apps with `knowledge` Interlock adds the instruction, and checks every sentence."""
    names = passages_in(subject)
    for name, pieces in subject.pieces.items() if names else ():
        if not REFUSES.search(" ".join(piece.text for piece in pieces)):
            yield Fault(f"{name} does not say what to do when {names[0]!r} holds no answer", Place(name, 1))


plugin = Rule(
    "warn",
    "A model that is not told that it may decline makes an answer up.",
    "Say it: `If they do not answer the question, say that you do not know.`",
    find,
)
