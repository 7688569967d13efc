"""Gemini on Vertex AI: a project, a location, and a token instead of a key."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import Misconfigured
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.providers._gemini import GeminiProvider
from interlock.gateway.providers._signers import GoogleSigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings

__all__ = ["plugin"]


class VertexProvider(GeminiProvider):
    """Service account, application default credentials or the machine's own account."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        setting = f"gateway.providers.{name}"
        project = settings.project or deps.environ.get("GOOGLE_CLOUD_PROJECT")
        if not project:
            raise Misconfigured(
                f"provider {name!r} needs a project", param=f"{setting}.project", hint="or export GOOGLE_CLOUD_PROJECT"
            )
        location = settings.region or deps.environ.get("GOOGLE_CLOUD_LOCATION") or "global"
        host = "aiplatform.googleapis.com" if location == "global" else f"{location}-aiplatform.googleapis.com"
        self._place = f"/projects/{quote(project, safe='')}/locations/{quote(location, safe='')}"
        signer = GoogleSigner(
            Keys(name, settings, deps.environ),
            deps.environ,
            reference=settings.credentials,
            param=f"{setting}.credentials",
        )
        super().__init__(name, settings, settings.base_url or f"https://{host}/v1", signer, vertex=True)

    def _model(self, model: str) -> str:
        if model.startswith("endpoints/"):
            # A tuned model is behind an endpoint of the project.
            return f"{self._place}/endpoints/{quote(model.removeprefix('endpoints/'), safe='')}"
        publisher, _, name = model.rpartition("/")
        return f"{self._place}/publishers/{quote(publisher or 'google', safe='')}/models/{quote(name, safe='')}"

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`. One text a call: newer models take no more."""
        vectors: list[list[float]] = []
        tokens = 0
        for text in texts:
            body = {"instances": [{"content": text}]}
            answer = await self._api.post_json(f"{self._model(model)}:predict", None, body, ctx=ctx)
            try:
                found = answer["predictions"][0]["embeddings"]
                tokens += int((found.get("statistics") or {}).get("token_count") or 0)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                raise self._other_shape() from error
            vectors += self._vectors([found], 1)
        return vectors, tokens

    async def models(self) -> Sequence[str]:
        """Configured models: Vertex lists a project's own models only, not those that can be asked for."""
        return self._settings.models


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return VertexProvider(name, settings, deps)
