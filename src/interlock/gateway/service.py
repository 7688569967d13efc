"""The gateway's door: name -> route -> targets -> one answer."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from dataclasses import replace
from typing import NamedTuple

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, NotFound
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
from interlock.core.ports import Meter, PriceBook
from interlock.gateway.attempt import Attempt, Attempts, FreeMeter
from interlock.gateway.call import Call, Served
from interlock.gateway.health import Health
from interlock.gateway.ports import Provider, ProviderDeps, Warmable
from interlock.gateway.presets import ProviderKinds
from interlock.gateway.profiles import profile
from interlock.gateway.routing import Conditions, Facts, Need, Plan, need_of, plan
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import ModelProfile, RouteSpec, Target

__all__ = ["Embeddings", "Gateway", "Served", "collect"]

PROVIDERS = ProviderKinds()


class Embeddings(NamedTuple):
    """Vectors in input order, and the tokens read."""

    vectors: list[list[float]]
    target: Target
    usage: Usage


class Gateway:
    """All configured providers behind one `stream`.

    Args:
        prices: for routes that order by cost.
        sleep: waits before another try, in seconds.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        deps: ProviderDeps,
        *,
        prices: PriceBook | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._settings = settings
        self._deps = deps
        self._facts = Facts(settings.approvals, settings.must_be_approved, prices)
        self._attempts = Attempts(settings, self._opener(settings), time.monotonic)
        self._held: dict[int, int] = {}
        """How many calls are under way that began in a generation."""
        self._retired: list[tuple[int, Attempts]] = []
        """Attempts that no new call uses, with the generation that came after them."""
        self._closing: set[asyncio.Task[None]] = set()
        self.generation = 0
        """Grows with every `reload`: who keeps something derived from the settings looks whether they still hold."""

    @property
    def settings(self) -> GatewaySettings:
        """As they hold now."""
        return self._settings

    @property
    def facts(self) -> Facts:
        """What plans are made from, besides the request."""
        return self._facts

    @property
    def attempts(self) -> Attempts:
        """What calls share: turns, health, retry budgets."""
        return self._attempts

    def hold(self) -> AbstractContextManager[None]:
        """Keeps every provider that is in use now open until the block ends, whatever is reloaded meanwhile."""
        return _Hold(self, self.generation)

    def reload(self, settings: GatewaySettings) -> None:
        """Serve new calls by `settings`; calls under way end with what they began with.

        A provider whose entry did not change keeps its connections, its queue and what is known of its health. The
        others are closed once the calls that may use them have ended. `settings` should have been checked
        (:func:`interlock.gateway.checking.check`).
        """
        kept = {name for name, entry in settings.providers.items() if self._settings.providers.get(name) == entry}
        old = self._attempts
        self._settings = settings
        self._facts = replace(self._facts, register=settings.approvals, must_be_approved=settings.must_be_approved)
        self._attempts = old.following(settings, self._opener(settings), kept)
        self.generation += 1
        self._retired.append((self.generation, old))
        self._close_retired()

    def _close_retired(self) -> None:
        oldest = min((generation for generation, calls in self._held.items() if calls), default=self.generation)
        self._held = {generation: calls for generation, calls in self._held.items() if calls}
        done = [attempts for generation, attempts in self._retired if generation <= oldest]
        self._retired = [entry for entry in self._retired if entry[0] > oldest]
        used = {
            id(provider)
            for attempts in (self._attempts, *(a for _, a in self._retired))
            for provider in attempts.opened.values()
        }
        unused = {id(p): p for attempts in done for p in attempts.opened.values() if id(p) not in used}
        for provider in unused.values():
            task = asyncio.ensure_future(provider.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

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
        target = self.target(model)
        return RouteSpec(targets=[str(target)], max_output_tokens=profile(target.model).max_output_tokens)

    def profile_of(self, route: RouteSpec) -> ModelProfile:
        """Facts about the route's first target."""
        return profile(Target.parse(route.targets[0]).model)

    def target(self, name: str) -> Target:
        """The target of a name. Raises: InvalidInput, NotFound: there is no such provider."""
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

    def provider(self, name: str) -> Provider:
        """A configured provider, opened on first use."""
        return self._attempts.provider(name)

    @property
    def opened(self) -> Mapping[str, Provider]:
        """Providers that are in use."""
        return self._attempts.opened

    def _opener(self, settings: GatewaySettings) -> Callable[[str], Provider]:
        """Opens providers by these settings, whichever hold by then: a call ends with those it began with."""

        def open_provider(name: str) -> Provider:
            entry = settings.providers[name]
            return PROVIDERS.get(entry.kind)(name, entry, self._deps)

        return open_provider

    def build(self, name: str, settings: ProviderSettings) -> Provider:
        """A provider by other settings than those that hold, for checking them; the caller closes it.

        Raises: Misconfigured, InvalidInput, MissingExtra.
        """
        return PROVIDERS.get(settings.kind)(name, settings, self._deps)

    def fit_targets(self, ctx: Context, route: RouteSpec) -> Sequence[Target]:
        """Targets that a caller's requests may be sent to as far as the route, the register and residency go, in order
        of the route.
        """
        anything = Need(tools=False, images=False, json_schema=False, input_tokens=0, output_tokens=0)
        in_order = route.model_copy(update={"strategy": "fallback", "downgrade_at": None})
        healthy = Health(**self._settings.breaker.model_dump())
        conditions = Conditions((tuple(self._settings.residency.get(ctx.tenant, ())),))
        return plan(in_order, anything, healthy, self._facts, conditions=conditions).order

    @property
    def health(self) -> Health:
        """How the targets are doing, as this worker sees it."""
        return self._attempts.health

    def plan(
        self,
        request: ChatRequest,
        route: RouteSpec,
        *,
        ctx: Context,
        pressure: float = 0.0,
        last_resort: bool = False,
    ) -> Plan:
        """Which targets would be tried for a request now, and why not the others."""
        return self.plan_for(
            need_of(request, route),
            route,
            ctx=ctx,
            regions=request.regions,
            pressure=pressure,
            last_resort=last_resort,
        )

    def plan_for(
        self,
        need: Need,
        route: RouteSpec,
        *,
        ctx: Context,
        regions: Sequence[str] = (),
        pressure: float = 0.0,
        last_resort: bool = False,
    ) -> Plan:
        """As `plan`, for what a request would need."""
        unit = "" if route.sticky == "none" else _sticky_unit(ctx, route.sticky)
        residency = (tuple(self._settings.residency.get(ctx.tenant, ())), tuple(regions))
        return plan(
            route,
            need,
            self.health,
            self._facts,
            conditions=Conditions(residency, pressure),
            unit=unit,
            targets=route.smaller if last_resort else None,
        )

    async def stream(
        self,
        ctx: Context,
        request: ChatRequest,
        *,
        route: RouteSpec | None = None,
        served: Served | None = None,
        meter: Meter | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer `request` from the first target that can, falling back until a first token was sent.

        Args:
            route: overrides the route that `request.model` names.
            served: filled in as the call proceeds.
            meter: admits each try under the caller's limits and is charged for the one that serves.

        Yields deltas and one Finish. Raises: the last target's error when every target failed; Unavailable
        (`no_target`) when none may be tried.
        """
        route = route or self.route(request.model)
        served = served or Served()
        meter = meter or FreeMeter()
        request = _with_defaults(request, route)
        ctx = ctx.with_deadline(Deadline.after(route.total_timeout_s))
        served.decision.strategy = route.strategy
        call = Call(self._attempts, request, route, served=served, meter=meter, sleep=self._sleep)
        with self.hold():
            try:
                planned = self.plan(request, route, ctx=ctx, pressure=meter.pressure())
                async with aclosing(call.run(ctx, planned)) as events:
                    async for event in events:
                        yield event
                return
            except InterlockError as error:
                if call.began or "smaller" not in route.degrade or ctx.deadline.remaining_s() <= 0:
                    raise
                failed = error
            smaller = self.plan(request, route, ctx=ctx, pressure=meter.pressure(), last_resort=True)
            if not smaller.order:
                raise failed
            async with aclosing(call.run(ctx, smaller)) as events:
                async for event in events:
                    yield event

    async def complete(
        self,
        ctx: Context,
        request: ChatRequest,
        *,
        route: RouteSpec | None = None,
        served: Served | None = None,
        meter: Meter | None = None,
    ) -> ChatResult:
        """The whole answer at once."""
        return await collect(self.stream(ctx, request, route=route, served=served, meter=meter))

    async def embed(self, ctx: Context, model: str, texts: Sequence[str], *, meter: Meter | None = None) -> Embeddings:
        """Vectors of `texts` by the embedding model ``provider/model`` or by the targets of ``route/NAME``, in order.

        The space of a vector belongs to its model, so a route of several models is for mirrors of one model.
        """
        with self.hold():
            return await self._embed(ctx, model, texts, meter)

    async def _embed(self, ctx: Context, model: str, texts: Sequence[str], meter: Meter | None) -> Embeddings:
        route = self.route(model)
        last: InterlockError | None = None
        for name in route.targets:
            target = self.target(name)
            estimate = Usage(-(-sum(len(text.encode()) for text in texts) // 3) + 2 * len(texts), estimated=True)
            try:
                opened = self._attempts.attempt(
                    ctx, target, meter or FreeMeter(), estimate, what="embeddings", priority=route.priority
                )
                async with opened as attempt:
                    vectors, tokens = await self.provider(target.provider).embed(attempt.ctx, texts, target.model)
                    usage = Usage(input_tokens=tokens) if tokens else estimate
                    attempt.span.set({"gen_ai.usage.input_tokens": usage.input_tokens})
                    attempt.charge(usage)
                return Embeddings(vectors, target, usage)
            except InterlockError as error:
                if isinstance(error, InvalidInput):
                    raise
                last = error
        assert last is not None, "a route has a target"
        raise last

    def attempt(
        self, ctx: Context, target: Target, meter: Meter, estimate: Usage, *, what: str
    ) -> AbstractAsyncContextManager[Attempt]:
        """Admission, a turn, health and a span around one call beyond chat and embeddings (rerank, audio, images)."""
        return self._attempts.attempt(ctx, target, meter, estimate, what=what, priority="normal")

    async def require_listed(self, model: str) -> None:
        """Raise NotFound when the provider of ``provider/model`` lists models and this one is not among them."""
        target = self.target(model)
        try:
            with self.hold():
                listed = await self.provider(target.provider).models()
        except InterlockError:
            # Whether it exists cannot be known now; asking it will tell.
            return
        if listed and target.model not in listed:
            raise NotFound(
                f"no model {model!r}: {target.provider!r} does not list it",
                param="model",
                code="model_not_found",
                hint=_near(target.model, list(listed), "models"),
            )

    async def models(self) -> list[str]:
        """Everything that can be asked for: routes, then ``provider/model`` of each provider that answers."""
        names = [f"route/{name}" for name in self._settings.routes]
        for provider in list(self._settings.providers):
            if provider not in self._settings.providers:
                # A reload took it away while another one was asked.
                continue
            try:
                with self.hold():
                    names += [str(Target(provider, model)) for model in await self.provider(provider).models()]
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
            provider = self.provider(target.provider)
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
        with self.hold():
            return await self.provider(provider).models()

    async def close(self) -> None:
        """Close every provider that was used."""
        await asyncio.gather(*self._closing)
        for _, attempts in self._retired:
            await attempts.close(but=self._attempts.opened)
        self._retired.clear()
        await self._attempts.close()


class _Hold(AbstractContextManager[None]):
    """One call under way. A class, because every call pays for it."""

    __slots__ = ("_began", "_gateway")

    def __init__(self, gateway: Gateway, began: int) -> None:
        self._gateway = gateway
        self._began = began

    def __enter__(self) -> None:
        held = self._gateway._held
        held[self._began] = held.get(self._began, 0) + 1

    def __exit__(self, *_: object) -> None:
        self._gateway._held[self._began] -= 1
        if self._gateway._retired:
            self._gateway._close_retired()


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


def _sticky_unit(ctx: Context, sticky: str) -> str:
    """What sticky routing hashes; falls back to the calling key, so that it stays put all the same."""
    if sticky == "user" and ctx.end_user is not None:
        return f"user:{ctx.end_user.id}"
    return f"conversation:{ctx.conversation}" if ctx.conversation else ctx.assignment_unit
