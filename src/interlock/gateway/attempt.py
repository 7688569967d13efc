"""One call of one provider, with everything that must happen around it on every exit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId
from interlock.core.messages import Usage
from interlock.core.ports import Admitted, Meter
from interlock.core.trace import Span
from interlock.gateway.health import Health, TargetHealth
from interlock.gateway.ports import Provider
from interlock.gateway.profiles import profile
from interlock.gateway.retry import RetryBudget
from interlock.gateway.settings import GatewaySettings
from interlock.gateway.turns import Priority, Turns
from interlock.gateway.types import ModelProfile, Target

__all__ = ["Attempt", "Attempts", "FreeMeter"]


class _Free:
    """Admitted without limits, charged to nobody."""

    def charge(self, usage: Usage) -> None:
        """See `Admitted.charge`."""

    def drop(self) -> None:
        """See `Admitted.drop`."""


class FreeMeter:
    """Admits everything: for calls that nobody pays for (tests, probes)."""

    def pressure(self) -> float:
        """See `Meter.pressure`."""
        return 0.0

    async def admit(self, provider: str, model: str, estimate: Usage) -> Admitted:
        """See `Meter.admit`."""
        return _Free()


@dataclass(slots=True)
class Attempt:
    """A call under way."""

    ctx: Context
    span: Span
    _admitted: Admitted
    _health: TargetHealth
    _sent_at: float
    _clock: Callable[[], float]
    _estimate: Usage
    began: bool = False
    charged: bool = False

    def first_token(self) -> None:
        """The target began to answer."""
        self.began = True
        at = self._clock()
        self._health.first_token(at, at - self._sent_at)

    def charge(self, usage: Usage) -> None:
        """The target served: settle the call."""
        self.charged = True
        # A broken or hostile server's figures must not refund a budget, or overflow a sum.
        self._admitted.charge(usage if usage.is_plausible else self._estimate)


class Attempts:
    """What all calls of this worker share about providers: connections, turns, health, retry budgets.

    Args:
        open_provider: builds a configured provider; asked once a name.
    """

    def __init__(
        self, settings: GatewaySettings, open_provider: Callable[[str], Provider], clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._open = open_provider
        self._providers: dict[str, Provider] = {}
        self._turns: dict[str, Turns] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self.health = Health(**settings.breaker.model_dump(), clock=clock)

    def following(
        self, settings: GatewaySettings, open_provider: Callable[[str], Provider], kept: Collection[str]
    ) -> Attempts:
        """The attempts of new settings: `kept` providers go on as they are, health is remembered for them."""
        new = Attempts(settings, open_provider, self.health.clock)
        new._providers = {name: provider for name, provider in self._providers.items() if name in kept}
        new._turns = {name: turns for name, turns in self._turns.items() if name in kept}
        new._budgets = {name: budget for name, budget in self._budgets.items() if name in kept}
        for budget in new._budgets.values():
            budget.ratio = settings.retry_ratio
        new.health = self.health
        new.health.use(**settings.breaker.model_dump(), forget=lambda target: target.partition("/")[0] not in kept)
        return new

    @property
    def queues(self) -> Mapping[str, Turns]:
        """Queues of providers that were called."""
        return self._turns

    @property
    def budgets(self) -> Mapping[str, RetryBudget]:
        """Retry budgets of providers that were called."""
        return self._budgets

    @property
    def opened(self) -> Mapping[str, Provider]:
        """Providers in use."""
        return self._providers

    def provider(self, name: str) -> Provider:
        """A configured provider, opened on first use. Raises: KeyError."""
        if name not in self._providers:
            self._providers[name] = self._open(name)
        return self._providers[name]

    def profile(self, target: Target) -> ModelProfile:
        """What is known of a target's model."""
        settings = self._settings.providers.get(target.provider)
        return profile(target.model, settings.profiles if settings is not None else {})

    def turns(self, provider: str) -> Turns:
        """The queue of a provider."""
        if provider not in self._turns:
            settings = self._settings.providers[provider]
            self._turns[provider] = Turns(
                provider, limit=settings.max_concurrency, queue=settings.queue, timeout_s=settings.queue_timeout_s
            )
        return self._turns[provider]

    def retries(self, provider: str) -> RetryBudget:
        """The retry budget of a provider."""
        if provider not in self._budgets:
            self._budgets[provider] = RetryBudget(self._settings.retry_ratio, clock=self.health.clock)
        return self._budgets[provider]

    @asynccontextmanager
    async def attempt(
        self,
        ctx: Context,
        target: Target,
        meter: Meter,
        estimate: Usage,
        *,
        what: str,
        priority: Priority,
        replayed: bool = False,
    ) -> AsyncIterator[Attempt]:
        """Admission, a turn, health and a span around one call; what was not charged is released.

        Args:
            what: OpenTelemetry's operation name: ``chat``, ``embeddings``, ``rerank`` …
            replayed: nothing is sent, the answer is there: no turn is waited for, and it says nothing about health.

        Raises: LimitExceeded, BudgetExceeded before anything is sent.
        """
        admitted = await meter.admit(target.provider, target.model, estimate)
        try:
            turn = self.turns(target.provider).turn(priority, ctx.deadline.remaining_s())
            async with nullcontext() if replayed else turn:
                with ctx.span(f"{what} {target.model}") as (span, inner):
                    span.set(
                        {
                            "gen_ai.operation.name": what,
                            "gen_ai.provider.name": target.provider,
                            "gen_ai.request.model": target.model,
                        }
                    )
                    clock = self.health.clock
                    health = Health(**self._settings.breaker.model_dump()).of(str(target)) if replayed else None
                    health = health or self.health.of(str(target))
                    attempt = Attempt(inner, span, admitted, health, clock(), clock, estimate)
                    with _watched(health, clock, own_key=self.has_own_key(ctx.tenant, target.provider)):
                        try:
                            yield attempt
                        except (asyncio.CancelledError, GeneratorExit):
                            # The caller left a provider that is at work: it will have read all that was sent.
                            if not attempt.charged and not replayed:
                                attempt.charge(Usage(estimate.input_tokens, 0, estimated=True))
                            raise
        finally:
            admitted.drop()

    def has_own_key(self, tenant: TenantId, provider: str) -> bool:
        """Whether calls of a tenant go to a provider under a key that nobody else uses."""
        entry = self._settings.providers.get(provider)
        return entry is not None and tenant in entry.tenant_keys

    async def close(self, *, but: Mapping[str, Provider] | None = None) -> None:
        """Close every provider that was used, except those in `but`."""
        spared = {id(provider) for provider in (but or {}).values()}
        for provider in self._providers.values():
            if id(provider) not in spared:
                await provider.close()
        self._providers.clear()


class _watched:  # noqa: N801 (reads as a statement)
    """Tells a target's health how a call ended."""

    def __init__(self, health: TargetHealth, clock: Callable[[], float], *, own_key: bool) -> None:
        self._health = health
        self._own_key = own_key
        self._clock = clock

    def __enter__(self) -> None:
        self._health.begin(self._clock())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._health.succeeded(self._clock())
        elif isinstance(error, InterlockError):
            self._health.failed(self._clock(), error, own_key=self._own_key)
        else:
            self._health.left()
