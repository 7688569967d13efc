"""Vectors of passages and questions by a model of the gateway: each call has a bill and an audit line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interlock.core.context import Context
from interlock.flows.embed import embed
from interlock.flows.parts import Parts
from interlock.knowledge.ports import MadeVectors

__all__ = ["PassageVectors"]


class PassageVectors:
    """Implements :class:`interlock.knowledge.ports.VectorModel`.

    Args:
        parts: gives the parts, which are made after knowledge is.
    """

    def __init__(self, parts: Callable[[], Parts]) -> None:
        self._parts = parts

    async def vectors(self, ctx: Context, model: str, texts: Sequence[str]) -> MadeVectors:
        """See `VectorModel.vectors`."""
        made = await embed(self._parts(), ctx, model, texts)
        return MadeVectors(made.vectors, made.usage.input_tokens)
