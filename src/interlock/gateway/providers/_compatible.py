"""OpenAI's endpoints: what `openai`, `azure`, `mistral` and every preset have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Misconfigured, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.http import HttpApi, Signer
from interlock.gateway.lanes.openai import OpenAiLane, WireCodec
from interlock.gateway.lanes.ports import BatchLane, LaneTerms
from interlock.gateway.marks import least_bytes
from interlock.gateway.ports import (
    EmbedInput,
    Forwarding,
    Moderated,
    ProviderDeps,
    RelayAnswer,
    RelayCall,
    Reranked,
    only_texts,
)
from interlock.gateway.presets import Preset
from interlock.gateway.profiles import profile
from interlock.gateway.providers._relay import with_model
from interlock.gateway.providers._signers import KeySigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import openai, rerank, responses

__all__ = ["CompatibleProvider"]

_RELAYED = {
    "transcription": "/audio/transcriptions",
    "translation": "/audio/translations",
    "speech": "/audio/speech",
    "image_generation": "/images/generations",
    "image_edit": "/images/edits",
    "image_variation": "/images/variations",
}


class CompatibleProvider:
    """Bearer key (optional, for local servers), chat completions or responses, embeddings, and what the preset has.

    Args:
        kind: what the configuration calls it, for messages.
        signer: replaces the bearer key.
    """

    def __init__(
        self,
        name: str,
        settings: ProviderSettings,
        deps: ProviderDeps,
        *,
        preset: Preset,
        kind: str,
        signer: Signer | None = None,
    ) -> None:
        self._name = name
        self._settings = _with_key_of(preset, settings)
        self._quirks = preset.quirks
        base_url = settings.base_url or preset.base_url
        if not base_url:
            raise Misconfigured(
                f"provider {name!r} needs its address: every account of {preset.title} has its own",
                param=f"gateway.providers.{name}.base_url",
            )
        if settings.api == "responses" and not preset.quirks.responses:
            raise Misconfigured(
                f"provider {name!r} has no responses API", param=f"gateway.providers.{name}.api", hint="api: chat"
            )
        self._keys = Keys(name, self._settings, deps.environ)
        self._api = HttpApi(name, base_url, settings, signer or KeySigner(self._keys))

    plain = True
    """False where a request is more than OpenAI's with another key."""

    @property
    def lacks(self) -> frozenset[str]:
        """See :class:`interlock.gateway.ports.Lacking`."""
        known = {"json_schema": self._quirks.json_schema, "tools": self._quirks.tools}
        return frozenset(name for name, has in known.items() if not has)

    # Any: JSON on its way out.
    def _encode(self, request: ChatRequest, model: str) -> dict[str, Any]:
        return openai.encode_request(request, model, profile(model, self._settings.profiles), self._quirks)

    def _path(self, path: str, model: str) -> str:
        """Where `path` is for `model`: Azure puts the deployment into it."""
        return path

    def lane(self) -> BatchLane | None:
        """See :class:`interlock.gateway.lanes.ports.HasLane`."""
        if not self._quirks.batches or self._settings.api != "chat":
            return None
        codec = WireCodec(self._encode, self._decode)
        return OpenAiLane(self._name, self._api, codec, endpoint="/v1/chat/completions", terms=LaneTerms())

    def _decode(self, data: AsyncIterator[str], request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        characters = sum(len(message.text) for message in request.messages)
        return openai.decode_stream(data, provider=self._name, model=model, input_characters=characters)

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        if self._settings.api == "responses":
            body = responses.encode_request(request, model, profile(model, self._settings.profiles))
            data = self._api.post_events(ctx, self._path("/responses", model), None, body)
            events = responses.decode_stream(data, provider=self._name, model=model)
        else:
            data = self._api.post_events(
                ctx, self._path("/chat/completions", model), None, self._encode(request, model)
            )
            events = self._decode(data, request, model)
        async with aclosing(data), aclosing(events):
            async for event in events:
                yield event

    async def forwarding(self, ctx: Context, wire: str, model: str) -> Forwarding | None:
        """See :class:`interlock.gateway.ports.Forwards`."""
        known, quirks = profile(model, self._settings.profiles), self._quirks
        paths = {"openai.chat": "/chat/completions", "openai.embeddings": "/embeddings"}
        if wire not in paths or self._settings.api != "chat" or not known.system_role or not self.plain:
            return None
        url, headers = await self._api.head_of(ctx, self._path(paths[wire], model))
        return Forwarding(
            url,
            headers,
            limit_field=quirks.output_token_field or known.output_token_field,
            usage_on_request=quirks.stream_options,
            tools=quirks.tools and known.tools,
            json_schema=quirks.json_schema and known.json_schema,
            effort=quirks.reasoning == "effort",
            embeddings=quirks.embeddings,
            fixed_sampling=known.fixed_sampling,
            marks_from=least_bytes(known) if quirks.cache_marks else 0,
            all=quirks.user and quirks.seed and quirks.parallel_tool_calls,
            connect_timeout_s=self._settings.connect_timeout_s,
            idle_timeout_s=self._settings.idle_timeout_s,
        )

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`."""
        return await self._embedded(ctx, texts, model)

    async def embed_tokens(
        self, ctx: Context, tokens: Sequence[tuple[int, ...]], model: str
    ) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.EmbedsTokens`."""
        if not self._quirks.token_inputs:
            raise only_texts(self._name)
        return await self._embedded(ctx, tokens, model)

    async def _embedded(self, ctx: Context, texts: Sequence[EmbedInput], model: str) -> tuple[list[list[float]], int]:
        if not self._quirks.embeddings:
            raise self._has_no("embeddings")
        answer = await self._api.post_json(
            self._path("/embeddings", model),
            None,
            {"model": model, "input": list(texts), "encoding_format": "float"},
            ctx=ctx,
        )
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = [[float(x) for x in row["embedding"]] for row in rows]
            usage = answer.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or usage.get("total_tokens") or 0)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProviderError(
                f"provider {self._name!r} sent embeddings of another shape", provider=self._name
            ) from error
        if len(vectors) != len(texts):
            raise ProviderError(
                f"provider {self._name!r} sent {len(vectors)} embeddings for {len(texts)} texts", provider=self._name
            )
        return vectors, tokens

    async def rerank(
        self, ctx: Context, query: str, documents: Sequence[str], model: str, *, limit: int | None
    ) -> Reranked:
        """See :class:`interlock.gateway.ports.Reranks`."""
        if self._quirks.rerank is None:
            raise self._has_no("reranking")
        body = rerank.encode_request(query, documents, model, limit=limit, form=self._quirks.rerank_form)
        answer = await self._api.post_json(self._quirks.rerank, None, body, ctx=ctx)
        return rerank.decode_answer(answer, provider=self._name, documents=len(documents), limit=limit)

    async def moderate(self, ctx: Context, inputs: Sequence[str], model: str) -> Sequence[Moderated]:
        """See :class:`interlock.gateway.ports.Moderates`."""
        if not self._quirks.moderations:
            raise self._has_no("moderation")
        answer = await self._api.post_json(
            self._path("/moderations", model), None, {"model": model, "input": list(inputs)}, ctx=ctx
        )
        try:
            verdicts = [_verdict(row) for row in answer["results"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProviderError(
                f"provider {self._name!r} sent verdicts of another shape", provider=self._name
            ) from error
        if len(verdicts) != len(inputs):
            raise ProviderError(
                f"provider {self._name!r} sent {len(verdicts)} verdicts for {len(inputs)} texts", provider=self._name
            )
        return verdicts

    async def relay(self, ctx: Context, call: RelayCall, model: str) -> RelayAnswer:
        """See :class:`interlock.gateway.ports.Relays`."""
        pictures = call.operation.startswith("image")
        if not (self._quirks.images if pictures else self._quirks.audio):
            raise self._has_no("images" if pictures else "audio")
        headers = {"content-type": call.content_type, "accept": call.accept}
        body = with_model(call.content_type, call.body, model)
        return await self._api.relay(ctx, self._path(_RELAYED[call.operation], model), headers, body)

    def _has_no(self, what: str) -> InvalidInput:
        return InvalidInput(f"provider {self._name!r} has no {what}", param="model")

    async def models(self) -> Sequence[str]:
        """Configured models, else what ``GET /models`` lists."""
        if self._settings.models:
            return self._settings.models
        return await self._api.list_models("/models")

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`."""
        await self._api.prove()

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()


def _with_key_of(preset: Preset, settings: ProviderSettings) -> ProviderSettings:
    named = settings.key or settings.api_key_env or settings.api_key_file
    own = any(header.lower() in {"authorization", "api-key"} for header in settings.headers)
    if preset.key_env is None or named or own:
        return settings
    return settings.model_copy(update={"api_key_env": preset.key_env})


def _verdict(row: Mapping[str, Any]) -> Moderated:
    categories = {str(name): bool(value) for name, value in row["categories"].items()}
    scores = {
        str(name): float(value) for name, value in (row.get("category_scores") or {}).items() if value is not None
    }
    # Mistral gives the categories and leaves the verdict to the reader.
    return Moderated(bool(row.get("flagged", any(categories.values()))), categories, scores)
