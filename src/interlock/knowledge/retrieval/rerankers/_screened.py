"""Passages on their way to a model that others serve, and its scores on their way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from interlock.core.context import Context
from interlock.core.passages import Passage
from interlock.knowledge.retrieval.ports import Assistant
from interlock.knowledge.retrieval.types import StepFailed

__all__ = ["scored_screened"]


async def scored_screened(
    assistant: Assistant,
    ctx: Context,
    passages: Sequence[Passage],
    score: Callable[[Sequence[Passage]], Awaitable[Sequence[float]]],
) -> Sequence[float]:
    """Scores of what the guardrails let through; what they keep back comes last.

    Raises: StepFailed: nothing may be shown, or another number of scores came back.
    """
    shown = await assistant.screen(ctx, passages)
    if not shown:
        raise StepFailed("no passage may be shown to the model", skipped=True)
    scores = await score(shown)
    if len(scores) != len(shown):
        raise StepFailed("the reranker gave no score for each passage")
    of = {passage.id: float(value) for passage, value in zip(shown, scores, strict=True)}
    least = min(of.values()) - 1.0
    return [of.get(passage.id, least) for passage in passages]
