"""How good a ranking is for tuning, so that passages cut in different ways can be compared.

Where every question says where its answer stands, by evidence: the share of the answer's characters in the best
passages that fit a context, as the mean over a whole context, half of one and a quarter, so that coming first counts
too. Big passages fill it sooner: that is their price. Otherwise by nDCG@10 over documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.core.passages import Passage, Span
from interlock.evals.judged import JudgedQuestion
from interlock.evals.ranking import ndcg
from interlock.knowledge.service import KnowledgeService

__all__ = ["CONTEXT_CHARACTERS", "Measure", "Measured", "evidence_share", "measure_for"]

Measure = Literal["evidence", "ndcg@10"]
CONTEXT_CHARACTERS = 6_000
_CUT = 10
_SHARES = (1.0, 0.5, 0.25)
_MOST_PLACES = 20
"""A quote that stands more often in its document is looked for in so many places."""

Places = Mapping[str, Sequence[Span]]
"""By source: where the quote stands; any of them is the answer."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What rankings of one set of questions are measured by."""

    name: Measure
    places: Mapping[str, Places]
    """By question; empty when documents are what counts."""
    named: Callable[[str], str]
    context: int = CONTEXT_CHARACTERS

    def score(self, question: JudgedQuestion, passages: Sequence[Passage]) -> float:
        """In [0, 1]; `passages` best first."""
        if self.name == "evidence":
            places = self.places[question.id]
            return sum(evidence_share(passages, places, round(self.context * s)) for s in _SHARES) / len(_SHARES)
        ranking = tuple(dict.fromkeys(self.named(passage.source) for passage in passages))
        return ndcg(ranking, question.relevant, _CUT)


def evidence_share(passages: Sequence[Passage], places: Places, characters: int) -> float:
    """Share of the answers' characters in the best passages that fit. One that does not fit is passed over."""
    spans: dict[str, list[Span]] = {}
    room = characters
    for passage in passages:
        if len(passage.text) <= room:
            room -= len(passage.text)
            spans.setdefault(passage.source, []).append(passage.span)
    shares = [
        max(_covered(place, spans.get(source, ())) / (place.end - place.start) for place in found)
        for source, found in places.items()
    ]
    return sum(shares) / len(shares)


def _covered(place: Span, spans: Sequence[Span]) -> int:
    return sum(max(0, min(place.end, span.end) - max(place.start, span.start)) for span in spans)


async def measure_for(
    knowledge: KnowledgeService,
    collection: str,
    questions: Sequence[JudgedQuestion],
    *,
    asker: Callable[[str | None], Context],
    named: Callable[[str], str],
    context: int = CONTEXT_CHARACTERS,
) -> Measured:
    """Evidence when every question's answer is found in its documents as they are now, else nDCG@10 over documents."""
    places: dict[str, Places] = {}
    for question in questions:
        found = await _places(knowledge, collection, question, asker(question.user)) if question.quotes else {}
        if not found:
            return Measured("ndcg@10", {}, named, context)
        places[question.id] = found
    return Measured("evidence", places, named, context)


async def _places(knowledge: KnowledgeService, collection: str, question: JudgedQuestion, ctx: Context) -> Places:
    by_source = {info.source: info for info in await knowledge.documents(ctx, collection=collection)}
    found: dict[str, list[Span]] = {}
    for source, quote in question.quotes.items():
        info = by_source.get(source)
        if info is None or not quote or source not in question.relevant:
            continue
        text = ""
        with suppress(NotFound):
            text = (await knowledge.document_text(ctx, info.id)).text
        spans: list[Span] = []
        at = text.find(quote)
        while at >= 0 and len(spans) < _MOST_PLACES:
            spans.append(Span(at, at + len(quote)))
            at = text.find(quote, at + 1)
        if spans:
            found[source] = spans
    return found
