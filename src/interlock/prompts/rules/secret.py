"""A credential in a prompt."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """By the shapes that guardrails know. The finding never holds it."""
    for text in subject.texts:
        for kind, start in subject.secrets(text.source):
            yield Fault(
                f"{text.name} holds a credential ({kind})", Place(text.name, text.source[:start].count("\n") + 1)
            )
    for number, row in enumerate(subject.spec.examples.rows if subject.spec.examples is not None else ()):
        for part, said in (("input", row.input), ("output", row.output)):
            for kind, _ in subject.secrets(said):
                yield Fault(f"the {part} of an example holds a credential ({kind})", row=number)
    for name, spec in subject.spec.variables.items():
        for kind, _ in subject.secrets(str(spec.default)) if spec.default is not None else ():
            yield Fault(f"the default of {name!r} holds a credential ({kind})")


plugin = Rule(
    "error",
    "Prompts are read by many, sent to providers, and told by models that are asked for them.",
    "Take it out and change it at its issuer: versions of the file keep it.",
    find,
)
