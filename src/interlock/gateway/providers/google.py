"""The Gemini API (Google AI Studio's keys)."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.context import Context
from interlock.core.errors import ProviderError
from interlock.core.messages import count_of
from interlock.gateway.lanes.google import ContentCodec, GoogleLane
from interlock.gateway.lanes.ports import BatchLane
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.profiles import profile
from interlock.gateway.providers._gemini import GeminiProvider
from interlock.gateway.providers._signers import KeySigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import google as wire

__all__ = ["plugin"]

_BATCH = 100


class GoogleProvider(GeminiProvider):
    """`x-goog-api-key`, chat, embeddings, token counts, model list."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        signer = KeySigner(Keys(name, settings, deps.environ), "x-goog-api-key", "")
        address = settings.base_url or "https://generativelanguage.googleapis.com/v1beta"
        super().__init__(name, settings, address, signer, vertex=False)

    def lane(self) -> BatchLane | None:
        """See :class:`interlock.gateway.lanes.ports.HasLane`."""
        codec = ContentCodec(
            lambda request, model: wire.encode_request(request, model, profile(model), vertex=False),
            lambda data, model: wire.decode_stream(data, provider=self._name, model=model),
        )
        return GoogleLane(self._name, self._api, codec)

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`. This endpoint may give no figures: zero tokens then."""
        vectors: list[list[float]] = []
        tokens = 0
        full = f"models/{model.removeprefix('models/')}"
        for at in range(0, len(texts), _BATCH):
            batch = texts[at : at + _BATCH]
            body = {"requests": [{"model": full, "content": {"parts": [{"text": text}]}} for text in batch]}
            answer = await self._api.post_json(f"{self._model(model)}:batchEmbedContents", None, body, ctx=ctx)
            try:
                rows = answer["embeddings"]
                tokens += count_of((answer.get("usageMetadata") or {}).get("promptTokenCount"))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self._other_shape() from error
            vectors += self._vectors(rows, len(batch))
        return vectors, tokens

    async def models(self) -> Sequence[str]:
        """Configured models, else what ``GET /models`` lists."""
        if self._settings.models:
            return self._settings.models
        answer = await self._api.get_json("/models?pageSize=1000")
        try:
            return sorted(str(row["name"]).removeprefix("models/") for row in answer["models"])
        except (KeyError, TypeError) as error:
            raise ProviderError(f"provider {self._name!r} lists no models", provider=self._name) from error


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return GoogleProvider(name, settings, deps)
