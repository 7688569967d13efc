"""Later passages cut to the sentences that speak of the question, so that more of them fit a context."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from interlock.core.passages import Passage, Span
from interlock.knowledge.analysers import analyse
from interlock.knowledge.retrieval.settings import FocusSettings
from interlock.knowledge.sentences import sentences

__all__ = ["focused"]

_MOST_SENTENCES = 200
"""Of a passage; of a longer one the rest is not looked at."""


def focused(
    passages: Sequence[Passage], question: str, settings: FocusSettings, languages: Sequence[str] = ("en",)
) -> list[Passage]:
    """The first few passages whole, and of each other one the run of sentences that says most of the question.

    A word counts the more the fewer of the passages have it. Of runs that say the same the longest that fits is taken.
    A passage keeps its id and scores; its text is what the document says at its new span, character for character.

    Args:
        passages: best first.
        question: as it was asked.
        settings: how many stay whole, and how long the others may be.
        languages: of the words, as the collection's documents are read.
    """
    asked = frozenset(analyse(question, languages))
    if not asked or len(passages) <= settings.whole:
        return list(passages)
    told = [
        [(span, asked & set(analyse(passage.text[span.start : span.end], languages))) for span in _sentences(passage)]
        for passage in passages
    ]
    having = Counter(term for own in told for term in set().union(*(terms for _, terms in own)))
    weights = {term: math.log(1 + len(passages) / (1 + having[term])) for term in asked}
    return [
        passage if place < settings.whole else _cut(passage, own, weights, settings.characters)
        for place, (passage, own) in enumerate(zip(passages, told, strict=True))
    ]


def _sentences(passage: Passage) -> list[Span]:
    # Where offsets of the text are not those of its span nothing can be cut.
    if len(passage.text) != passage.span.end - passage.span.start:
        return []
    return sentences(passage.text)[:_MOST_SENTENCES]


def _cut(
    passage: Passage, told: Sequence[tuple[Span, frozenset[str]]], weights: dict[str, float], most: int
) -> Passage:
    if len(passage.text) <= most or not told:
        return passage
    best, chosen = (-1.0, 0), told[0][0]
    for first, (begin, _) in enumerate(told):
        said: set[str] = set()
        for span, terms in told[first:]:
            length = span.end - begin.start
            if length > most and span is not begin:
                break
            said |= terms
            worth = (sum(weights[term] for term in said), length)
            if worth > best:
                best, chosen = worth, Span(begin.start, span.end)
    return replace(
        passage,
        text=passage.text[chosen.start : chosen.end],
        span=Span(passage.span.start + chosen.start, passage.span.start + chosen.end),
    )
