"""A mark around a value that the value itself can end."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import enclosed_values, free_variables
from interlock.prompts.types import Format

__all__ = ["plugin"]

_KEPT: dict[Format, frozenset[str]] = {
    "xml": frozenset({"element", '"', "'", '"""', "'''"}),
    "json": frozenset({"element", '"', '"""'}),
    # A backslash before a backtick keeps it from ending a code span; other quotation marks are left as they are.
    "markdown": frozenset({"element", "fence", "`"}),
}
"""Marks that values cannot write, by how they are escaped."""


def find(subject: Subject) -> Iterator[Fault]:
    """Compared is what stands around a value with what its escaping takes away."""
    spec = subject.spec
    unsafe = free_variables(spec.variables)
    if spec.escapes is None:
        # Nothing is escaped; names of users and groups come from elsewhere all the same.
        unsafe |= {"user", "groups"}
    kept = frozenset[str]() if spec.escapes is None else _KEPT[spec.escapes]
    for pieces in subject.pieces.values():
        for piece, by in enclosed_values(pieces):
            if by and piece.names & unsafe and by not in kept:
                name, what = sorted(piece.names & unsafe)[0], {"fence": "the code fence", "element": "the element"}
                how = f"format {spec.escapes}" if spec.escapes else "a prompt without `format`"
                yield Fault(
                    f"{name!r} can end {what.get(by, by)} that it stands in: {how} leaves such marks", piece.place
                )


plugin = Rule(
    "warn",
    "What can end its own mark is read as an instruction behind it.",
    "Put an element around it, <note>{{ note }}</note>: every format escapes that; and give the prompt a `format`.",
    find,
)
