"""A model of a provider that reranks (Cohere, Voyage, Jina, TEI and the like), through the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interlock.core.context import Context
from interlock.core.passages import Passage
from interlock.knowledge.retrieval.ports import Assistant, Reranker, RerankerSurroundings
from interlock.knowledge.retrieval.rerankers._screened import scored_screened
from interlock.knowledge.retrieval.types import StepFailed

__all__ = ["plugin"]


class ProviderReranker:
    """Sends the question and the passages' texts to the model."""

    def __init__(self, assistant: Assistant, given: RerankerSurroundings) -> None:
        self._assistant = assistant
        self._given = given

    async def rerank(self, ctx: Context, query: str, passages: Sequence[Passage]) -> Sequence[float]:
        """See `Reranker.rerank`."""

        async def score(shown: Sequence[Passage]) -> Sequence[float]:
            texts = [passage.text for passage in shown]

            async def call(ctx: Context) -> Sequence[float]:
                return await self._assistant.rerank(ctx, query, texts, model=self._given.model)

            return await self._given.allowance.spend(ctx, call)

        return await scored_screened(self._assistant, ctx, passages, score) if passages else []


class _Plugin:
    def open(self, given: RerankerSurroundings) -> Reranker:
        """See `RerankerPlugin.open`."""
        if not given.model:
            raise StepFailed("rerank.model names no model", skipped=True)
        if given.assistant is None:
            raise StepFailed("no model can be asked here", skipped=True)
        return ProviderReranker(given.assistant, given)

    def identity(self, models: Path, model: str) -> str:
        """See `RerankerPlugin.identity`."""
        return f"provider:{model}"


plugin = _Plugin()
