"""A few-shot example that is a case of an evaluation, word for word."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Seen, Subject

__all__ = ["plugin", "told"]


def told(seen: Seen) -> str:
    """Which case; of sealed ones the suite alone."""
    return f"the case {seen.case!r} of the suite {seen.suite!r}" if seen.case else f"a sealed case of {seen.suite!r}"


def find(subject: Subject) -> Iterator[Fault]:
    """Case, spacing and punctuation hide nothing."""
    for seen in () if subject.app is None else subject.app.seen:
        if seen.exact:
            what = "asks what" if seen.part == "input" else "gives away what"
            yield Fault(
                f"the example {what} {told(seen)} {'asks' if seen.part == 'input' else 'expects'}", row=seen.row
            )


plugin = Rule(
    "error",
    "The model is shown the answer that it is tested on: what the suite then says of it is worth nothing.",
    "Take another example, or take the case out of the suite.",
    find,
)
