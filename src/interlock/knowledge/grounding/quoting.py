"""Answers in the documents' own words: fills :class:`interlock.core.ports.Quoter`."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.passages import Passage
from interlock.knowledge.grounding.citations import with_markers
from interlock.knowledge.grounding.select import Selector
from interlock.knowledge.grounding.types import AnswerSpec

__all__ = ["EvidenceQuoter"]


class EvidenceQuoter:
    """Quotes the selected evidence. Needs no language model."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector

    async def quote(self, question: str, passages: Sequence[Passage], *, limit: int) -> Sequence[str]:
        """At most `limit` verbatim sentences, best first, each followed by its ``[n]`` passage marker (1-based).

        A table row is given with its column names.
        """
        spec = AnswerSpec(max_sentences=min(12, max(1, limit)))
        selection = await self._selector.select(question, passages, spec, texts={})
        numbers = {passage.id: number for number, passage in enumerate(passages, start=1)}
        return [with_markers(e.readable, [numbers[e.passage.id]]) for e in selection.evidence]
