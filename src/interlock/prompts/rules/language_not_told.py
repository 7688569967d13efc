"""A schema that holds the answer's language to one, and a prompt that does not ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.rules._wording import LANGUAGES

__all__ = ["plugin"]

_FIELDS = ("language", "lang", "locale")


def find(subject: Subject) -> Iterator[Fault]:
    """A field `language`, `lang` or `locale` with one value."""
    for field, code in _asked(subject):
        named = [code, code.partition("-")[0], *(name for name, short in LANGUAGES.items() if short == code[:2])]
        told = re.compile(r"\b(?:" + "|".join(map(re.escape, named)) + r")\b", re.IGNORECASE)
        for name, pieces in subject.pieces.items():
            if not any(told.search(piece.text) for piece in pieces):
                yield Fault(f"the schema holds {field!r} to {code!r}, and {name} asks for no language", Place(name, 1))


def _asked(subject: Subject) -> Iterator[tuple[str, str]]:
    output: Any = {} if subject.app is None else subject.app.output or {}  # Any: a JSON schema
    fields = output.get("properties")
    for name in _FIELDS:
        spec = fields.get(name) if isinstance(fields, dict) else None
        if isinstance(spec, dict):
            choices = spec.get("enum") or ([spec["const"]] if "const" in spec else [])
            if len(choices) == 1 and isinstance(choices[0], str) and choices[0]:
                yield name, choices[0]


plugin = Rule(
    "warn",
    "The field says one language whatever the words beside it are written in.",
    "Name the language in the prompt, e.g. `Answer in German.`",
    find,
)
