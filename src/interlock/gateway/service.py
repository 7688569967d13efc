"""The gateway's door: name -> route -> targets -> one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from dataclasses import replace

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Finish,
    Usage,
)
from interlock.core.ports import Meter, PriceBook
from interlock.gateway.attempt import Attempt, Attempts, FreeMeter
from interlock.gateway.cache.service import AnswerCache
from interlock.gateway.cache.types import CacheScope
from interlock.gateway.call import Call, Served
from interlock.gateway.collecting import collect
from interlock.gateway.embedding import Embedding, Embeddings
from interlock.gateway.handing import Replay
from interlock.gateway.health import Health
from interlock.gateway.ladder import Ladder, cache_call, targets
from interlock.gateway.lifetimes import Lifetimes
from interlock.gateway.naming import near, route_of, target_of
from interlock.gateway.ports import EmbedInput, Proves, Provider, ProviderDeps, Warmable
from interlock.gateway.posting import chain
from interlock.gateway.presets import ProviderKinds
from interlock.gateway.routing import Conditions, Facts, Need, Plan, need_of, no_target, plan
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.shadow import Original, ShadowMeter, Shadows, free_shadow_meter
from interlock.gateway.types import ModelFacts, ModelProfile, RouteSpec, Target

__all__ = ["Embeddings", "Gateway", "Served", "collect", "sticky_unit"]

PROVIDERS = ProviderKinds()


_REPLAYED: Mapping[str, object] = {
    "strategy": "fallback", "retries": 0, "cache": None, "shadow": None, "degrade": [], "try_timeout_s": None,
}  # fmt: skip


class Gateway:
    """All configured providers behind one `stream`.

    Args:
        prices: for routes that order by cost.
        sleep: waits before another try, in seconds.
        cache: where answers are kept; without it routes with `cache` keep nothing.
        shadow_meter: opens a bill for copies of requests, where a route charges them.

    Raises: Misconfigured: a route asks for a hook or a semantic cache that is not there.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        deps: ProviderDeps,
        *,
        prices: PriceBook | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        cache: AnswerCache | None = None,
        shadow_meter: ShadowMeter = free_shadow_meter,
    ) -> None:
        self._sleep = sleep
        self.cache = cache
        self.shadows = Shadows(self._ask_one, shadow_meter)
        for name, route in settings.routes.items():
            chain(route.post)
            if cache is not None and route.cache is not None:
                cache.check(name, route.cache)
        self._settings = settings
        self._deps = deps
        self._facts = Facts(settings.approvals, settings.must_be_approved, prices, profiles=_profiles_of(settings))
        self._lifetimes = Lifetimes(Attempts(settings, self._opener(settings), time.monotonic))

    @property
    def generation(self) -> int:
        """Grows with every `reload`: who keeps something derived from the settings looks whether they still hold."""
        return self._lifetimes.generation

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
        return self._lifetimes.present

    def hold(self) -> AbstractContextManager[None]:
        """Keeps every provider that is in use now open until the block ends, whatever is reloaded meanwhile."""
        return self._lifetimes.hold()

    def reload(self, settings: GatewaySettings) -> None:
        """Serve new calls by `settings`; calls under way end with what they began with.

        A provider whose entry did not change keeps its connections, its queue and what is known of its health. The
        others are closed once the calls that may use them have ended. `settings` should have been checked
        (:func:`interlock.gateway.checking.check`).
        """
        kept = {name for name, entry in settings.providers.items() if self._settings.providers.get(name) == entry}
        following = self.attempts.following(settings, self._opener(settings), kept)
        self._settings = settings
        self._facts = replace(
            self._facts,
            register=settings.approvals,
            must_be_approved=settings.must_be_approved,
            profiles=_profiles_of(settings),
        )
        self._lifetimes.replace(following)

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

        Raises: NotFound, InvalidInput.
        """
        return route_of(self._settings, model)

    def target(self, name: str) -> Target:
        """The target of a name. Raises: InvalidInput, NotFound: there is no such provider."""
        return target_of(self._settings, name)

    def profile_of(self, route: RouteSpec) -> ModelProfile:
        """Facts about the route's first target."""
        return self.profile(Target.parse(route.targets[0]))

    def profile(self, target: Target) -> ModelProfile:
        """What is known of a target's model."""
        return self._facts.profile(target)

    def provider(self, name: str) -> Provider:
        """A configured provider, opened on first use."""
        return self.attempts.provider(name)

    @property
    def opened(self) -> Mapping[str, Provider]:
        """Providers that are in use."""
        return self.attempts.opened

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

    def may_ask(self, ctx: Context, model: str) -> bool:
        """Whether route, register and residency leave a caller any target of ``route/NAME`` or ``provider/model``."""
        try:
            return bool(self.fit_plan(ctx, self.route(model)).order)
        except (InvalidInput, NotFound):
            # A provider may list names that nobody can ask for here.
            return False

    def fit_plan(self, ctx: Context, route: RouteSpec) -> Plan:
        """Targets that a caller's requests may be sent to as far as the route, the register and residency go, in order
        of the route, and those that may not be sent any.
        """
        anything = Need(tools=False, images=False, json_schema=False, input_tokens=0, output_tokens=0)
        in_order = route.model_copy(update={"strategy": "fallback", "downgrade_at": None})
        healthy = Health(**self._settings.breaker.model_dump())
        conditions = Conditions((tuple(self._settings.residency.get(ctx.tenant, ())),))
        return plan(in_order, anything, healthy, self._facts, conditions=conditions)

    @property
    def health(self) -> Health:
        """How the targets are doing, as this worker sees it."""
        return self.attempts.health

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

    def with_defaults(self, request: ChatRequest, route: RouteSpec) -> ChatRequest:
        """The request with what its route says where the caller says nothing."""
        return _with_defaults(request, route)

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
        unit = sticky_unit(ctx, route)
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

    def order(
        self,
        ctx: Context,
        route: RouteSpec,
        *,
        input_tokens: int = 0,
        pressure: float = 0.0,
        served: Served | None = None,
    ) -> Sequence[Target]:
        """Targets for a call that is no chat (embeddings, ranking, audio, images), in the order to ask them.

        Args:
            input_tokens: of the longest text that the model reads at once.
            pressure: see `Conditions`.
            served: told of those that may not be asked.

        Raises: Unavailable: none may be asked.
        """
        need = Need(tools=False, images=False, json_schema=False, input_tokens=input_tokens, output_tokens=0)
        planned = self.plan_for(need, route, ctx=ctx, pressure=pressure)
        if served is not None:
            for refused in planned.refused:
                served.note(refused)
        if not planned.order:
            raise no_target(planned)
        return planned.order

    async def stream(
        self,
        ctx: Context,
        request: ChatRequest,
        *,
        route: RouteSpec | None = None,
        served: Served | None = None,
        meter: Meter | None = None,
        scope: CacheScope | None = None,
        whole: bool = False,
        replay: Replay | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer `request`: from the cache, else from the first target that can, falling back until a first token.

        Args:
            route: overrides the route that `request.model` names.
            served: filled in as the call proceeds.
            meter: admits each try under the caller's limits and is charged for the one that serves.
            scope: app, release and knowledge that the call belongs to, for the keys of kept answers.
            whole: nobody reads before the end, so an answer that breaks off half way is asked for again as well.
            replay: its answer, given before by the batch API of the one target that is then asked; no cache is.

        Yields deltas and one Finish. Raises: the last target's error when every target failed and no step of the
        route's `degrade` helped; Unavailable (`no_target`) when none may be tried, (`degraded_refusal`) when the route
        says to refuse.
        """
        name = request.model.removeprefix("route/") if request.model.startswith("route/") else ""
        route = route or self.route(request.model)
        if replay is not None:
            route = route.model_copy(update={"targets": [str(replay.target)], **_REPLAYED})
        served = served or Served()
        meter = meter or FreeMeter()
        scope = scope or CacheScope()
        request = self.with_defaults(request, route)
        ctx = ctx.with_deadline(Deadline.after(route.total_timeout_s))
        served.decision.strategy = route.strategy
        gathered: list[ChatEvent] | None = [] if route.shadow is not None else None
        began_at = time.monotonic()
        residency = tuple(sorted(self._settings.residency.get(ctx.tenant, ())))
        kept = None
        if self.cache is not None:
            kept = cache_call(ctx, request, route, scope, name=name, residency=residency)
        call = Call(
            self.attempts, request, route, served=served, meter=meter, sleep=self._sleep, whole=whole, replay=replay
        )

        def planned(last_resort: bool) -> Plan:
            if replay is not None:
                # It was permitted when it was handed over, and it has answered.
                return Plan((replay.target,), ())
            return self.plan(request, route, ctx=ctx, pressure=meter.pressure(), last_resort=last_resort)

        ladder = Ladder(ctx, route, call, meter, plan=planned, cache=self.cache, kept=kept)
        with self.hold():
            async with aclosing(ladder.events()) as events:
                async for event in events:
                    if gathered is not None:
                        gathered.append(event)
                    if isinstance(event, Finish):
                        served.usage = event.usage
                    yield event
        if route.shadow is not None and gathered and served.cache in {"", "miss", "refresh", "bypass"}:
            original = Original(gathered, time.monotonic() - began_at, served)
            self.shadows.maybe(ctx, request, route.shadow, scope, original)

    async def _ask_one(
        self, ctx: Context, request: ChatRequest, target: Target, meter: Meter, timeout_s: float
    ) -> AsyncGenerator[ChatEvent, None]:
        """One target's events for a copy of a request."""
        route = RouteSpec(
            targets=[str(target)],
            retries=0,
            total_timeout_s=timeout_s,
            priority="low",
        )
        self.target(str(target))
        call = Call(self.attempts, request, route, served=Served(), meter=meter, sleep=self._sleep)
        with self.hold():
            planned = self.plan(request, route, ctx=ctx, pressure=meter.pressure())
            async with aclosing(targets(ctx, route, call, planned)) as events:
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
        scope: CacheScope | None = None,
    ) -> ChatResult:
        """The whole answer at once."""
        return await collect(
            self.stream(ctx, request, route=route, served=served, meter=meter, scope=scope, whole=True)
        )

    async def embed(
        self,
        ctx: Context,
        model: str,
        texts: Sequence[EmbedInput],
        *,
        meter: Meter | None = None,
        served: Served | None = None,
    ) -> Embeddings:
        """Vectors of `texts` by the embedding model ``provider/model`` or by the targets of ``route/NAME``, in order.

        Either all of `texts` are texts, or all are token numbers, which only some providers take.
        The space of a vector belongs to its model, so a route of several models is for mirrors of one model.

        Args:
            served: filled in as the call proceeds.
        """
        served = served or Served()
        route = self.route(model)
        longest = max((len(text) // 3 if isinstance(text, str) else len(text) for text in texts), default=0)
        paying = meter or FreeMeter()
        with self.hold():
            targets = self.order(ctx, route, input_tokens=longest, pressure=paying.pressure(), served=served)
            embedding = Embedding(self.attempts, self.cache)
            return await embedding.vectors(ctx, texts, targets, route, paying, served=served)

    def attempt(
        self, ctx: Context, target: Target, meter: Meter, estimate: Usage, *, what: str
    ) -> AbstractAsyncContextManager[Attempt]:
        """Admission, a turn, health and a span around one call beyond chat and embeddings (rerank, audio, images)."""
        return self.attempts.attempt(ctx, target, meter, estimate, what=what, priority="normal")

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
                hint=near(target.model, list(listed), "models"),
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
        """Models of one provider, whose key is there. Raises whatever it raises: for `doctor` and the console."""
        if provider not in self._settings.providers:
            raise NotFound(f"no provider named {provider!r}", hint=near(provider, self.provider_names, "providers"))
        with self.hold():
            found = self.provider(provider)
            if isinstance(found, Proves):
                # The list may stand in the settings, and then nothing was asked that needs the key.
                await found.prove()
            return await found.models()

    async def close(self) -> None:
        """Stop copies under way, then close every provider that was used."""
        await self.shadows.close()
        await self._lifetimes.close()


def _with_defaults(request: ChatRequest, route: RouteSpec) -> ChatRequest:
    return replace(
        request,
        temperature=route.temperature if request.temperature is None else request.temperature,
        top_p=route.top_p if request.top_p is None else request.top_p,
        seed=route.seed if request.seed is None else request.seed,
        max_output_tokens=route.limit(request.max_output_tokens),
    )


def sticky_unit(ctx: Context, route: RouteSpec) -> str:
    """What sticky routing hashes; empty draws anew.

    Without its conversation's id a call of `sticky: conversation` is not pinned: one key may carry all of an
    application's conversations. `sticky: user` without a user stays put by the key.
    """
    if route.sticky == "none":
        return ""
    if route.sticky == "user" and ctx.end_user is not None:
        return f"user:{ctx.end_user.id}"
    if ctx.conversation:
        return f"conversation:{ctx.conversation}"
    return ctx.assignment_unit if route.sticky == "user" else ""


def _profiles_of(settings: GatewaySettings) -> Mapping[str, Mapping[str, ModelFacts]]:
    return {name: entry.profiles for name, entry in settings.providers.items() if entry.profiles}
