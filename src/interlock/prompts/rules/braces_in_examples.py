"""Template braces where nothing is filled in."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Few-shot examples and defaults are data: they are shown as they are."""
    for number, row in enumerate(subject.spec.examples.rows if subject.spec.examples is not None else ()):
        for part, text in (("input", row.input), ("output", row.output)):
            if "{{" in text or "{%" in text:
                yield Fault(f"the {part} of an example holds template braces, which nothing fills in", row=number)
    for name, spec in subject.spec.variables.items():
        if isinstance(spec.default, str) and ("{{" in spec.default or "{%" in spec.default):
            yield Fault(f"the default of {name!r} holds template braces, which nothing fills in")


plugin = Rule(
    "warn",
    "The model learns to answer with braces.",
    "Write the example as the model should see it; for variables in the text use the template.",
    find,
)
