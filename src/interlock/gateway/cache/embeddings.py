"""Kept embeddings, one a text: only texts that were not embedded before are sent to the provider."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from interlock.core.canonical import digest_json
from interlock.core.context import Context
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.cache.store import CacheStore
from interlock.gateway.ports import EmbedInput

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """Vectors by tenant, sharing scope, model and text.

    The model is the one that serves: vectors of two models are never mixed.
    """

    def __init__(self, store: CacheStore) -> None:
        self._store = store

    async def known(
        self, ctx: Context, spec: CacheSpec, model: str, texts: Sequence[EmbedInput]
    ) -> dict[EmbedInput, list[float]]:
        """Text to vector, of those that are kept."""
        found: dict[EmbedInput, list[float]] = {}
        for text in dict.fromkeys(texts):
            data = await self._store.vector(ctx.tenant, _name(ctx, spec, model, text))
            if data is not None and data and len(data) % 4 == 0:
                found[text] = list(struct.unpack(f"<{len(data) // 4}f", data))
        return found

    async def keep(self, ctx: Context, spec: CacheSpec, model: str, vectors: dict[EmbedInput, list[float]]) -> None:
        """Keep what a provider just made, as float32: what providers send and clients store."""
        for text, vector in vectors.items():
            data = struct.pack(f"<{len(vector)}f", *vector)
            if len(data) <= spec.max_entry_bytes:
                await self._store.keep_vector(ctx.tenant, _name(ctx, spec, model, text), data, spec.ttl_s)


def _name(ctx: Context, spec: CacheSpec, model: str, text: EmbedInput) -> str:
    owner = str(ctx.principal.key_id or ctx.principal.id) if spec.share == "key" else ""
    return digest_json({"tenant": ctx.tenant, "owner": owner, "model": model, "text": text}).removeprefix("sha256:")
