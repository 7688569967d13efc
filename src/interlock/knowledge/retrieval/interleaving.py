"""One list of two rankings, in which each can win: which of two searches finds what answers are made of. Pure.

Team draft (Radlinski, Kurup and Joachims, CIKM 2008): in each round a coin says who picks first, and each ranking adds
its best passage that is not there yet. What both rankings found in as many places is neutral: it would be there with
either, so it speaks for none of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

from interlock.core.ids import PassageId
from interlock.core.passages import Citation, Passage

__all__ = ["Credit", "Drafted", "Team", "credit", "team_draft"]

Team = Literal["control", "variant", "both"]


class Drafted(NamedTuple):
    """The list that is shown, and whose each passage is."""

    passages: tuple[Passage, ...]
    teams: tuple[Team, ...]


class Credit(NamedTuple):
    """How many cited passages each ranking alone has found."""

    control: int
    variant: int


def team_draft(control: Sequence[Passage], variant: Sequence[Passage], *, limit: int, draw: random.Random) -> Drafted:
    """Interleave two rankings, best first.

    Args:
        limit: passages of the result at most.
        draw: coins; the same seed gives the same list.
    """
    both = {each.id for each in control[:limit]} & {each.id for each in variant[:limit]}
    waiting: dict[Team, list[Passage]] = {"control": list(control), "variant": list(variant)}
    shown: set[PassageId] = set()
    passages: list[Passage] = []
    teams: list[Team] = []
    order: list[Team] = []
    while len(passages) < limit:
        if not order:
            order = ["control", "variant"] if draw.random() < 0.5 else ["variant", "control"]
        team = order.pop(0)
        while waiting[team] and waiting[team][0].id in shown:
            waiting[team].pop(0)
        if not waiting[team]:
            if not any(each.id not in shown for rest in waiting.values() for each in rest):
                break
            continue
        passage = waiting[team].pop(0)
        shown.add(passage.id)
        passages.append(passage)
        teams.append("both" if passage.id in both else team)
    return Drafted(tuple(passages), tuple(teams))


def credit(drafted: Drafted, citations: Sequence[Citation]) -> Credit:
    """Whose passages an answer cites. A passage that is cited twice counts once."""
    won: dict[Team, set[PassageId]] = {"control": set(), "variant": set(), "both": set()}
    for citation in citations:
        for passage, team in zip(drafted.passages, drafted.teams, strict=True):
            span, cited = passage.span, citation.span
            if passage.document_id == citation.document_id and span.start < cited.end and cited.start < span.end:
                won[team].add(passage.id)
    return Credit(len(won["control"]), len(won["variant"]))
