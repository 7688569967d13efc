"""Tool calls that were made against those that a case asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from interlock.evals.types import Call, Case, ExpectedCall

__all__ = ["NO_CALLS", "allowed", "matched", "required"]

NO_CALLS = "the case says nothing of tool calls"


def required(case: Case) -> list[ExpectedCall]:
    """Calls that must be made, in order."""
    return [call for call in case.calls or () if not call.optional]


def allowed(case: Case, made: Sequence[Call]) -> int:
    """How many of the calls made are asked for or optional, each expected one counting once."""
    return (Counter(call.name for call in made) & Counter(call.name for call in case.calls or ())).total()


def matched(wanted: Sequence[ExpectedCall], made: Sequence[Call], fits: Callable[[ExpectedCall, Call], bool]) -> int:
    """Most expected calls that can be given a call of their own that fits (Kuhn's augmenting paths)."""
    taken_by: dict[int, int] = {}

    def place(expected: int, seen: set[int]) -> bool:
        for at, call in enumerate(made):
            if at in seen or not fits(wanted[expected], call):
                continue
            seen.add(at)
            if at not in taken_by or place(taken_by[at], seen):
                taken_by[at] = expected
                return True
        return False

    return sum(place(expected, set()) for expected in range(len(wanted)))
