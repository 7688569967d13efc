"""Embed texts for a caller: traced, priced and audited like every other call."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.flows.parts import Parts
from interlock.gateway.embedding import Embeddings
from interlock.gateway.ports import EmbedInput
from interlock.gateway.service import Served

__all__ = ["embed", "inputs_of"]

_MAX_INPUTS = 2_048
_LARGEST_TOKEN = 2**31 - 1


def inputs_of(given: object) -> Sequence[EmbedInput]:
    """What the field `input` of an embeddings request holds: a text, texts, one list of token numbers, or several.

    Raises: InvalidInput.
    """
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise InvalidInput("input is a text, a list of texts, or lists of token numbers", param="input")
    rows: list[object] = [given] if _is_tokens(given) else given
    if len(rows) > _MAX_INPUTS:
        raise InvalidInput("input holds 1 to 2,048 texts", param="input")
    texts = [row for row in rows if isinstance(row, str)]
    if len(texts) == len(rows):
        if not all(texts):
            raise InvalidInput("a text of input is empty", param="input")
        return texts
    tokens = [tuple(row) for row in rows if isinstance(row, list) and row and _is_tokens(row)]
    if len(tokens) == len(rows):
        return tokens
    raise InvalidInput(
        "input holds either texts or lists of token numbers (whole, not negative, none of the lists empty)",
        param="input",
    )


def _is_tokens(given: list[object]) -> bool:
    # `type`, since True is an int as well.
    return all(type(token) is int and 0 <= token <= _LARGEST_TOKEN for token in given)


async def embed(
    parts: Parts, ctx: Context, model: str, texts: Sequence[EmbedInput], *, served: Served | None = None
) -> Embeddings:
    """Vectors in input order. Raises: NotFound, TooLarge, ModelMissing, ProviderError."""
    with parts.observe.span(ctx, "embeddings") as (span, inner):
        async with (
            parts.governance.record(inner, None, action="embeddings.create") as record,
            parts.cost.reserve(inner, None) as bill,
        ):
            record.subject = model
            result = await parts.gateway.embed(inner, model, texts, meter=bill, served=served)
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
