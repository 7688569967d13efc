"""Free text of callers in the system role."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import free_variables
from interlock.prompts.types import VariableSpec

__all__ = ["plugin"]

_SHORT = 200
"""Characters that hold a name or a reference, and hardly a set of orders."""


def find(subject: Subject) -> Iterator[Fault]:
    """Numbers, enums, booleans and short texts are let be."""
    long = {name for name in free_variables(subject.spec.variables) if not _is_short(subject.spec.variables[name])}
    told: set[tuple[str, str]] = set()
    for name, pieces in subject.pieces.items():
        for piece in pieces:
            for variable in sorted(piece.names & long):
                if (name, variable) not in told:
                    told.add((name, variable))
                    message = f"{variable!r}, in which callers write what they like, stands in the system role"
                    yield Fault(message, piece.place)


def _is_short(spec: VariableSpec) -> bool:
    return spec.type == "string" and spec.max_length is not None and spec.max_length <= _SHORT


plugin = Rule(
    "warn",
    "A model obeys its system message more than a user's: whoever fills the value speaks with the app's authority.",
    "Send it as a turn of the user; else bound it (`max_length`, `enum`), delimit it, and say that it is data.",
    find,
)
