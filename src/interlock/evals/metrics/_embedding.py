"""Nearness of texts in the embedder's space."""

from __future__ import annotations

from typing import Literal, NamedTuple

from interlock.core.ports import Embedder
from interlock.evals.metrics._words import encodable

__all__ = ["Nearness", "beginning", "nearness"]


class Nearness(NamedTuple):
    """A cosine in [0, 1], negative ones counting as 0."""

    value: float
    note: str
    """Says when only the beginning of a text was compared."""


async def nearness(
    embedder: Embedder, one: str, other: str, *, kinds: tuple[Literal["query", "passage"], Literal["query", "passage"]]
) -> Nearness:
    """Cosine of two texts that say something."""
    one, other = encodable(one), encodable(other)
    cut = [beginning(embedder, text) for text in (one, other)]
    first = await embedder.embed([cut[0]], kinds[0])
    second = await embedder.embed([cut[1]], kinds[1])
    cosine = float((first[0] * second[0]).sum())
    note = "" if cut == [one, other] else "only the beginning of a long text was compared"
    return Nearness(min(1.0, max(0.0, cosine)), note)


def beginning(embedder: Embedder, text: str) -> str:
    """As much of a text as the embedder reads whole."""
    # Special tokens and a prefix take some places too.
    most = max(8, embedder.max_tokens - 16)
    while (tokens := embedder.count_tokens(text)) > most:
        text = text[: max(1, min(len(text) - 1, len(text) * most // tokens))]
    return text
