"""An app that answers in a form, and a prompt that does not say so."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """The word JSON, or the name of one of the schema's fields, is taken for saying so; an example is too."""
    if subject.app is None or subject.app.output is None or subject.spec.examples is not None:
        return
    fields = subject.app.output.get("properties")
    names = list(fields) if isinstance(fields, dict) else []
    told = re.compile("|".join([r"\bjson\b", *(rf"\b{re.escape(name)}\b" for name in names)]), re.IGNORECASE)
    for name, pieces in subject.pieces.items():
        if not any(told.search(piece.text) for piece in pieces):
            yield Fault(f"{name} does not speak of the form that {subject.app.name} answers in", Place(name, 1))


plugin = Rule(
    "warn",
    "Models that are held to a schema they were not told of fill fields badly; those that cannot be held write prose.",
    "Say that the answer is JSON, and what each field means.",
    find,
)
