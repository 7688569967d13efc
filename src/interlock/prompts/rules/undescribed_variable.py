"""A variable that nobody is told the meaning of."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Off unless it is asked for."""
    for name, spec in subject.spec.variables.items():
        if not spec.description:
            yield Fault(f"the variable {name!r} has no description")


plugin = Rule(
    "off",
    "Callers, the console and errors show the description; without one each team guesses.",
    "Say in a few words what it holds, and who sends it.",
    find,
)
