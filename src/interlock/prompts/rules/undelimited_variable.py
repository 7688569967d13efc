"""Free text of callers that nothing marks off from the instructions."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import enclosed_values, free_variables

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """As JSON a value marks itself off, and so does ``context("name")``."""
    free = free_variables(subject.spec.variables)
    how = subject.spec.escapes
    for pieces in subject.pieces.values():
        for piece, by in enclosed_values(pieces):
            itself = how == "json" or (piece.named and how == "xml")
            if piece.names & free and not by and not itself:
                name = sorted(piece.names & free)[0]
                yield Fault(f"nothing marks where {name!r} begins and ends", piece.place)


plugin = Rule(
    "warn",
    "A model cannot tell where your instructions end and a caller's words begin.",
    'Put an element around it, <note>{{ note }}</note>, or write {{ note | context("note") }}.',
    find,
)
