"""Something that was to be filled in later."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place

__all__ = ["plugin"]

_LEFT = re.compile(r"\b(TODO|FIXME|XXX|TBD)\b|(?i:\blorem ipsum\b)|(?i:[\[<](?:insert|your|add)\b[^\]>\n]{1,60}[\]>])")


def find(subject: Subject) -> Iterator[Fault]:
    """Comments of the template are no text: notes belong there."""
    for pieces in subject.pieces.values():
        for piece in pieces:
            for number, line in enumerate(piece.text.split("\n")):
                if match := _LEFT.search(line):
                    place = Place(piece.place.text, piece.place.line + number)
                    yield Fault(f"{match[0]!r} is sent to the model as it stands", place)


plugin = Rule(
    "warn", "The model reads it as an instruction.", "Fill it in; put notes into a comment, {# like this #}.", find
)
