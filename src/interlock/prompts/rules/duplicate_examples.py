"""Two few-shot examples with the same input."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Spacing and case do not make another input."""
    first: dict[str, int] = {}
    rows = subject.spec.examples.rows if subject.spec.examples is not None else []
    for number, row in enumerate(rows):
        before = first.setdefault(" ".join(row.input.casefold().split()), number)
        if before == number:
            continue
        line = subject.example_lines[before] if before < len(subject.example_lines) else before + 1
        same = rows[before].output.strip() == row.output.strip()
        yield Fault(f"the same input as in line {line}, with {'the same' if same else 'another'} output", row=number)


plugin = Rule(
    "warn",
    "The same output again costs tokens and teaches nothing; another one teaches that either is right.",
    "Keep one of them.",
    find,
)
