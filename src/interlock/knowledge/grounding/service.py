"""The door of grounding: select evidence, assess it, check sentences against it, quote it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from interlock.core.context import Context
from interlock.core.passages import Passage
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding import answerability, rows, support
from interlock.knowledge.grounding.asks import asked_kind, holds
from interlock.knowledge.grounding.quoting import EvidenceQuoter
from interlock.knowledge.grounding.select import Selector
from interlock.knowledge.grounding.types import AnswerSpec, Assessment, Evidence, Match, Selection, Verdict
from interlock.knowledge.ports import Reader

__all__ = ["Grounding", "ReadText"]

_TRIED = 40
"""Sentences a claim is checked against at most, nearest first: about 5 ms."""

ReadText = Callable[[Context, Passage], Awaitable[str | None]]
"""The whole extracted text behind a passage, or None when it cannot be had; for table headers only."""


class Grounding:
    """Stateless; one instance serves all requests.

    Args:
        embedder: the one that embedded the passages, or any other.
        reader: judges the best sentences; None leaves selection and answerability to words and meaning.
        read_text: lets a table row find the header that stands before its passage.
    """

    def __init__(self, embedder: Embedder, *, reader: Reader | None = None, read_text: ReadText | None = None) -> None:
        self._selector = Selector(embedder, reader)
        self._read_text = read_text
        self.quoter = EvidenceQuoter(self._selector)

    async def select(self, ctx: Context, question: str, passages: Sequence[Passage], spec: AnswerSpec) -> Selection:
        """Evidence for `question`, best first. CPU heavy: embeds up to 32 sentences."""
        return await self._selector.select(question, passages, spec, texts=await self._texts(ctx, passages))

    def assess(self, question: str, selection: Selection) -> Assessment:
        """Calibrated probability that the evidence answers the question."""
        return answerability.assess(question, selection)

    def check(self, claim: str, evidence: Evidence, spec: AnswerSpec, *, question: str = "") -> Verdict:
        """Whether `claim` says no more and nothing else than `evidence`.

        Args:
            question: when given, a claim that left out the kind of value asked for is refused too.
        """
        verdict = support.check_evidence(claim, evidence)
        if not verdict.supported:
            return verdict
        kind = asked_kind(question)
        beside = question and holds(kind, evidence.readable) and not holds(kind, claim)
        return Verdict(False, verdict.score, "dropped") if beside or verdict.score < spec.min_support else verdict

    def fact(self, question: str, evidence: Evidence) -> str:
        """The evidence as one fact to restate: a row is cut to its name and the columns asked for."""
        return rows.fact(rows.focused(question, evidence, self._selector.words))

    def worded(self, question: str, evidence: Evidence) -> str | None:
        """A row's fact as a plain sentence, for a last try; None for a sentence, which is one already."""
        return rows.worded(rows.focused(question, evidence, self._selector.words)) if evidence.is_row else None

    def best_support(self, claim: str, selection: Selection, numbers: Sequence[int], spec: AnswerSpec) -> Match | None:
        """The evidence that supports `claim` best, or the nearest one when none does.

        Args:
            numbers: passages the writer named, 1-based; they are tried first, then all others.

        Returns: None when the claim shares no word with any passage.
        """
        said = set(analyse(claim))
        near = [(len(said & set(analyse(f"{unit.heading} {unit.readable}"))), unit) for unit in selection.units]
        ranked = sorted(
            ((overlap, unit) for overlap, unit in near if overlap),
            key=lambda pair: (pair[1].rank not in numbers, -pair[0]),
        )
        if not ranked:
            return None
        matches = [Match(unit, self.check(claim, unit, spec)) for _, unit in ranked[:_TRIED]]
        supported = [match for match in matches if match.verdict.supported]
        if supported:
            return max(supported, key=lambda match: match.verdict.score)
        return Match(max(ranked, key=lambda pair: pair[0])[1], matches[0].verdict)

    async def _texts(self, ctx: Context, passages: Sequence[Passage]) -> Mapping[str, str]:
        if self._read_text is None:
            return {}
        texts: dict[str, str] = {}
        for passage in passages:
            if " | " in passage.text and passage.document_digest not in texts:
                text = await self._read_text(ctx, passage)
                if text is not None:
                    texts[passage.document_digest] = text
        return texts
