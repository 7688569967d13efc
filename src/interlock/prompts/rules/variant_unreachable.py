"""A text for models that the app never asks."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Of several texts that fit a model the first is sent."""
    if subject.app is None or not subject.app.targets:
        return
    left = list(subject.app.targets)
    for variant in subject.spec.variants:
        taken = [model for model in left if any(fnmatchcase(model, pattern) for pattern in variant.models)]
        if not taken:
            known = ", ".join(subject.app.targets)
            yield Fault(
                f"no target of {subject.app.name} is sent the text {variant.name!r}: it asks {known}",
                Place(f"variant {variant.name}", 1),
            )
        left = [model for model in left if model not in taken]


plugin = Rule(
    "warn",
    "A text that nobody is sent is looked after for nothing, and the models it was meant for are sent another.",
    "Write the pattern as `provider/model`, put the narrower text first, or remove it.",
    find,
)
