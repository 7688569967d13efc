"""Models that run in this process: llama.cpp by xllamacpp for chat, ONNX for embeddings."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, MissingExtra, ModelMissing, NotFound, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest, FilePart, Finish, ImagePart
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.profiles import profile
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import openai as wire

if TYPE_CHECKING:
    import xllamacpp

__all__ = ["plugin"]


class LocalProvider:
    """Loads each model once, on first use. Models are shared by all requests of the process, and stay until it ends."""

    def __init__(self, name: str, settings: ProviderSettings, deps: ProviderDeps) -> None:
        self._name = name
        self._settings = settings
        self._deps = deps
        self._engines: dict[str, Engine] = {}
        self._loading = asyncio.Lock()  # two first requests must not load the same weights twice

    async def _engine(self, model: str) -> Engine:
        async with self._loading:
            if model not in self._engines:
                if model in self._deps.files.names("embedding"):
                    raise InvalidInput(f"{model!r} is an embedding model: it has vectors, no answers", param="model")
                # NotFound with a near name for an unknown model, ModelMissing with the command for one to fetch.
                path = self._deps.files.file(model, "weights")
                self._engines[model] = await asyncio.to_thread(
                    _engine, str(path), self._settings.context_tokens, self._settings.threads
                )
            return self._engines[model]

    async def warm(self, model: str) -> None:
        """Load `model` now, so that the first question does not wait for it."""
        await self._engine(model)

    async def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.ports.Provider`."""
        self._check(request, model)
        if request.max_output_tokens is None:
            # The engine knows no end of its own, and one answer at a time is all it gives.
            request = replace(request, max_output_tokens=profile(model, self._settings.profiles).max_output_tokens)
        engine = await self._engine(model)
        body = wire.encode_request(request, model, profile(model, self._settings.profiles))
        async with (
            aclosing(engine.chat(body, provider=self._name)) as data,
            aclosing(wire.decode_stream(data, provider=self._name, model=model)) as events,
        ):
            async for event in events:
                # The engine calls the model by its path, which is nobody's business.
                yield replace(event, model=model) if isinstance(event, Finish) else event

    def _check(self, request: ChatRequest, model: str) -> None:
        """Refuse what the model cannot do, before it is loaded or anything is tokenised. Raises: InvalidInput."""
        facts = profile(model, self._settings.profiles)
        characters = sum(len(message.text) for message in request.messages)
        # No tokeniser packs more than a dozen characters into a token on the average.
        if characters > 12 * self._settings.context_tokens:
            raise InvalidInput(
                f"the prompt has {characters:,} characters; this model reads {self._settings.context_tokens:,} tokens",
                param="messages",
                code="context_length_exceeded",
                hint=f"shorten it, or raise gateway.providers.{self._name}.context_tokens",
            )
        if request.tools and not facts.tools:
            raise InvalidInput(f"the model {model!r} has no tools", param="tools", hint="choose a capable model")
        if not facts.images and any(
            isinstance(part, (ImagePart, FilePart)) for message in request.messages for part in message.parts
        ):
            raise InvalidInput(f"the model {model!r} reads only text", param="messages", hint="choose another model")

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """See :class:`interlock.gateway.ports.Provider`."""
        embedder = self._deps.embedders.get(model)
        if embedder is None:
            raise NotFound(
                f"no local embedding model {model!r}",
                param="model",
                code="model_not_found",
                hint="interlock models list",
            )
        vectors = await embedder.embed(texts, "passage")
        return vectors.tolist(), sum(embedder.count_tokens(text) for text in texts)

    async def models(self) -> Sequence[str]:
        """Installed chat models, then embedding models."""
        return [*self._deps.files.names("chat"), *self._deps.files.names("embedding")]

    async def close(self) -> None:
        """Let go of the models. They stay loaded for whoever opens this workspace again in the same process."""
        self._engines.clear()


class Engine:
    """One loaded GGUF model. llama.cpp queues requests by itself; one slot keeps its prompt cache warm."""

    def __init__(self, path: str, context_tokens: int, threads: int) -> None:
        try:
            import xllamacpp
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "local models need the library 'xllamacpp'", hint="pip install 'interlock[local]'"
            ) from error
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx = context_tokens
        params.n_parallel = 1
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.use_jinja = True
        params.warmup = False
        params.verbosity = -1
        # The engine always opens a loopback port; nobody gets the key, so nobody else can use it.
        params.api_keys = [secrets.token_urlsafe(32)]
        try:
            self._server: xllamacpp.Server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ModelMissing(
                "the model's weights cannot be loaded",
                code="model_corrupt",
                hint="fetch them again: interlock models remove NAME && interlock models fetch NAME",
            ) from error
        # Its destructor joins the engine's threads while it holds the interpreter's lock, and now and then never
        # returns (xllamacpp 2026.10); there is no other way to stop it. So it is never destroyed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))

    async def chat(self, body: dict[str, Any], *, provider: str) -> AsyncGenerator[str, None]:
        """Stream one chat; the payloads are OpenAI chunks as JSON text. Closing it stops the model."""
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[str | None] = asyncio.Queue()
        left = threading.Event()

        def take(chunk: object) -> bool:
            # Called on the engine's thread; True stops the generation.
            if not left.is_set():
                loop.call_soon_threadsafe(chunks.put_nowait, json.dumps(chunk))
            return left.is_set()

        def run() -> None:
            try:
                answer = self._server.handle_chat_completions(body, take)
                if isinstance(answer, dict):
                    take(answer)
            finally:
                if not left.is_set():
                    loop.call_soon_threadsafe(chunks.put_nowait, None)

        worker = loop.run_in_executor(None, run)
        try:
            while (chunk := await chunks.get()) is not None:
                _raise_engine_error(chunk, provider)
                yield chunk
            await worker
        finally:
            left.set()
            # The engine notices at its next token; waiting for it keeps shutdown from pulling the model away.
            await asyncio.shield(asyncio.gather(worker, return_exceptions=True))


_engines: dict[tuple[object, ...], Engine] = {}
_loading = threading.Lock()


def _engine(path: str, context_tokens: int, threads: int) -> Engine:
    """The engine of these weights, loaded on the first call in this process. Blocks. Raises: ModelMissing."""
    file = os.stat(path)
    # Weights that were fetched again under the same path are other weights.
    key = (path, file.st_ino, file.st_size, file.st_mtime_ns, context_tokens, threads)
    with _loading:
        if key not in _engines:
            _engines[key] = Engine(path, context_tokens, threads)
        return _engines[key]


def _raise_engine_error(chunk: str, provider: str) -> None:
    if '"error"' not in chunk[:40]:
        return
    error = json.loads(chunk).get("error") or {}
    if error.get("type") == "exceed_context_size_error":
        raise InvalidInput(
            f"the prompt has {error.get('n_prompt_tokens')} tokens; this model reads {error.get('n_ctx')}",
            param="messages",
            code="context_length_exceeded",
            hint=f"shorten it, or raise gateway.providers.{provider}.context_tokens",
        )
    if int(error.get("code") or 500) < 500:
        raise InvalidInput(f"the model's engine refused the request ({error.get('type')})", param="messages")
    raise ProviderError("the model's engine failed", provider=provider, retryable=True)


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return LocalProvider(name, settings, deps)
