"""A variable in single braces, which is left as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place
from interlock.prompts.types import BUILT_IN

__all__ = ["plugin"]

_SINGLE = re.compile(r"(?<![{$%])\$?\{\s*([a-z_][a-z0-9_]*)\s*\}(?!\})")


def find(subject: Subject) -> Iterator[Fault]:
    """Only names that could be filled in: other braces may be meant."""
    known = {*BUILT_IN, *subject.spec.variables}
    for pieces in subject.pieces.values():
        for piece in pieces:
            for number, line in enumerate(piece.text.split("\n")):
                for name in _SINGLE.findall(line):
                    if name in known:
                        place = Place(piece.place.text, piece.place.line + number)
                        yield Fault(f"{{{name}}} is sent as it stands: values come out in {{{{ {name} }}}}", place)


plugin = Rule("error", "The model is shown the name instead of the value.", "Write two braces.", find)
