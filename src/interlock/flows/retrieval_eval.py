"""How well a collection is searched, by questions whose answers are known. Runs the production search."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.evals.judged import JudgedQuestion
from interlock.evals.ranking import MEASURES
from interlock.knowledge.retrieval.ports import Assistant
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import BOTH_LEGS, FusionSettings
from interlock.knowledge.types import SearchMode
from interlock.stats.bootstrap import mean_interval, paired_interval
from interlock.stats.intervals import Interval

__all__ = [
    "Comparison",
    "Figure",
    "Gate",
    "GateVerdict",
    "Gated",
    "RetrievalScores",
    "ScoredQuestion",
    "compared",
    "gated",
    "parse_bars",
    "scored",
    "summed_up",
]

CUTS: Mapping[str, int] = {"ndcg": 10, "recall": 10, "precision": 5, "mrr": 10, "map": 100, "hit": 5}
"""Figures that are always given, and at which place the ranking is cut."""
_MOST_PASSAGES = 200
_DRAWS = 4000
"""Resamples: of several figures far quantiles are asked for."""


@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """What one question gave."""

    id: str
    ranking: tuple[str, ...]
    """Documents, each at its best passage."""
    scores: Mapping[str, float]
    """By figure: ``ndcg@10``."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over all questions."""

    name: str
    value: float
    interval: Interval
    """95 %, by bootstrap over the questions."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same questions, searched in two ways."""

    name: str
    gain: float
    """Mean of this run minus the other."""
    interval: Interval

    @property
    def is_worse(self) -> bool:
        """True when the loss is more than chance."""
        return self.interval.high < 0


GateVerdict = Literal["pass", "fail", "not_enough_evidence"]


@dataclass(frozen=True, slots=True)
class Gated:
    """What a gate says of one figure."""

    name: str
    gain: float
    interval: Interval
    """Of the paired gain, at 95 % for all figures of the gate together (Bonferroni)."""
    verdict: GateVerdict


@dataclass(frozen=True, slots=True)
class Gate:
    """What a gate says."""

    figures: tuple[Gated, ...]
    questions: int
    """That both runs have."""
    left_out: int
    """Of the baseline, that this run has not."""

    @property
    def verdict(self) -> GateVerdict:
        """The worst of its figures."""
        told = {each.verdict for each in self.figures}
        return "fail" if "fail" in told else "not_enough_evidence" if "not_enough_evidence" in told else "pass"


RetrievalScores = Sequence[ScoredQuestion]


async def scored(
    knowledge: KnowledgeService,
    questions: Sequence[JudgedQuestion],
    *,
    collection: str,
    asker: Callable[[str | None], Context],
    mode: SearchMode = "hybrid",
    fusion: FusionSettings | None = None,
    cut: int | None = None,
    steps: RetrievalSteps | None = None,
    assistant: Assistant | None = None,
    named: Callable[[str], str] = str,
    space: str = "",
) -> AsyncIterator[ScoredQuestion]:
    """Search every question, one after the other, and measure each ranking.

    Args:
        asker: the context of a question's user; of None, of whoever evaluates.
        mode: as of a search, and so are `fusion`, `steps` and `assistant`.
        cut: where nDCG, recall and MRR are cut instead of at 10.
        named: a document's name in the judgements, of its source.
        space: another embedding space than the one that answers.
    """
    cuts = CUTS if cut is None else dict.fromkeys(CUTS, cut)
    for question in questions:
        passages = await knowledge.search(
            asker(question.user),
            question.text,
            collection=collection,
            limit=_MOST_PASSAGES,
            mode=mode,
            fusion=fusion,
            steps=steps,
            assistant=assistant,
            space=space,
            # A fusion that is tried is tried with both legs, as it was chosen.
            legs=None if fusion is None else BOTH_LEGS,
        )
        ranking = tuple(dict.fromkeys(named(passage.source) for passage in passages))
        yield ScoredQuestion(
            question.id,
            ranking,
            {f"{name}@{k}": MEASURES[name](ranking, question.relevant, k) for name, k in cuts.items()},
        )


def summed_up(scores: RetrievalScores) -> list[Figure]:
    """Every figure with its interval. Raises: InvalidInput: there are none."""
    if not scores:
        raise InvalidInput("no question was searched", param="set")
    figures = []
    for name in scores[0].scores:
        values = [each.scores[name] for each in scores]
        figures.append(Figure(name, sum(values) / len(values), mean_interval(values)))
    return figures


def gated(new: RetrievalScores, baseline: Mapping[str, Mapping[str, float]], *, tolerance: float = 0.0) -> Gate:
    """Whether this run is worse than a baseline.

    A figure fails when its paired loss beyond `tolerance` is more than chance, and passes when such a loss is ruled
    out; between the two there are too few questions to tell. Several figures are several chances of a false alarm:
    their intervals are widened so that one of twenty unchanged runs fails in all, not one of twenty for each.

    Raises: InvalidInput: this run has less than half of the baseline's questions, or no figure of it.
    """
    shared = sum(each.id in baseline for each in new)
    if 2 * shared < len(baseline):
        raise InvalidInput(
            f"this run has {shared} of the {len(baseline)} questions of the baseline",
            param="--baseline",
            hint="measure the same set, or make a new baseline with --out",
        )
    names = [name for name in (new[0].scores if new else ()) if all(name in old for old in baseline.values())]
    found = []
    for one in compared(new, baseline, confidence=1 - 0.05 / max(1, len(names))):
        verdict: GateVerdict = "not_enough_evidence"
        if one.interval.high < -tolerance:
            verdict = "fail"
        elif one.interval.low >= -tolerance:
            verdict = "pass"
        found.append(Gated(one.name, one.gain, one.interval, verdict))
    return Gate(tuple(found), shared, len(baseline) - shared)


def compared(
    new: RetrievalScores, old: Mapping[str, Mapping[str, float]], *, confidence: float = 0.95
) -> list[Comparison]:
    """Gains over an earlier run, on the questions that both have.

    Args:
        new: this run.
        old: question id to its figures.
        confidence: of each interval.

    Raises: InvalidInput: they have no question or no figure in common.
    """
    shared = [each for each in new if each.id in old]
    names = [name for name in (new[0].scores if new else ()) if all(name in old[each.id] for each in shared)]
    if not shared or not names:
        raise InvalidInput("the earlier run has none of these questions and figures", param="against")
    found = []
    for name in names:
        gain, interval = paired_interval(
            [q.scores[name] for q in shared], [old[q.id][name] for q in shared], confidence, draws=_DRAWS
        )
        found.append(Comparison(name, gain, interval))
    return found


def parse_bars(bars: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """``ndcg@10=0.8`` as figure and least value. Raises: InvalidInput."""
    found: dict[str, float] = {}
    for bar in bars:
        name, equals, value = bar.partition("=")
        try:
            least = float(value)
        except ValueError:
            least = -1.0
        if not equals or not 0 <= least <= 1 or name not in known:
            raise InvalidInput(
                f"{bar!r} is no bar", param="--fail-under", hint=f"FIGURE=0.8, with one of: {', '.join(known)}"
            )
        found[name] = least
    return found
