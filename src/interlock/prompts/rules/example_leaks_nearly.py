"""A few-shot example that holds most words of a case of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.rules.example_leaks_exactly import told

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """By runs of three words, as `interlock eval check` compares."""
    for seen in () if subject.app is None else subject.app.seen:
        if not seen.exact:
            what = "question" if seen.part == "input" else "reference"
            yield Fault(f"{seen.contained:.0%} of the {what} of {told(seen)} stand in the example", row=seen.row)


plugin = Rule(
    "warn",
    "A case that the prompt nearly gives away tells little of other questions.",
    "Take another example, or another case.",
    find,
)
