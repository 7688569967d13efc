"""A provider that follows a script: fixed replies, latency, errors, chunking. For tests, drills and offline work."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncGenerator, Sequence

from interlock.core.context import Context
from interlock.core.errors import LimitExceeded, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest, Finish, TextDelta, Usage
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.settings import ProviderSettings, ScriptRule

__all__ = ["plugin"]

_DIMENSIONS = 16


class ScriptedProvider:
    """Deterministic: the same calls in the same order give the same answers."""

    def __init__(self, name: str, settings: ProviderSettings) -> None:
        self._name = name
        self._rules = settings.script or [ScriptRule()]
        self._models = settings.models or ["scripted"]
        self._failed = [0] * len(self._rules)
        self.open_streams = 0
        """Streams started and not yet closed: a test of disconnects reads it."""

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`. ``{question}`` in a reply is the last user message."""
        position, rule = self._rule(request)
        self.open_streams += 1
        try:
            failing = rule.fail_status is not None and (
                rule.fail_times is None or self._failed[position] < rule.fail_times
            )
            if failing:
                self._failed[position] += 1
            await asyncio.sleep(rule.first_delay_s)
            text = rule.reply.replace("{question}", request.last_user_text)
            chunks = [text[at : at + rule.chunk_chars] for at in range(0, len(text), rule.chunk_chars)]
            for number, chunk in enumerate(chunks):
                if failing and number >= rule.fail_after_chunks:
                    break
                if number:
                    await asyncio.sleep(rule.chunk_delay_s)
                yield TextDelta(chunk)
            if failing:
                raise self._failure(rule)
            inputs = sum(_tokens(message.text) for message in request.messages)
            yield Finish("stop", Usage(inputs, _tokens(text)), model)
        finally:
            self.open_streams -= 1

    def _rule(self, request: ChatRequest) -> tuple[int, ScriptRule]:
        system = "\n".join(message.text for message in request.messages if message.role == "system")
        for position, rule in enumerate(self._rules):
            if re.search(rule.match, request.last_user_text) and re.search(rule.match_system, system):
                return position, rule
        return len(self._rules) - 1, self._rules[-1]

    def _failure(self, rule: ScriptRule) -> ProviderError | LimitExceeded:
        status = rule.fail_status or 500
        if status == 429:
            return LimitExceeded(
                f"provider {self._name!r} refused by its rate limit",
                code="provider_rate_limited",
                retry_after_s=rule.retry_after_s,
            )
        return ProviderError(
            f"provider {self._name!r} answered {status}",
            provider=self._name,
            upstream_status=status,
            retryable=status >= 500,
            retry_after_s=rule.retry_after_s,
        )

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """Unit vectors derived from a hash of each text: equal texts, equal vectors."""
        vectors = []
        for text in texts:
            raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:_DIMENSIONS]]
            norm = math.sqrt(sum(x * x for x in raw))
            vectors.append([x / norm for x in raw])
        return vectors, sum(_tokens(text) for text in texts)

    async def models(self) -> Sequence[str]:
        """The configured names."""
        return self._models

    async def close(self) -> None:
        """Nothing to close."""


def _tokens(text: str) -> int:
    # A word is a token here: predictable figures for tests.
    return len(text.split())


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return ScriptedProvider(name, settings)
