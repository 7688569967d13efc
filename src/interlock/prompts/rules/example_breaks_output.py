"""A few-shot example whose output is not in the form that the app answers in."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """For apps with `output:`."""
    if subject.app is None or subject.app.output is None or subject.spec.examples is None:
        return
    for number, row in enumerate(subject.spec.examples.rows):
        if why := subject.app.fits_output(row.output):
            yield Fault(f"the output does not hold to the schema of {subject.app.name}: {why}", row=number)


plugin = Rule(
    "error",
    "Examples say more of a form than words do: the model follows them, and its answer is refused.",
    "Write the output as JSON that holds to the schema.",
    find,
)
