"""The gateway's door: name -> route -> targets -> one answer."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import NamedTuple

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import DeadlineExceeded, InterlockError, InvalidInput, NotFound, ProviderError, Unavailable
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Finish,
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    Usage,
)
from interlock.core.trace import Span
from interlock.gateway.ports import Provider, ProviderDeps, Warmable
from interlock.gateway.presets import ProviderKinds
from interlock.gateway.profiles import profile
from interlock.gateway.retry import backoff_s, worth_retrying
from interlock.gateway.settings import GatewaySettings
from interlock.gateway.types import ModelProfile, RouteSpec, Target

__all__ = ["Embeddings", "Gateway", "Served", "collect"]

_log = logging.getLogger("interlock.gateway")
PROVIDERS = ProviderKinds()


@dataclass(slots=True)
class Served:
    """Filled while a stream runs: which target answered, and what it used. What the bill and the span read."""

    target: Target | None = None
    usage: Usage | None = None
    attempts: int = 0
    fallbacks: int = 0


class Embeddings(NamedTuple):
    """Vectors in input order, and the tokens read."""

    vectors: list[list[float]]
    target: Target
    usage: Usage


class Gateway:
    """All configured providers behind one `stream`.

    Args:
        sleep: waits before another try, in seconds.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        deps: ProviderDeps,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._settings = settings
        self._deps = deps
        self._providers: dict[str, Provider] = {}

    @property
    def provider_names(self) -> list[str]:
        """Configured providers, in the order of the configuration."""
        return list(self._settings.providers)

    @property
    def routes(self) -> Mapping[str, RouteSpec]:
        """Named routes of the workspace."""
        return self._settings.routes

    def route(self, model: str) -> RouteSpec:
        """The route behind a model name: ``route/NAME``, or a route of the one target ``provider/model``.

        Raises: NotFound.
        """
        if model.startswith("route/"):
            name = model.removeprefix("route/")
            if name not in self._settings.routes:
                raise NotFound(
                    f"no route named {name!r}",
                    param="model",
                    code="model_not_found",
                    hint=_near(name, list(self._settings.routes), "routes"),
                )
            return self._settings.routes[name]
        target = self._target(model)
        return RouteSpec(targets=[str(target)], max_output_tokens=profile(target.model).max_output_tokens)

    def profile_of(self, route: RouteSpec) -> ModelProfile:
        """Facts about the route's first target."""
        return profile(Target.parse(route.targets[0]).model)

    def _target(self, name: str) -> Target:
        try:
            target = Target.parse(name)
        except ValueError as error:
            raise InvalidInput(str(error), param="model", code="model_not_found") from error
        if target.provider not in self._settings.providers:
            raise NotFound(
                f"no model {name!r}: there is no provider {target.provider!r}",
                param="model",
                code="model_not_found",
                hint=_near(target.provider, self.provider_names, "providers"),
            )
        return target

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            settings = self._settings.providers[name]
            self._providers[name] = PROVIDERS.get(settings.kind)(name, settings, self._deps)
        return self._providers[name]

    async def stream(
        self, ctx: Context, request: ChatRequest, *, route: RouteSpec | None = None, served: Served | None = None
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer `request` from the first target that can, falling back until a first token was sent.

        Args:
            route: overrides the route that `request.model` names.
            served: filled in as the call proceeds.

        Yields deltas and one Finish. Raises: the last target's error when every target failed.
        """
        route = route or self.route(request.model)
        served = served or Served()
        request = _with_defaults(request, route)
        ctx = ctx.with_deadline(Deadline.after(route.total_timeout_s))
        last: InterlockError | None = None
        for position, name in enumerate(route.targets):
            target = self._target(name)
            served.fallbacks = position
            for attempt in range(1, route.retries + 2):
                served.attempts += 1
                began = False
                try:
                    async with aclosing(self._try(ctx, request, target, route, served)) as events:
                        async for event in events:
                            began = True
                            yield event
                    return
                except InterlockError as error:
                    last = error
                    # A token already sent cannot be taken back, and a deadline is the caller's: neither falls back.
                    if began or ctx.deadline.remaining_s() <= 0:
                        raise
                    if attempt > route.retries or not worth_retrying(error):
                        break
                    wait = backoff_s(attempt, error)
                    if wait >= ctx.deadline.remaining_s():
                        break
                    await self._sleep(wait)
        assert last is not None
        raise last

    async def _try(
        self, ctx: Context, request: ChatRequest, target: Target, route: RouteSpec, served: Served
    ) -> AsyncGenerator[ChatEvent, None]:
        with ctx.span(f"chat {target.model}") as (span, ctx):
            span.set(_request_attributes(request, target, served))
            events = self._provider(target.provider).stream(ctx, request, target.model)
            async with aclosing(events):
                first = True
                while True:
                    limit = ctx.deadline.remaining_s()
                    if first:
                        limit = min(limit, route.first_token_timeout_s)
                    try:
                        async with asyncio.timeout(limit):
                            event = await anext(events)
                    except StopAsyncIteration:
                        if served.usage is None:
                            raise Unavailable(
                                f"provider {target.provider!r} ended its answer without finishing it",
                                code="provider_incomplete",
                            ) from None
                        return
                    except TimeoutError as error:
                        what = "sending a first token" if first else "answering"
                        raise DeadlineExceeded(
                            f"{target} took more than {limit:.1f} s {what}",
                            hint="raise the route's first_token_timeout_s or total_timeout_s",
                        ) from error
                    except InterlockError:
                        raise
                    except Exception as error:
                        _log.error("provider %s failed: %s", target.provider, type(error).__name__, exc_info=error)
                        raise ProviderError(
                            f"provider {target.provider!r} failed: {type(error).__name__}",
                            provider=target.provider,
                            code="provider_failed",
                            hint="the log has the details",
                        ) from error
                    if first:
                        served.target = target
                        first = False
                    if isinstance(event, Finish):
                        served.usage = event.usage
                        _finish_attributes(span, event)
                    yield event

    async def complete(
        self, ctx: Context, request: ChatRequest, *, route: RouteSpec | None = None, served: Served | None = None
    ) -> ChatResult:
        """The whole answer at once."""
        return await collect(self.stream(ctx, request, route=route, served=served))

    async def embed(self, ctx: Context, model: str, texts: Sequence[str]) -> Embeddings:
        """Vectors of `texts` by the embedding model ``provider/model``."""
        target = self._target(model)
        with ctx.span(f"embeddings {target.model}") as (span, inner):
            span.set({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": str(target)})
            vectors, tokens = await self._provider(target.provider).embed(inner, texts, target.model)
            span.set({"gen_ai.usage.input_tokens": tokens})
        return Embeddings(vectors, target, Usage(input_tokens=tokens))

    async def models(self) -> list[str]:
        """Everything that can be asked for: routes, then ``provider/model`` of each provider that answers."""
        names = [f"route/{name}" for name in self._settings.routes]
        for provider in self._settings.providers:
            try:
                names += [str(Target(provider, model)) for model in await self._provider(provider).models()]
            except InterlockError:
                # A provider that is down lists nothing; `doctor` and the console say why.
                continue
        return names

    async def warm(self, targets: Sequence[str]) -> list[str]:
        """Load those of `targets` that run in this process; gives what was loaded. Missing weights are left out."""
        loaded = []
        for name in targets:
            target = Target.parse(name)
            if target.provider not in self._settings.providers:
                continue
            provider = self._provider(target.provider)
            if isinstance(provider, Warmable):
                try:
                    await provider.warm(target.model)
                except InterlockError:
                    # The first request says what is missing, with its hint.
                    continue
                loaded.append(name)
        return loaded

    async def check(self, provider: str) -> Sequence[str]:
        """Models of one provider. Raises whatever it raises: for `doctor` and the console."""
        if provider not in self._settings.providers:
            raise NotFound(f"no provider named {provider!r}", hint=_near(provider, self.provider_names, "providers"))
        return await self._provider(provider).models()

    async def close(self) -> None:
        """Close every provider that was used."""
        for provider in self._providers.values():
            await provider.close()
        self._providers.clear()


async def collect(events: AsyncGenerator[ChatEvent, None]) -> ChatResult:
    """Join a stream into one message."""
    texts: list[str] = []
    thoughts: dict[int, ReasoningPart] = {}
    calls: dict[int, ToolCallPart] = {}
    finish: Finish | None = None
    async with aclosing(events):
        async for event in events:
            match event:
                case TextDelta(text):
                    texts.append(text)
                case ReasoningDelta():
                    thought = thoughts.get(event.index, ReasoningPart("", event.origin))
                    thoughts[event.index] = replace(
                        thought,
                        text=thought.text + event.text,
                        signature=(thought.signature or "") + event.signature if event.signature else thought.signature,
                        redacted=thought.redacted or event.redacted,
                        id=thought.id or event.id,
                    )
                case ToolCallDelta(index, call_id, name, arguments):
                    known = calls.get(index, ToolCallPart(call_id or "", name or "", ""))
                    calls[index] = replace(
                        known,
                        id=known.id or call_id or "",
                        name=known.name or name or "",
                        arguments=known.arguments + arguments,
                        signature=known.signature or event.signature,
                    )
                case Finish():
                    finish = event
    assert finish is not None, "a provider's stream ends with Finish or raises"
    parts: list[Part] = [thoughts[index] for index in sorted(thoughts)]
    parts += [TextPart("".join(texts))] if texts else []
    parts += [calls[index] for index in sorted(calls)]
    return ChatResult(Message("assistant", tuple(parts)), finish)


def _near(name: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"{what}: {', '.join(known) or 'none are configured'}; see all with: GET /v1/models"


def _with_defaults(request: ChatRequest, route: RouteSpec) -> ChatRequest:
    return replace(
        request,
        temperature=route.temperature if request.temperature is None else request.temperature,
        top_p=route.top_p if request.top_p is None else request.top_p,
        seed=route.seed if request.seed is None else request.seed,
        max_output_tokens=min(request.max_output_tokens or route.max_output_tokens, route.max_output_tokens),
    )


def _request_attributes(request: ChatRequest, target: Target, served: Served) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": target.provider,
        "gen_ai.request.model": target.model,
        "interlock.attempt": served.attempts,
        "interlock.fallbacks": served.fallbacks,
    }
    if request.max_output_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = request.max_output_tokens
    if request.temperature is not None:
        attributes["gen_ai.request.temperature"] = request.temperature
    return attributes


def _finish_attributes(span: Span, finish: Finish) -> None:
    span.set(
        {
            "gen_ai.response.model": finish.model,
            "gen_ai.response.finish_reasons": finish.reason,
            "gen_ai.usage.input_tokens": finish.usage.input_tokens,
            "gen_ai.usage.output_tokens": finish.usage.output_tokens,
        }
    )
