"""Find how one collection is best cut and searched, by its own questions, and whether that is more than chance.

One half of the questions chooses, stage by stage, each stage beginning with the best of the one before. The other half
judges the one way that was chosen against today's, once. However many ways are tried, the judge has seen none of them:
trying more makes the choice better or worse, never the judgement rosier.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import anyio

from interlock.core.canonical import digest_json
from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.passages import Passage
from interlock.evals.judged import JudgedQuestion
from interlock.flows.tuning_measure import Measure, Measured
from interlock.flows.tuning_trials import (
    CANDIDATES,
    FUSIONS,
    STAGES,
    Stage,
    Way,
    chunkings,
    refined,
    step_ways,
    ways_beside,
)
from interlock.knowledge.retrieval.ports import Assistant
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.scratch import Results, Scratch
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import BOTH_LEGS, ChunkingSettings, FusionSettings
from interlock.knowledge.types import Progress
from interlock.knowledge.vector_log import RememberingEmbedder
from interlock.stats.bootstrap import mean_interval, paired_interval
from interlock.stats.intervals import Interval

__all__ = ["Budget", "LegHealth", "Proposal", "Subject", "Tried", "tune"]

_FEWEST = 10
"""Questions of each half with which an interval says anything."""
_DEAD = 0.25
"""A leg that alone reaches less than this share of the other one is as good as broken."""
_MOST_PASSAGES = 200

Tell = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tuned."""

    knowledge: KnowledgeService
    collection: str
    questions: Sequence[JudgedQuestion]
    asker: Callable[[str | None], Context]
    measured: Measured
    assistant: Assistant | None = None
    recut: bool = True
    """Its passages can be cut otherwise."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be tried. The last judgement is always made."""

    minutes: float = 30.0
    trials: int = 20
    """Rounds over the choosing half; what was finished by an earlier run costs none."""
    stages: Sequence[Stage] = STAGES


@dataclass(frozen=True, slots=True)
class Tried:
    """One way, by the choosing half."""

    stage: Stage
    way: Way
    score: float


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

    own: Way
    best: Way
    """Of the choosing half."""
    measure: Measure
    chosen_on: int
    judged_on: int
    score: float
    """Its mean on the judging half."""
    interval: Interval
    current: float
    """That of today's way, on the same questions."""
    gain: float
    gain_interval: Interval
    legs: tuple[LegHealth, ...]
    tried: tuple[Tried, ...]
    embedded: int
    """Texts that were embedded for it."""
    stopped: str
    """`time` or `trials` when the budget ended it; empty when everything was tried."""

    @property
    def is_better(self) -> bool:
        """True when the gain is more than chance on questions that had no part in the choice."""
        return self.best != self.own and self.gain_interval.low > 0


async def tune(subject: Subject, budget: Budget, place: Scratch, tell: Tell | None = None) -> Proposal:
    """Try ways stage by stage, and judge the best one. CPU heavy; results of finished trials are kept in `place`.

    Cancel it to stop: the next run goes on after the last finished trial.

    Raises: InvalidInput: there are too few questions; what a search raises.
    """
    halves: tuple[list[JudgedQuestion], list[JudgedQuestion]] = ([], [])
    for question in subject.questions:
        # By its id, so that the same questions are judges next time too.
        halves[hashlib.sha256(question.id.encode()).digest()[0] % 2].append(question)
    if min(map(len, halves)) < _FEWEST:
        raise InvalidInput(
            f"{_counted(len(subject.questions))} too few to choose by one half and judge by the other",
            param="questions",
            hint=f"about {4 * _FEWEST} or more; make some with `interlock knowledge questions make`",
        )
    knowledge, collection = subject.knowledge, subject.collection
    ctx = subject.asker(None)
    with ctx.span("knowledge.tune", collection=collection, questions=len(subject.questions)) as (span, inner):
        snapshot = (await knowledge.history.snapshot(inner, collection)).id
        space = await knowledge.spaces.answering(inner, collection)
        basis = digest_json(
            {
                "snapshot": snapshot,
                "embedder": space.id,
                "measure": [subject.measured.name, subject.measured.context],
                "questions": [[q.id, q.text, q.user, dict(q.relevant), dict(q.quotes)] for q in subject.questions],
            }
        )
        run = _Run(subject, budget, place, place.results(basis), halves[0], tell)
        proposal = await run.propose(halves[1])
        span.set(trials=len(proposal.tried), better=proposal.is_better, embedded=proposal.embedded)
        return proposal


class _OverError(Exception):
    """The budget is used up."""


@dataclass(slots=True)
class _Run:
    subject: Subject
    budget: Budget
    place: Scratch
    results: Results
    choosing: list[JudgedQuestion]
    tell: Tell | None
    tried: list[Tried] = field(default_factory=list)
    stopped: str = ""
    _began: float = field(default_factory=time.monotonic)
    _trials: int = 0
    _embedder: RememberingEmbedder | None = None

    async def propose(self, judging: Sequence[JudgedQuestion]) -> Proposal:
        knowledge, collection = self.subject.knowledge, self.subject.collection
        own = Way(
            knowledge.fusion_of(collection),
            knowledge.candidates_of(collection),
            knowledge.chunking_of(collection),
            knowledge.steps_of(collection),
        )
        best = own
        try:
            for stage in STAGES:
                if stage in self.budget.stages:
                    best = await self._stage(stage, best, own)
        except _OverError as over:
            self.stopped = str(over)
            best = self._best(own)
        new = await self._judge(best, judging, "judging the choice")
        old = new if best == own else await self._judge(own, judging, "judging today's way")
        gain, interval = paired_interval(new, old)
        return Proposal(
            own,
            best,
            self.subject.measured.name,
            len(self.choosing),
            len(judging),
            _mean(new),
            mean_interval(new),
            _mean(old),
            gain,
            interval,
            self._legs(own),
            tuple(self.tried),
            0 if self._embedder is None else self._embedder.embedded,
            self.stopped,
        )

    async def _stage(self, stage: Stage, best: Way, own: Way) -> Way:
        if stage == "fusion":
            await self._trial(stage, [own, *(replace(best, fusion=fusion) for fusion in FUSIONS)], own)
        elif stage == "candidates":
            await self._trial(stage, [replace(best, candidates=count) for count in CANDIDATES], own)
        elif stage == "steps":
            for way in step_ways(best):
                await self._trial(stage, [way], own)
        elif self.subject.recut:
            for cut in chunkings(own.chunking):
                await self._trial(stage, ways_beside(replace(best, chunking=cut), own), own)
            for cut in refined(self._best(own).chunking):
                await self._trial(stage, ways_beside(replace(self._best(own), chunking=cut), own), own)
        return self._best(own)

    def _best(self, own: Way) -> Way:
        """Today's where nothing is better; of equals the one that was tried first."""
        found = max(self.tried, key=lambda one: one.score, default=None)
        today = max((one.score for one in self.tried if one.way == own), default=float("-inf"))
        return own if found is None or found.score <= today else found.way

    async def _trial(self, stage: Stage, ways: Sequence[Way], own: Way) -> None:
        """All ways have one chunking and the same steps. Raises: _OverError."""
        ways = list(dict.fromkeys(ways))
        name = digest_json([way.key for way in ways])
        scores = self.results.get(name)
        if scores is None:
            left = self.budget.minutes * 60 - (time.monotonic() - self._began)
            if self._trials >= self.budget.trials:
                raise _OverError("trials")
            with anyio.move_on_after(max(0.0, left)) as bound:
                scores = await self._scores(ways, own, self.choosing, f"{stage}: {ways[0].told()}")
            if bound.cancelled_caught or scores is None:
                raise _OverError("time")
            self._trials += 1
            self.results.put(name, scores)
        self.tried += [Tried(stage, way, _mean(each)) for way, each in zip(ways, scores, strict=True)]

    async def _judge(self, way: Way, judging: Sequence[JudgedQuestion], message: str) -> list[float]:
        knowledge = self.subject.knowledge
        return (await self._scores([way], _with(way, knowledge, self.subject.collection), judging, message))[0]

    async def _scores(
        self, ways: Sequence[Way], own: Way, questions: Sequence[JudgedQuestion], message: str
    ) -> list[list[float]]:
        """By way, then by question."""
        subject = self.subject
        async with AsyncExitStack() as stack:
            knowledge, first = subject.knowledge, ways[0]
            if first.chunking != own.chunking:
                knowledge = await self._cut(first.chunking, stack, message)
            found: list[list[float]] = [[] for _ in ways]
            for number, question in enumerate(questions, 1):
                rankings = await _rankings(subject, knowledge, ways, question)
                for scores, ranking in zip(found, rankings, strict=True):
                    scores.append(subject.measured.score(question, ranking))
                if self.tell is not None:
                    await self.tell(Progress(number, len(questions), message))
            return found

    async def _cut(self, chunking: ChunkingSettings, stack: AsyncExitStack, message: str) -> KnowledgeService:
        subject = self.subject
        ctx = subject.asker(None)
        if self._embedder is None:
            space = await subject.knowledge.spaces.answering(ctx, subject.collection)
            self._embedder = RememberingEmbedder(space.embedder, self.place.folder)
        name = digest_json(chunking.model_dump(mode="json"))[7:23]
        index = await stack.enter_async_context(self.place.index(name))

        async def tell(progress: Progress) -> None:
            if self.tell is not None:
                await self.tell(replace(progress, message=f"{message}: cutting"))

        await subject.knowledge.recut(
            ctx, subject.collection, chunking, index=index, embedder=self._embedder, progress=tell
        )
        return subject.knowledge.over(index, embedder=self._embedder)

    def _legs(self, own: Way) -> tuple[LegHealth, ...]:
        alone: dict[str, float] = {}
        for name, weight in (("words", 0.0), ("meaning", 1.0)):
            fusion = FusionSettings(method="convex", dense_weight=weight)
            found = [t.score for t in self.tried if t.way == replace(own, fusion=fusion)]
            alone |= {name: found[0]} if found else {}
        most = max(alone.values(), default=0.0)
        return tuple(LegHealth(name, score, score < _DEAD * most) for name, score in alone.items())


def _with(way: Way, knowledge: KnowledgeService, collection: str) -> Way:
    """What tells whether the passages of `way` are those of the collection."""
    return replace(way, chunking=knowledge.chunking_of(collection))


async def _rankings(
    subject: Subject, knowledge: KnowledgeService, ways: Sequence[Way], question: JudgedQuestion
) -> list[list[Passage]]:
    ctx = subject.asker(question.user)
    if ways[0].steps == RetrievalSteps():
        return await knowledge.rankings(
            ctx,
            question.text,
            collection=subject.collection,
            fusions=[way.fusion for way in ways],
            candidates=[way.candidates for way in ways],
        )
    return [
        await knowledge.search(
            ctx,
            question.text,
            collection=subject.collection,
            limit=min(way.candidates, _MOST_PASSAGES),
            fusion=way.fusion,
            steps=way.steps,
            assistant=subject.assistant,
            legs=BOTH_LEGS,
        )
        for way in ways
    ]


def _counted(questions: int) -> str:
    return "1 question is" if questions == 1 else f"{questions} questions are"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
