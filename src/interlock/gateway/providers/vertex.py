"""Gemini and Claude on Vertex AI: a project, a location, and a token instead of a key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.messages import ChatEvent, ChatRequest, count_of
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.profiles import profile
from interlock.gateway.providers._gemini import GeminiProvider
from interlock.gateway.providers._signers import GoogleSigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import anthropic

__all__ = ["plugin"]

_CLAUDE_VERSION = "vertex-2023-10-16"


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
        self._signer = signer
        super().__init__(name, settings, settings.base_url or f"https://{host}/v1", signer, vertex=True)

    def _model(self, model: str) -> str:
        if model.startswith("endpoints/"):
            # A tuned model is behind an endpoint of the project.
            return f"{self._place}/endpoints/{quote(model.removeprefix('endpoints/'), safe='')}"
        publisher, _, name = model.rpartition("/")
        publisher = publisher or ("anthropic" if _is_claude(model) else "google")
        return f"{self._place}/publishers/{quote(publisher, safe='')}/models/{quote(name, safe='@')}"

    def takes_native(self, origin: str, model: str) -> bool:
        """See :class:`interlock.gateway.ports.TakesNative`."""
        return origin == "anthropic" and _is_claude(model)

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`. Claude is spoken to in its own words."""
        if not _is_claude(model):
            async with aclosing(super().stream(ctx, request, model)) as events:
                async for event in events:
                    yield event
            return
        facts = profile(model, self._settings.profiles)
        body = anthropic.encode_request(request, model, facts)
        del body["model"]
        body["anthropic_version"] = _CLAUDE_VERSION
        answer_tool = anthropic.answer_tool(request, facts)
        async with (
            aclosing(self._api.post_events(ctx, f"{self._model(model)}:streamRawPredict", None, body)) as data,
            aclosing(
                anthropic.decode_stream(data, provider=self._name, model=model, answer_tool=answer_tool)
            ) as events,
        ):
            async for event in events:
                yield event

    async def count_tokens(self, ctx: Context, request: ChatRequest, model: str) -> int:
        """Gemini's own count. Raises: InvalidInput: Claude's prompts are not counted here."""
        if _is_claude(model):
            raise InvalidInput(f"provider {self._name!r} counts no tokens of {model!r}", param="model")
        return await super().count_tokens(ctx, request, model)

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`. One text a call: newer models take no more."""
        vectors: list[list[float]] = []
        tokens = 0
        for text in texts:
            body = {"instances": [{"content": text}]}
            answer = await self._api.post_json(f"{self._model(model)}:predict", None, body, ctx=ctx)
            try:
                found = answer["predictions"][0]["embeddings"]
                tokens += count_of((found.get("statistics") or {}).get("token_count"))
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                raise self._other_shape() from error
            vectors += self._vectors([found], 1)
        return vectors, tokens

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`. No token is fetched: whole credentials are enough."""
        await self._signer.check()

    async def models(self) -> Sequence[str]:
        """Configured models: Vertex lists a project's own models only, not those that can be asked for.

        Raises: Misconfigured: the credentials are not there or not whole, so that none can be asked for.
        """
        await self._signer.check()
        return self._settings.models


def _is_claude(model: str) -> bool:
    return model.startswith(("claude", "anthropic/"))


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return VertexProvider(name, settings, deps)
