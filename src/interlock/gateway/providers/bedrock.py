"""Amazon Bedrock: Converse for chat, InvokeModel for embeddings and reranking.

Signs with AWS credentials found as AWS's own tools find them, or sends a Bedrock API key where one is configured.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Misconfigured, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest, count_of
from interlock.gateway.clouds.aws import AwsCredentials, region_of
from interlock.gateway.http import HttpApi, Signer
from interlock.gateway.ports import Provider, ProviderDeps, Reranked
from interlock.gateway.profiles import profile
from interlock.gateway.providers._signers import AwsSigner, KeySigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import bedrock as wire
from interlock.gateway.wires import rerank

__all__ = ["plugin"]

_COHERE_BATCH = 96


class BedrockProvider:
    """One region of one account."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        self._name = name
        self._settings = settings
        region = settings.region or region_of(deps.environ)
        if not region:
            raise Misconfigured(
                f"provider {name!r} needs a region",
                param=f"gateway.providers.{name}.region",
                hint="or export AWS_REGION=…",
            )
        signer = _signer(name, settings, deps, region)
        runtime = settings.base_url or f"https://bedrock-runtime.{region}.amazonaws.com"
        control = settings.base_url or f"https://bedrock.{region}.amazonaws.com"
        self._api = HttpApi(name, runtime, settings, signer)
        self._control = HttpApi(name, control, settings, signer)

    @property
    def lacks(self) -> frozenset[str]:
        """See :class:`interlock.gateway.ports.Lacking`: this API wants a schema, not just any JSON object."""
        return frozenset({"json_object"})

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        body = wire.encode_request(request, model, profile(model, self._settings.profiles))
        path = f"/model/{quote(model, safe='')}/converse-stream"
        headers = {"accept": "application/vnd.amazon.eventstream"}
        async with (
            aclosing(self._api.post_frames(ctx, path, headers, body)) as frames,
            aclosing(wire.decode_stream(frames, provider=self._name, model=model)) as events,
        ):
            async for event in events:
                yield event

    # Any: JSON of a model of its own.
    async def _invoke(self, ctx: Context, model: str, body: dict[str, Any]) -> Any:
        return await self._api.post_json(f"/model/{quote(model, safe='')}/invoke", None, body, ctx=ctx)

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`. Titan takes one text a call; Cohere's gives no figures."""
        if "titan-embed" not in model and "cohere.embed" not in model:
            raise InvalidInput(f"provider {self._name!r} has no embeddings of {model!r}", param="model")
        vectors: list[list[float]] = []
        tokens = 0
        try:
            if "titan-embed" in model:
                for text in texts:
                    answer = await self._invoke(ctx, model, {"inputText": text})
                    vectors.append([float(x) for x in answer["embedding"]])
                    tokens += count_of(answer.get("inputTextTokenCount"))
            else:
                for at in range(0, len(texts), _COHERE_BATCH):
                    batch = list(texts[at : at + _COHERE_BATCH])
                    answer = await self._invoke(
                        ctx,
                        model,
                        {"texts": batch, "input_type": "search_document", "embedding_types": ["float"]},
                    )
                    rows = answer["embeddings"]
                    vectors += [[float(x) for x in row] for row in (rows if isinstance(rows, list) else rows["float"])]
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
        """See :class:`interlock.gateway.ports.Reranks`. Cohere's and Amazon's rerankers; one search a call."""
        if "rerank" not in model:
            raise InvalidInput(f"provider {self._name!r} has no reranking by {model!r}", param="model")
        body: dict[str, Any] = {"query": query, "documents": list(documents)}
        body |= {"top_n": limit} if limit is not None else {}
        body |= {"api_version": 2} if "cohere." in model else {}
        answer = await self._invoke(ctx, model, body)
        found = rerank.decode_answer(answer, provider=self._name, documents=len(documents), limit=limit)
        return Reranked(found.rows, found.usage, searches=max(found.searches, -(-len(documents) // 100)))

    async def count_tokens(self, ctx: Context, request: ChatRequest, model: str) -> int:
        """See :class:`interlock.gateway.ports.CountsTokens`."""
        whole = wire.encode_request(request, model, profile(model, self._settings.profiles))
        converse = {name: whole[name] for name in ("messages", "system", "toolConfig") if name in whole}
        path = f"/model/{quote(model, safe='')}/count-tokens"
        answer = await self._api.post_json(path, None, {"input": {"converse": converse}}, ctx=ctx)
        try:
            return int(answer["inputTokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"provider {self._name!r} sent no count", provider=self._name) from error

    async def models(self) -> Sequence[str]:
        """Configured models, else the region's models and inference profiles."""
        if self._settings.models:
            return self._settings.models
        models = await self._control.get_json("/foundation-models")
        profiles = await self._control.get_json("/inference-profiles?maxResults=1000")
        try:
            names = [str(row["modelId"]) for row in models["modelSummaries"]]
            names += [str(row["inferenceProfileId"]) for row in profiles.get("inferenceProfileSummaries") or ()]
        except (AttributeError, KeyError, TypeError) as error:
            raise ProviderError(f"provider {self._name!r} lists no models", provider=self._name) from error
        return sorted(set(names))

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`."""
        await self._api.prove()

    async def close(self) -> None:
        """Close pooled connections."""
        await self._api.close()
        await self._control.close()


def _signer(name: str, settings: ProviderSettings, deps: ProviderDeps, region: str) -> Signer:
    if deps.environ.get("AWS_BEARER_TOKEN_BEDROCK") and not (settings.key or settings.api_key_file or settings.profile):
        settings = settings.model_copy(update={"api_key_env": settings.api_key_env or "AWS_BEARER_TOKEN_BEDROCK"})
    keys = Keys(name, settings, deps.environ)
    if keys.configured:
        return KeySigner(keys)
    credentials = AwsCredentials(
        deps.environ, profile=settings.profile, param=f"gateway.providers.{name}.profile", region=region
    )
    return KeySigner(keys, otherwise=AwsSigner(credentials, region=region, service="bedrock"))


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return BedrockProvider(name, settings, deps)
