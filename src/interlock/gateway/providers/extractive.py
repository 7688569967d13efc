"""Answers by quoting the passages in the request: the floor when no model may be used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.messages import ChatEvent, ChatRequest, Finish, TextDelta, Usage
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.settings import ProviderSettings

__all__ = ["plugin"]

_MAX_SENTENCES = 3


class ExtractiveProvider:
    """Quotes whole sentences with their passage markers. No tokens are generated, so its usage is zero."""

    def __init__(self, name: str, deps: ProviderDeps) -> None:
        self._name = name
        self._deps = deps

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`. Without passages there is nothing to quote."""
        if not request.passages:
            raise InvalidInput(
                f"provider {self._name!r} can only quote passages, and this request has none",
                param="model",
                hint="ask an app with knowledge (app/NAME), or choose a model that generates",
            )
        if self._deps.quoter is None:
            raise Misconfigured("quoting needs the knowledge part", hint="pip install 'interlock[knowledge]'")
        quotes = await self._deps.quoter.quote(request.last_user_text, request.passages, limit=_MAX_SENTENCES)
        for position, quote in enumerate(quotes):
            yield TextDelta((" " if position else "") + quote)
        yield Finish("stop", Usage(), model)

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """Raises InvalidInput: it has no vectors."""
        raise InvalidInput(f"provider {self._name!r} has no embeddings", param="model")

    async def models(self) -> Sequence[str]:
        """Itself."""
        return [self._name]

    async def close(self) -> None:
        """Nothing to close."""


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return ExtractiveProvider(name, deps)
