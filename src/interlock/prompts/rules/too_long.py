"""A prompt that does not fit into the shortest context of the app's models."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.choosing import choose
from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.tokens import estimate_tokens

__all__ = ["plugin"]


def find(subject: Subject) -> Iterator[Fault]:
    """Text and examples, with what is kept free for passages and the answer; values come on top. All estimated."""
    app = subject.app
    if app is None or not app.context_tokens:
        return
    shown = choose(subject.spec.examples, {}) if subject.spec.examples is not None else []
    examples = sum(estimate_tokens(each.input) + estimate_tokens(each.output) for each in shown)
    for name, pieces in subject.pieces.items():
        own = sum(estimate_tokens(piece.text) for piece in pieces)
        needed = own + examples + app.passage_tokens + app.answer_tokens
        if needed > app.context_tokens:
            yield Fault(
                f"{name} needs about {needed:,} tokens before any question ({own:,} of text, {examples:,} of examples, "
                f"{app.passage_tokens:,} for passages, {app.answer_tokens:,} for the answer), and {app.context_of} "
                f"holds {app.context_tokens:,}",
                Place(name, 1),
            )


plugin = Rule(
    "error",
    "Requests are refused, or the fallback that should save them cannot take them.",
    "Shorten it, give examples a `max_tokens`, or take the small model out of the route.",
    find,
)
