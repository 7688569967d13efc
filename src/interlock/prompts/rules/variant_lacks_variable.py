"""A text for certain models that leaves out what the others are told."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.rendering import names_in, references

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Compared are the variables that a text and its partials use."""
    spec = subject.spec
    if not spec.variants:
        return
    used = {text.name: _names(subject, text.source) for text in subject.mains}
    for text in subject.mains:
        for name in sorted(set().union(*used.values()) - used[text.name]):
            others = ", ".join(each for each, names in used.items() if name in names)
            yield Fault(f"{text.name} does not use {name!r}, which {others} does", Place(text.name, 1))


def _names(subject: Subject, source: str, depth: int = 0) -> set[str]:
    found = names_in(subject.spec, source) & set(subject.spec.variables)
    for name in references(subject.spec, source, "it") if depth < 9 else ():
        found |= _names(subject, subject.spec.partials.get(name, ""), depth + 1)
    return found


plugin = Rule(
    "warn",
    "The same request is answered by other facts as soon as another model serves it, also after a fallback.",
    "Use the variable there too, or say in a comment of the template why it has no place.",
    find,
)
