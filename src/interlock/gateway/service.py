"""The gateway's door: name -> route -> targets -> one answer."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from dataclasses import replace

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, NotFound, Unavailable
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Finish,
    Usage,
)
from interlock.core.ports import Meter, PriceBook
from interlock.gateway.attempt import Attempt, Attempts, FreeMeter
from interlock.gateway.cache.service import PROVIDER as CACHE
from interlock.gateway.cache.service import AnswerCache, CacheCall
from interlock.gateway.cache.types import CacheScope, CacheStatus
from interlock.gateway.call import Call, Served
from interlock.gateway.collecting import collect
from interlock.gateway.embedding import Embedding, Embeddings
from interlock.gateway.handing import Replay
from interlock.gateway.health import Health
from interlock.gateway.ports import EmbedInput, Provider, ProviderDeps, Warmable
from interlock.gateway.posting import chain, posted
from interlock.gateway.presets import ProviderKinds
from interlock.gateway.profiles import profile
from interlock.gateway.routing import Conditions, Facts, Need, Plan, need_of, no_target, plan
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.shadow import Original, ShadowMeter, Shadows, free_shadow_meter
from interlock.gateway.types import Considered, ModelProfile, RouteSpec, Target

__all__ = ["Embeddings", "Gateway", "Served", "collect", "sticky_unit"]

PROVIDERS = ProviderKinds()


_DECIDES_NOTHING = frozenset(
    {"cache", "shadow", "priority", "retries", "total_timeout_s", "try_timeout_s", "first_token_timeout_s", "degrade"}
    | {"smaller", "prompt_cache", "refuse_retry_after_s", "downgrade_at"}
)
"""Fields of a route that do not change what an answer says: answers of last resort are never kept."""


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
        return RouteSpec(targets=[str(target)])

    def profile_of(self, route: RouteSpec) -> ModelProfile:
        """Facts about the route's first target."""
        return profile(Target.parse(route.targets[0]).model)

    def target(self, name: str) -> Target:
        """The target of a name. Raises: InvalidInput, NotFound: there is no such provider."""
        if len(name) > _MOST_NAME or not (name.isascii() and name.isprintable()):
            # It goes into headers, logs and metrics as it is.
            raise InvalidInput(
                f"a model's name has at most {_MOST_NAME} printable ASCII characters",
                param="model",
                code="model_not_found",
            )
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
        self, ctx: Context, route: RouteSpec, *, input_tokens: int = 0, pressure: float = 0.0
    ) -> Sequence[Target]:
        """Targets for a call that is no chat (embeddings, ranking, audio, images), in the order to ask them.

        Args:
            input_tokens: of the longest text that the model reads at once.
            pressure: see `Conditions`.

        Raises: Unavailable: none may be asked.
        """
        need = Need(tools=False, images=False, json_schema=False, input_tokens=input_tokens, output_tokens=0)
        planned = self.plan_for(need, route, ctx=ctx, pressure=pressure)
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
        kept = self._cache_call(ctx, request, route, scope, name)
        call = Call(
            self._attempts, request, route, served=served, meter=meter, sleep=self._sleep, whole=whole, replay=replay
        )
        with self.hold():
            async with aclosing(self._laddered(ctx, request, route, call=call, meter=meter, kept=kept)) as events:
                async for event in events:
                    if gathered is not None:
                        gathered.append(event)
                    if isinstance(event, Finish):
                        served.usage = event.usage
                    yield event
        if route.shadow is not None and gathered and served.cache in {"", "miss", "refresh", "bypass"}:
            original = Original(gathered, time.monotonic() - began_at, served)
            self.shadows.maybe(ctx, request, route.shadow, scope, original)

    async def _laddered(
        self,
        ctx: Context,
        request: ChatRequest,
        route: RouteSpec,
        *,
        call: Call,
        meter: Meter,
        kept: CacheCall | None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """The answer, or what the route's `degrade` has instead, step by step, until something was sent."""
        served = call.served

        def ask() -> AsyncGenerator[ChatEvent, None]:
            return self._targets(ctx, request, route, call, meter)

        def note(status: CacheStatus, target: str) -> None:
            served.caches.append(status)
            if target:
                served.target = Target.parse(target)
                served.note(Considered(f"{CACHE}/{target}", "served"))

        first = (
            ask()
            if kept is None or self.cache is None
            else self.cache.stream(kept, meter, note, ask, target=lambda: str(served.target))
        )
        began = False
        try:
            async with aclosing(first) as events:
                async for event in events:
                    began = True
                    yield event
            return
        except InterlockError as error:
            if began or ctx.deadline.remaining_s() <= 0:
                raise
            failed = error
        for step in route.degrade:
            instead: AsyncGenerator[ChatEvent, None] | None = None
            if step == "smaller":
                instead = self._targets(ctx, request, route, call, meter, last_resort=True)
            elif step == "cache" and kept is not None and self.cache is not None:
                instead = self.cache.stale(kept, meter, note)
            elif step == "refuse":
                raise Unavailable(
                    "no model can answer now",
                    code="degraded_refusal",
                    retry_after_s=failed.retry_after_s or route.refuse_retry_after_s,
                    hint="try again later; the operator sees why in the trace",
                ) from failed
            if instead is None:
                # `extractive` is the answer flow's: it quotes when the model's words do not come.
                continue
            try:
                async with aclosing(instead) as events:
                    async for event in events:
                        began, served.degraded = True, step
                        yield event
            except InterlockError as error:
                if began or ctx.deadline.remaining_s() <= 0:
                    raise
                failed = error if error.code != "no_target" else failed
            if began:
                return
        raise failed

    async def _targets(
        self,
        ctx: Context,
        request: ChatRequest,
        route: RouteSpec,
        call: Call,
        meter: Meter,
        *,
        last_resort: bool = False,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Events of the targets' answer after the route's `post`."""
        if call.replay is None:
            planned = self.plan(request, route, ctx=ctx, pressure=meter.pressure(), last_resort=last_resort)
        else:
            # It was permitted when it was handed over, and it has answered.
            planned = Plan((call.replay.target,), ())
        events = call.run(ctx, planned)
        hooks = chain(route.post)
        async with aclosing(posted(events, hooks) if hooks else events) as stream:
            async for event in stream:
                yield event

    def _cache_call(
        self, ctx: Context, request: ChatRequest, route: RouteSpec, scope: CacheScope, name: str
    ) -> CacheCall | None:
        if route.cache is None or self.cache is None:
            return None
        decides = route.model_dump(mode="json", exclude=set(_DECIDES_NOTHING))
        residency = tuple(sorted(self._settings.residency.get(ctx.tenant, ())))
        return CacheCall(ctx, request, route.cache, scope, name, decides, residency)

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
        call = Call(self._attempts, request, route, served=Served(), meter=meter, sleep=self._sleep)
        with self.hold():
            async with aclosing(self._targets(ctx, request, route, call, meter)) as events:
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
        self, ctx: Context, model: str, texts: Sequence[EmbedInput], *, meter: Meter | None = None
    ) -> Embeddings:
        """Vectors of `texts` by the embedding model ``provider/model`` or by the targets of ``route/NAME``, in order.

        Either all of `texts` are texts, or all are token numbers, which only some providers take.
        The space of a vector belongs to its model, so a route of several models is for mirrors of one model.
        """
        route = self.route(model)
        longest = max((len(text) // 3 if isinstance(text, str) else len(text) for text in texts), default=0)
        paying = meter or FreeMeter()
        with self.hold():
            targets = self.order(ctx, route, input_tokens=longest, pressure=paying.pressure())
            return await Embedding(self._attempts, self.cache).vectors(ctx, texts, targets, route, paying)

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
        """Stop copies under way, then close every provider that was used."""
        await self.shadows.close()
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


_MOST_NAME = 256


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
