"""Rank documents against a query for a caller."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.context import Context
from interlock.core.messages import Usage
from interlock.flows.attempts import Operation, first_target, line
from interlock.flows.parts import Parts
from interlock.gateway.ports import Reranked, Reranks
from interlock.gateway.service import Served

__all__ = ["rerank"]

_RERANK = Operation("rerank", "rerank.create")


async def rerank(
    parts: Parts,
    ctx: Context,
    model: str,
    query: str,
    documents: Sequence[str],
    *,
    limit: int | None,
    served: Served | None = None,
) -> Reranked:
    """The best `limit` documents, best first. Raises: NotFound, InvalidInput, the provider's errors."""
    size = len(query.encode()) * len(documents) + sum(len(text.encode()) for text in documents)
    # Reranking models read the query once with each document.
    estimate = Usage(-(-size // 3) + 4 * len(documents), estimated=True)

    async def call(ctx: Context, provider: Reranks, name: str) -> tuple[Reranked, Usage]:
        ranked = await provider.rerank(ctx, query, documents, name, limit=limit)
        used = ranked.usage
        # Sold by searches, not tokens: no figure is better than a wrong one.
        return ranked, used if used.total_tokens else Usage(unmetered=True, estimated=True)

    async with line(parts, ctx, _RERANK, model) as opened:
        opened.record.set(documents=len(documents))
        # mypy cannot see that a Protocol stands for the type of its implementations.
        result, _ = await first_target(
            parts,
            opened,
            model,
            Reranks,  # type: ignore[type-abstract]
            _RERANK,
            estimate=estimate,
            call=call,
            served=served,
        )
    return result
