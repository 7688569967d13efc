"""A name that nobody declares."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.rendering import names_in
from interlock.prompts.types import BUILT_IN

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Of a prompt that declares variables the files are not even read; of others the first request would fail."""
    known = {*BUILT_IN, *subject.spec.variables, *(["examples"] if subject.spec.examples is not None else [])}
    for text in subject.texts:
        for name in sorted(names_in(subject.spec, text.source) - known):
            line = next((at for at, said in enumerate(text.source.split("\n"), 1) if name in said), 1)
            yield Fault(f"{text.name} uses {name!r}, which is not declared", Place(text.name, line))


plugin = Rule(
    "error",
    "A template that names what is not there cannot be rendered: every request fails.",
    "Declare it under `variables`, or use app, today, user or groups.",
    find,
)
