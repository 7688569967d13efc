"""What the Gemini API and Vertex AI have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import ProviderError
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.http import HttpApi, Signer
from interlock.gateway.profiles import profile
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import google as wire

__all__ = ["GeminiProvider"]


class GeminiProvider:
    """Chat and token counts. Subclasses say where a model is.

    Args:
        vertex: see :func:`interlock.gateway.wires.google.encode_request`.
    """

    def __init__(self, name: str, settings: ProviderSettings, base_url: str, signer: Signer, *, vertex: bool) -> None:
        self._name = name
        self._settings = settings
        self._vertex = vertex
        self._api = HttpApi(name, base_url, settings, signer)

    def _model(self, model: str) -> str:
        """Path of a model."""
        return f"/models/{quote(model.removeprefix('models/'), safe='')}"

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        body = wire.encode_request(request, model, profile(model, self._settings.profiles), vertex=self._vertex)
        path = f"{self._model(model)}:streamGenerateContent?alt=sse"
        async with (
            aclosing(self._api.post_events(ctx, path, None, body)) as data,
            aclosing(wire.decode_stream(data, provider=self._name, model=model)) as events,
        ):
            async for event in events:
                yield event

    async def count_tokens(self, ctx: Context, request: ChatRequest, model: str) -> int:
        """See :class:`interlock.gateway.ports.CountsTokens`."""
        body = wire.encode_count(request, model, profile(model, self._settings.profiles), vertex=self._vertex)
        answer = await self._api.post_json(f"{self._model(model)}:countTokens", None, body, ctx=ctx)
        try:
            return int(answer["totalTokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"provider {self._name!r} sent no count", provider=self._name) from error

    # Any: a foreign service's answer.
    def _vectors(self, rows: Any, texts: int) -> list[list[float]]:
        try:
            vectors = [[float(x) for x in row["values"]] for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise self._other_shape() from error
        if len(vectors) != texts:
            raise ProviderError(
                f"provider {self._name!r} sent {len(vectors)} embeddings for {texts} texts", provider=self._name
            )
        return vectors

    def _other_shape(self) -> ProviderError:
        return ProviderError(f"provider {self._name!r} sent embeddings of another shape", provider=self._name)

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`."""
        await self._api.prove()

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()
