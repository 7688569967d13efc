"""A text that says nothing."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Neither words nor values."""
    for name, pieces in subject.pieces.items():
        if not any(piece.text.strip() or piece.names for piece in pieces):
            yield Fault(f"{name} is empty", Place(name, 1))


plugin = Rule("warn", "The model is told nothing of its task.", "Write what it is for.", find)
