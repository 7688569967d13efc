"""Anthropic, and every server that speaks its messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.http import HttpApi, read_secret
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.profiles import profile
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import anthropic as wire

__all__ = ["plugin"]


class AnthropicProvider:
    """`x-api-key`, messages, model list. No embeddings on this API."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        self._name = name
        self._settings = settings
        self._deps = deps
        self._api = HttpApi(name, settings.base_url or "https://api.anthropic.com/v1", settings)

    def _headers(self) -> dict[str, str]:
        key = read_secret(self._settings, self._deps.environ, name=self._name)
        return {"anthropic-version": wire.VERSION, **({"x-api-key": key} if key else {})}

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        body = wire.encode_request(request, model, profile(model))
        async with (
            aclosing(self._api.post_events(ctx, "/messages", self._headers(), body)) as data,
            aclosing(wire.decode_stream(data, provider=self._name, model=model)) as events,
        ):
            async for event in events:
                yield event

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """Raises InvalidInput: there is no such endpoint."""
        raise InvalidInput(f"provider {self._name!r} has no embeddings", param="model")

    async def models(self) -> Sequence[str]:
        """Configured models, else what ``GET /models`` lists."""
        if self._settings.models:
            return self._settings.models
        return await self._api.list_models("/models?limit=1000", self._headers())

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return AnthropicProvider(name, settings, deps)
