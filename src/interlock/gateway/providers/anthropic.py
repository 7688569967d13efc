"""Anthropic, and every server that speaks its messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.http import HttpApi
from interlock.gateway.lanes.anthropic import AnthropicLane, MessageCodec
from interlock.gateway.lanes.ports import BatchLane
from interlock.gateway.marks import least_bytes
from interlock.gateway.ports import Forwarding, Provider, ProviderDeps
from interlock.gateway.profiles import profile
from interlock.gateway.providers._signers import KeySigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import anthropic as wire

__all__ = ["plugin"]

_COUNTED = ("messages", "model", "system", "tools", "tool_choice", "thinking")


class AnthropicProvider:
    """`x-api-key`, messages, token counts, model list. No embeddings on this API."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        self._name = name
        self._settings = settings
        signer = KeySigner(Keys(name, settings, deps.environ), "x-api-key", "")
        self._api = HttpApi(name, settings.base_url or "https://api.anthropic.com/v1", settings, signer)

    def _headers(self, request: ChatRequest | None = None) -> dict[str, str]:
        if request is None:
            return {"anthropic-version": wire.VERSION}
        wanted = [*([wire.FILES_BETA] if wire.uses_files(request) else []), *wire.betas_of(request)]
        beta = {"anthropic-beta": ",".join(dict.fromkeys(wanted))} if wanted else {}
        return {"anthropic-version": wire.VERSION, **beta}

    def takes_native(self, origin: str, model: str) -> bool:
        """See :class:`interlock.gateway.ports.TakesNative`."""
        return origin == "anthropic"

    @property
    def lacks(self) -> frozenset[str]:
        """See :class:`interlock.gateway.ports.Lacking`: this API wants a schema, not just any JSON object."""
        return frozenset({"json_object"})

    def lane(self) -> BatchLane | None:
        """See :class:`interlock.gateway.lanes.ports.HasLane`."""
        return AnthropicLane(self._name, self._api, MessageCodec(self._batch_body, self._decode), self._headers())

    # Any: JSON on its way out.
    def _batch_body(self, request: ChatRequest, model: str) -> dict[str, Any]:
        if "anthropic-beta" in self._headers(request):
            raise InvalidInput("what is still in beta is asked for by an ordinary call", param="model", code="beta")
        return wire.encode_request(request, model, profile(model))

    def _decode(self, data: AsyncIterator[str], request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        answer_tool = wire.answer_tool(request, profile(model))
        return wire.decode_stream(data, provider=self._name, model=model, answer_tool=answer_tool)

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        facts = profile(model, self._settings.profiles)
        body = wire.encode_request(request, model, facts)
        answer_tool = wire.answer_tool(request, facts)
        async with (
            aclosing(self._api.post_events(ctx, "/messages", self._headers(request), body)) as data,
            aclosing(wire.decode_stream(data, provider=self._name, model=model, answer_tool=answer_tool)) as events,
        ):
            async for event in events:
                yield event

    async def forwarding(self, ctx: Context, wire: str, model: str) -> Forwarding | None:
        """See :class:`interlock.gateway.ports.Forwards`."""
        if wire != "anthropic.messages":
            return None
        known = profile(model, self._settings.profiles)
        url, headers = await self._api.head_of(ctx, "/messages", self._headers())
        return Forwarding(
            url,
            headers,
            tools=known.tools,
            fixed_sampling=known.fixed_sampling,
            marks_from=least_bytes(known),
            connect_timeout_s=self._settings.connect_timeout_s,
            idle_timeout_s=self._settings.idle_timeout_s,
        )

    async def count_tokens(self, ctx: Context, request: ChatRequest, model: str) -> int:
        """See :class:`interlock.gateway.ports.CountsTokens`."""
        whole = wire.encode_request(request, model, profile(model, self._settings.profiles))
        body = {name: whole[name] for name in _COUNTED if name in whole}
        answer = await self._api.post_json("/messages/count_tokens", self._headers(request), body, ctx=ctx)
        try:
            return int(answer["input_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"provider {self._name!r} sent no count", provider=self._name) from error

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """Raises InvalidInput: there is no such endpoint."""
        raise InvalidInput(f"provider {self._name!r} has no embeddings", param="model")

    async def models(self) -> Sequence[str]:
        """Configured models, else what ``GET /models`` lists."""
        if self._settings.models:
            return self._settings.models
        return await self._api.list_models("/models?limit=1000", self._headers())

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`."""
        await self._api.prove()

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return AnthropicProvider(name, settings, deps)
