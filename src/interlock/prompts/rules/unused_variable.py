"""A declared variable that no text uses."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.rendering import names_in

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Examples may be chosen by one: that is a use."""
    used = {name for text in subject.texts for name in names_in(subject.spec, text.source)}
    if subject.spec.examples is not None and subject.spec.examples.tag_from:
        used.add(subject.spec.examples.tag_from)
    for name in subject.spec.variables:
        if name not in used:
            yield Fault(f"the variable {name!r} is declared, and no text uses it")


plugin = Rule(
    "warn",
    "Callers send a value in the belief that it changes the answer.",
    "Use it in the text, or take it out of the head; take it out of callers first.",
    find,
)
