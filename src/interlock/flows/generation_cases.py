"""Cases as files have them, built of a passage, a question about it, and what answers it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from interlock.core.passages import Passage, Span
from interlock.evals.synthetic.types import Candidate, Kind
from interlock.evals.types import Case, Evidence, Provenance, Turn

__all__ = ["Builder", "Seed", "span_of"]

_SHORT_WORDS = 8
"""Answers of so many words are facts that an answer must hold; longer ones are only shown to people."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A question that one passage answers."""

    question: str
    answer: str
    quote: str
    passage: Passage
    hand: str
    """``rule: definition`` or ``model``."""


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds cases of one collection."""

    collection: str
    user: str
    """The end user as whom they are asked."""
    by: str

    def dialogue(self, passage: Passage, turns: Sequence[tuple[str, str, str]], persona: str, hand: str) -> Candidate:
        """Turns are question, answer and quote; the last question is what is tested."""
        last = Seed(turns[-1][0], turns[-1][1], turns[-1][2], passage, hand)
        said: list[Turn] = []
        for question, answer, _ in turns[:-1]:
            said += [Turn(role="user", content=question), Turn(role="assistant", content=answer)]
        said.append(Turn(role="user", content=last.question))
        return self.variant("conversation", last, said, persona=persona)

    def joined(
        self,
        question: str,
        pair: tuple[Passage, Passage],
        quotes: tuple[str, str],
        answers: Sequence[str],
        hand: str,
    ) -> Candidate:
        """A question over two passages."""
        facts = [[answer] for answer in answers if len(answer.split()) <= _SHORT_WORDS]
        two_documents = pair[0].document_id != pair[1].document_id
        return self._case(
            "multi_hop",
            question,
            pair,
            quotes,
            hand,
            answer=" ".join(answers),
            facts=facts,
            tags=["two_documents" if two_documents else "one_document"],
        )

    def variant(
        self,
        kind: Kind,
        seed: Seed,
        asked: str | list[Turn],
        *,
        answerable: bool = True,
        planted: list[dict[str, str]] | None = None,
        facts: list[list[str]] | None = None,
        expected: str | None = None,
        beside: Sequence[str] = (),
        language: str = "",
        persona: str = "",
    ) -> Candidate:
        """A question over one passage.

        Args:
            planted: documents that the case brings.
            beside: ids of further documents whose words it holds.
        """
        short = 0 < len(seed.answer.split()) <= _SHORT_WORDS
        return self._case(
            kind,
            asked,
            (seed.passage,),
            (seed.quote,),
            seed.hand,
            answer=(expected or seed.answer) if answerable else "",
            facts=facts or ([[seed.answer]] if short and answerable else []),
            answerable=answerable,
            planted=planted,
            beside=beside,
            language=language,
            persona=persona,
        )

    def _case(
        self,
        kind: Kind,
        asked: str | list[Turn],
        passages: Sequence[Passage],
        quotes: Sequence[str],
        hand: str,
        *,
        answer: str,
        facts: list[list[str]],
        answerable: bool = True,
        planted: list[dict[str, str]] | None = None,
        beside: Sequence[str] = (),
        language: str = "",
        persona: str = "",
        tags: Sequence[str] = (),
    ) -> Candidate:
        told = asked if isinstance(asked, str) else "\n".join(turn.content for turn in asked)
        first = passages[0]
        place = f"{self.collection}/{first.source}#{first.span.start}-{first.span.end}"
        own = hashlib.sha256("\0".join([kind, told, *(each.id for each in passages)]).encode()).hexdigest()[:12]
        cited = answerable and planted is None
        case = Case.model_validate(
            {
                "id": f"{kind}-{own}",
                "input": asked,
                "expected": answer or None,
                "facts": facts,
                "answerable": answerable,
                "evidence": [
                    _evidence(passage, quote).model_dump()
                    for passage, quote in zip(passages, quotes, strict=True)
                    if cited and quote
                ],
                "relevant": {each.source: 1 for each in passages} if cited else {},
                "as": self.user,
                # A question and its variants are one piece of evidence.
                "group": f"passage:{first.id}"[:200],
                "tags": ["synthetic", kind, *tags],
                "slices": {"made": kind, **({"language": language} if language else {})},
                "provenance": Provenance(kind="synthetic", ref=f"{place} ({hand})", by=self.by).model_dump(),
                "metadata": {
                    "text_digests": {each.document_id: each.document_digest for each in passages},
                    **({"persona": persona} if persona else {}),
                    **({"planted": planted} if planted else {}),
                },
            }
        )
        documents = dict.fromkeys([*(str(each.document_id) for each in passages), *map(str, beside)])
        texts = [each["text"] for each in planted or ()] or [each.text for each in passages]
        return Candidate(case, tuple(documents), tuple(texts), self.collection)


def span_of(passage: Passage, quote: str) -> Span:
    """Where a quote stands in the passage's document."""
    start = passage.span.start + max(0, passage.text.find(quote))
    return Span(start, start + max(1, len(quote)))


def _evidence(passage: Passage, quote: str) -> Evidence:
    span = span_of(passage, quote)
    return Evidence(source=passage.source, quote=quote, start=span.start, end=span.end, page=passage.page)
