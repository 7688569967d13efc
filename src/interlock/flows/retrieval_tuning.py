"""Find how one collection's legs are best fused, by its own questions, and whether that is more than chance.

Half of the questions choose, the other half judges the choice: what is proposed was never seen by its judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.evals.judged import JudgedQuestion
from interlock.evals.ranking import ndcg
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import FusionSettings
from interlock.stats.bootstrap import mean_interval, paired_interval
from interlock.stats.intervals import Interval

__all__ = ["CANDIDATES", "LegHealth", "Proposal", "Tried", "propose", "tried"]

_CUT = 10
_FEWEST = 10
"""Questions of each half with which an interval says anything."""
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_DOCUMENT_WEIGHTS = (0.0, 0.1, 0.2, 0.3)
CANDIDATES: tuple[FusionSettings, ...] = (
    FusionSettings(method="rrf"),
    *(
        FusionSettings(method="convex", dense_weight=weight, document_weight=documents)
        for documents in _DOCUMENT_WEIGHTS
        for weight in _WEIGHTS
    ),
)
"""Everything that is tried. Weight 0 is the words alone, weight 1 the meaning alone."""
_DEAD = 0.25
"""A leg that alone reaches less than this share of the other one is as good as broken."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One question under every way of fusing."""

    id: str
    current: float
    """nDCG@10 as the collection is searched now."""
    scores: tuple[float, ...]
    """In the order of `CANDIDATES`."""


@dataclass(frozen=True, slots=True)
class LegHealth:
    """How one leg does alone."""

    name: str
    score: float
    is_dead: bool
    """It does so badly beside the other that it is better left out."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found."""

    fusion: FusionSettings
    """The best of the choosing half."""
    chosen_on: int
    judged_on: int
    score: float
    """Its mean nDCG@10 on the judging half."""
    interval: Interval
    current: float
    """That of the present settings, on the same questions."""
    gain: float
    gain_interval: Interval
    legs: tuple[LegHealth, ...]

    @property
    def is_better(self) -> bool:
        """True when the gain is more than chance on questions that had no part in the choice."""
        return self.gain_interval.low > 0


async def tried(
    knowledge: KnowledgeService,
    questions: Sequence[JudgedQuestion],
    *,
    collection: str,
    asker: Callable[[str | None], Context],
    named: Callable[[str], str] = str,
) -> AsyncIterator[Tried]:
    """Search every question once, and rank it in every way. Arguments as of `retrieval_eval.scored`."""
    ways = (knowledge.fusion_of(collection), *CANDIDATES)
    for question in questions:
        rankings = await knowledge.rankings(asker(question.user), question.text, collection=collection, fusions=ways)
        current, *scores = (
            ndcg(tuple(dict.fromkeys(named(passage.source) for passage in ranking)), question.relevant, _CUT)
            for ranking in rankings
        )
        yield Tried(question.id, current, tuple(scores))


def propose(found: Sequence[Tried]) -> Proposal:
    """The best way of fusing by one half of the questions, measured on the other.

    A question's half follows from its id, so that the same questions are judges next time too.

    Raises: InvalidInput: there are too few questions.
    """
    halves: tuple[list[Tried], list[Tried]] = ([], [])
    for one in found:
        halves[hashlib.sha256(one.id.encode()).digest()[0] % 2].append(one)
    choosing, judging = halves
    if min(len(choosing), len(judging)) < _FEWEST:
        raise InvalidInput(
            f"{len(found)} questions are too few to choose by one half and judge by the other",
            param="questions",
            hint=f"about {4 * _FEWEST} or more; see docs/how-to/evaluate-retrieval.md for the format",
        )
    best = max(range(len(CANDIDATES)), key=lambda n: (_mean([one.scores[n] for one in choosing]), -n))
    new, old = [one.scores[best] for one in judging], [one.current for one in judging]
    gain, interval = paired_interval(new, old)
    return Proposal(
        CANDIDATES[best],
        len(choosing),
        len(judging),
        _mean(new),
        mean_interval(new),
        _mean(old),
        gain,
        interval,
        _legs(found),
    )


def _legs(found: Sequence[Tried]) -> tuple[LegHealth, ...]:
    alone = {
        name: _mean(
            [one.scores[CANDIDATES.index(FusionSettings(method="convex", dense_weight=weight))] for one in found]
        )
        for name, weight in (("words", 0.0), ("meaning", 1.0))
    }
    most = max(alone.values())
    return tuple(LegHealth(name, score, score < _DEAD * most) for name, score in alone.items())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
