"""Embed texts for a caller: traced, priced and audited like every other call."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.context import Context
from interlock.flows.parts import Parts
from interlock.gateway.service import Embeddings

__all__ = ["embed"]


async def embed(parts: Parts, ctx: Context, model: str, texts: Sequence[str]) -> Embeddings:
    """Vectors in input order. Raises: NotFound, TooLarge, ModelMissing, ProviderError."""
    with parts.observe.span(ctx, "embeddings") as (span, inner):
        async with (
            parts.governance.record(inner, None, action="embeddings.create") as record,
            parts.cost.reserve(inner, None) as bill,
        ):
            record.subject = model
            result = await parts.gateway.embed(inner, model, texts, meter=bill)
            record.set(texts=len(texts), input_tokens=result.usage.input_tokens)
            cost = parts.cost.quote(bill)
            span.set(
                {
                    "gen_ai.response.model": str(result.target),
                    "gen_ai.usage.input_tokens": result.usage.input_tokens,
                    "interlock.cost.nano_usd": None if cost is None else cost.nano,
                    "interlock.cache.kept": result.kept or None,
                }
            )
    return result
