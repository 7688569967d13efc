"""OpenAI, and every server that speaks its chat completions (vLLM, Ollama, llama.cpp, TGI, OpenRouter …)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from interlock.core.context import Context
from interlock.core.errors import ProviderError
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.http import HttpApi, read_secret
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.profiles import profile
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import openai as wire

__all__ = ["plugin"]


class OpenAIProvider:
    """Bearer key (optional, for local servers), chat completions, embeddings, model list."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        self._name = name
        self._settings = settings
        self._deps = deps
        self._api = HttpApi(name, settings.base_url or "https://api.openai.com/v1", settings)

    def _headers(self) -> dict[str, str]:
        key = read_secret(self._settings, self._deps.environ, name=self._name)
        return {"authorization": f"Bearer {key}"} if key else {}

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        body = wire.encode_request(request, model, profile(model))
        async with (
            aclosing(self._api.post_events(ctx, "/chat/completions", self._headers(), body)) as data,
            aclosing(
                wire.decode_stream(
                    data,
                    provider=self._name,
                    model=model,
                    input_characters=sum(len(message.text) for message in request.messages),
                )
            ) as events,
        ):
            async for event in events:
                yield event

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`."""
        answer = await self._api.post_json(
            "/embeddings", self._headers(), {"model": model, "input": list(texts), "encoding_format": "float"}
        )
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = [[float(x) for x in row["embedding"]] for row in rows]
            tokens = int((answer.get("usage") or {}).get("prompt_tokens") or 0)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProviderError(
                f"provider {self._name!r} sent embeddings of another shape", provider=self._name
            ) from error
        if len(vectors) != len(texts):
            raise ProviderError(
                f"provider {self._name!r} sent {len(vectors)} embeddings for {len(texts)} texts", provider=self._name
            )
        return vectors, tokens

    async def models(self) -> Sequence[str]:
        """Configured models, else what ``GET /models`` lists."""
        if self._settings.models:
            return self._settings.models
        return await self._api.list_models("/models", self._headers())

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return OpenAIProvider(name, settings, deps)
