"""Vectors for texts: those that were made before, the others from the first target that can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import Usage
from interlock.core.ports import Meter
from interlock.gateway.attempt import Attempts
from interlock.gateway.cache.service import PROVIDER as CACHE
from interlock.gateway.cache.service import AnswerCache
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.cache.types import CacheStatus
from interlock.gateway.call import Served
from interlock.gateway.ports import EmbedInput, EmbedsTokens, only_texts
from interlock.gateway.types import RouteSpec, Target

__all__ = ["Embedding", "Embeddings"]


class Embeddings(NamedTuple):
    """Vectors in input order, and the tokens read."""

    vectors: list[list[float]]
    target: Target
    usage: Usage
    """Of the texts that were sent to the provider."""
    kept: int = 0
    """Texts whose vectors were kept from earlier."""


class Embedding:
    """One gateway's way to vectors.

    Args:
        cache: where vectors are kept; without it none are.
    """

    def __init__(self, attempts: Attempts, cache: AnswerCache | None) -> None:
        self._attempts = attempts
        self._cache = cache

    async def vectors(
        self,
        ctx: Context,
        texts: Sequence[EmbedInput],
        targets: Sequence[Target],
        route: RouteSpec,
        meter: Meter,
        *,
        served: Served,
    ) -> Embeddings:
        """Vectors of `texts` in their order. Raises: the last target's error; InvalidInput of the first."""
        spec = route.cache if self._cache is not None and ctx.cache != "no-store" else None
        last: InterlockError | None = None
        for target in targets:
            known = await self._known(ctx, spec, target, texts)
            # Without a cache the provider gets what the caller sent, a text twice as well.
            missing = list(texts) if spec is None else [text for text in dict.fromkeys(texts) if text not in known]
            try:
                made, usage = await self._made(ctx, target, missing, meter, route)
            except InterlockError as error:
                served.failed(target, error)
                if isinstance(error, InvalidInput):
                    raise
                last = error
                continue
            served.answered(target)
            if route.cache is not None and self._cache is not None:
                served.caches.append(_status(ctx, sum(text in known for text in texts), len(texts)))
            if spec is None or self._cache is None:
                return Embeddings(made, target, usage)
            fresh = dict(zip(missing, made, strict=True))
            if fresh:
                await self._cache.embeddings.keep(ctx, spec, target.model, fresh)
            found = {**known, **fresh}
            kept = sum(text in known for text in texts)
            return Embeddings([found[text] for text in texts], target, usage, kept)
        assert last is not None, "there is a target"
        raise last

    async def _known(
        self, ctx: Context, spec: CacheSpec | None, target: Target, texts: Sequence[EmbedInput]
    ) -> dict[EmbedInput, list[float]]:
        if spec is None or self._cache is None or ctx.cache == "refresh":
            return {}
        return await self._cache.embeddings.known(ctx, spec, target.model, texts)

    async def _made(
        self, ctx: Context, target: Target, texts: Sequence[EmbedInput], meter: Meter, route: RouteSpec
    ) -> tuple[list[list[float]], Usage]:
        """Vectors of distinct texts from the provider; nothing to embed is a request that costs nothing."""
        if not texts:
            admitted = await meter.admit(CACHE, str(target), Usage())
            admitted.charge(Usage())
            return [], Usage()
        words = [text for text in texts if isinstance(text, str)]
        given = [text for text in texts if not isinstance(text, str)]
        provider = self._attempts.provider(target.provider)
        if given and not isinstance(provider, EmbedsTokens):
            raise only_texts(target.provider)
        estimate = Usage(sum(len(tokens) for tokens in given))
        if words:
            estimate = Usage(-(-sum(len(text.encode()) for text in words) // 3) + 2 * len(words), estimated=True)
        opened = self._attempts.attempt(ctx, target, meter, estimate, what="embeddings", priority=route.priority)
        async with opened as attempt:
            if given and isinstance(provider, EmbedsTokens):
                vectors, tokens = await provider.embed_tokens(attempt.ctx, given, target.model)
            else:
                vectors, tokens = await provider.embed(attempt.ctx, words, target.model)
            usage = Usage(input_tokens=tokens) if tokens else estimate
            attempt.span.set({"gen_ai.usage.input_tokens": usage.input_tokens})
            attempt.charge(usage)
        return vectors, usage


def _status(ctx: Context, kept: int, texts: int) -> CacheStatus:
    """What the cache did for texts, `kept` of which it had."""
    if ctx.cache != "use":
        return "bypass" if ctx.cache == "no-store" else "refresh"
    return "hit" if kept == texts else "partial" if kept else "miss"
