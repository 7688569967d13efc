"""Cohere: chat, embeddings, reranking."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from interlock.core.context import Context
from interlock.core.errors import ProviderError
from interlock.core.messages import ChatEvent, ChatRequest, count_of
from interlock.gateway.http import HttpApi
from interlock.gateway.ports import Provider, ProviderDeps, Reranked
from interlock.gateway.profiles import profile
from interlock.gateway.providers._signers import KeySigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import cohere as wire
from interlock.gateway.wires import rerank

__all__ = ["plugin"]

_BATCH = 96


class CohereProvider:
    """Bearer key; the address is the one without a version, because this API has two."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        self._name = name
        self._settings = settings
        base = (settings.base_url or "https://api.cohere.com").rstrip("/").removesuffix("/v1").removesuffix("/v2")
        self._api = HttpApi(name, base, settings, KeySigner(Keys(name, settings, deps.environ)))

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        body = wire.encode_request(request, model, profile(model, self._settings.profiles))
        async with (
            aclosing(self._api.post_events(ctx, "/v2/chat", None, body)) as data,
            aclosing(wire.decode_stream(data, provider=self._name, model=model)) as events,
        ):
            async for event in events:
                yield event

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`. Texts are embedded as documents."""
        vectors: list[list[float]] = []
        tokens = 0
        for at in range(0, len(texts), _BATCH):
            batch = list(texts[at : at + _BATCH])
            body = {"model": model, "texts": batch, "input_type": "search_document", "embedding_types": ["float"]}
            answer = await self._api.post_json("/v2/embed", None, body, ctx=ctx)
            try:
                rows = [[float(x) for x in row] for row in answer["embeddings"]["float"]]
                billed = (answer.get("meta") or {}).get("billed_units") or {}
                tokens += count_of(billed.get("input_tokens"))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ProviderError(
                    f"provider {self._name!r} sent embeddings of another shape", provider=self._name
                ) from error
            if len(rows) != len(batch):
                raise ProviderError(
                    f"provider {self._name!r} sent {len(rows)} embeddings for {len(batch)} texts", provider=self._name
                )
            vectors += rows
        return vectors, tokens

    async def rerank(
        self, ctx: Context, query: str, documents: Sequence[str], model: str, *, limit: int | None
    ) -> Reranked:
        """See :class:`interlock.gateway.ports.Reranks`. Billed by search units."""
        body = rerank.encode_request(query, documents, model, limit=limit)
        answer = await self._api.post_json("/v2/rerank", None, body, ctx=ctx)
        return rerank.decode_answer(answer, provider=self._name, documents=len(documents), limit=limit)

    async def models(self) -> Sequence[str]:
        """Configured models, else what ``GET /v1/models`` lists."""
        if self._settings.models:
            return self._settings.models
        answer = await self._api.get_json("/v1/models?page_size=1000")
        try:
            return sorted(str(row["name"]) for row in answer["models"])
        except (KeyError, TypeError) as error:
            raise ProviderError(f"provider {self._name!r} lists no models", provider=self._name) from error

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`."""
        await self._api.prove()

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return CohereProvider(name, settings, deps)
