"""The price book: overrides of the workspace first, then the public list of the `genai-prices` package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.types import PriceOverride

__all__ = ["Price", "Prices", "Rates"]

_OWN_MACHINE = frozenset({"local", "extractive", "scripted"})
_MILLION = Decimal(1_000_000)
_MAX_RATES = 4096


class Price(NamedTuple):
    """A cost and where its price came from."""

    cost: Money | None
    source: str


class Prices:
    """Implements :class:`interlock.core.ports.PriceBook`.

    Args:
        overrides: ``provider/model`` or ``provider/*`` to a price.
        kinds: configured provider name to its plug-in kind, which is how public lists know it.
        batch_discount: ``provider/model`` or ``provider/*`` to what its batch API takes off, 0 to 1.
    """

    def __init__(
        self,
        overrides: Mapping[str, PriceOverride],
        kinds: Mapping[str, str],
        batch_discount: Mapping[str, str] | None = None,
    ) -> None:
        self._overrides = overrides
        self._kinds = kinds
        self._batch_discount = dict(batch_discount or {})
        self._rates: dict[tuple[str, str], Rates] = {}
        self.generation = 0
        """Another number after every change of prices."""

    def use(
        self,
        overrides: Mapping[str, PriceOverride],
        kinds: Mapping[str, str],
        batch_discount: Mapping[str, str] | None = None,
    ) -> None:
        """Price by these from now on."""
        self._overrides, self._kinds = overrides, kinds
        self._batch_discount = dict(batch_discount or {})
        # Of a provider that is another kind now, the list may say something else.
        self._rates.clear()
        self.generation += 1

    def rates(self, provider: str, model: str) -> Rates | None:
        """Prices a token of a model whose cost is linear in them; None of one that must be looked up for each use."""
        if not self.lookup(provider, model, Usage(1000, 1000)).source.startswith("override:"):
            return self._rates.get((provider, model)) or self._free(provider)
        return _by_rates(self._overrides, provider, model)

    def _free(self, provider: str) -> Rates | None:
        if self._kinds.get(provider, provider) in _OWN_MACHINE:
            return Rates(0, 0, 0, 1, f"own-machine:{provider}")
        return None

    def batch_discount(self, provider: str, model: str, announced: str) -> Decimal:
        """What a provider's batch API takes off the price, 0 to 1: as set, else as it announces."""
        for name in (f"{provider}/{model}", f"{provider}/*"):
            if name in self._batch_discount:
                return Decimal(self._batch_discount[name])
        return Decimal(announced)

    def price(self, provider: str, model: str, usage: Usage) -> Money | None:
        """Cost of `usage`, None when unpriced."""
        return self.lookup(provider, model, usage).cost

    def lookup(self, provider: str, model: str, usage: Usage) -> Price:
        """Cost of `usage` and the source of its price."""
        if provider == "cache" and provider not in self._kinds:
            # An answer that was kept: nobody was asked again.
            return Price(Money.zero(), "cache")
        known = self._rates.get((provider, model))
        if known is not None and not usage.unmetered and usage.cached_tokens <= usage.input_tokens:
            nano = known.nano(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
            return Price(Money(nano), known.source)
        for name in (f"{provider}/{model}", f"{provider}/*"):
            if name in self._overrides and not usage.unmetered:
                return Price(_by_override(self._overrides[name], usage), f"override:{name}")
        kind = self._kinds.get(provider, provider)
        if kind in _OWN_MACHINE:
            # Tokens made on this machine are not bought; its electricity is priced by an override.
            return Price(Money.zero(), f"own-machine:{provider}")
        if usage.unmetered:
            return Price(None, "unpriced")
        price, rates = _by_public_list(kind if provider not in {"openai", "anthropic"} else provider, model, usage)
        if rates is not None and len(self._rates) < _MAX_RATES:
            self._rates[provider, model] = rates
        return price


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices a token of a model whose cost is linear, as whole numbers over one denominator: the list itself takes
    longer to ask than a call takes to forward.
    """

    fresh: int
    cached: int
    output: int
    over: int
    """Nano-dollars are the sum divided by this."""
    source: str

    @classmethod
    def of(cls, fresh: Decimal, cached: Decimal, output: Decimal, source: str) -> Rates:
        """From dollars a million tokens."""
        nano = [Fraction(price) * 1000 for price in (fresh, cached, output)]
        over = lcm(*(price.denominator for price in nano))
        first, second, third = (int(price * over) for price in nano)
        return cls(first, second, third, over, source)

    def nano(self, inputs: int, cached: int, outputs: int) -> int:
        """Nano-dollars of a use, `cached` of whose `inputs` were cached, rounded half to even as `Money.of` does."""
        total = (inputs - cached) * self.fresh + cached * self.cached + outputs * self.output
        over = self.over
        if over == 1:
            return total
        whole, rest = divmod(total, over)
        return whole + (2 * rest > over or (2 * rest == over and whole & 1))


def _by_rates(overrides: Mapping[str, PriceOverride], provider: str, model: str) -> Rates | None:
    for name in (f"{provider}/{model}", f"{provider}/*"):
        if name in overrides:
            override = overrides[name]
            fresh = Decimal(override.input_per_million)
            cached = Decimal(override.cached_per_million or override.input_per_million)
            return Rates.of(fresh, cached, Decimal(override.output_per_million), f"override:{name}")
    return None


def _by_override(override: PriceOverride, usage: Usage) -> Money:
    cached = override.cached_per_million or override.input_per_million
    fresh = usage.input_tokens - usage.cached_tokens
    dollars = (
        fresh * Decimal(override.input_per_million)
        + usage.cached_tokens * Decimal(cached)
        + usage.output_tokens * Decimal(override.output_per_million)
    ) / _MILLION
    return Money.of(dollars)


def _by_public_list(provider: str, model: str, usage: Usage) -> tuple[Price, Rates | None]:
    """The price of one use, and the rates behind it when they depend on nothing else."""
    import genai_prices

    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_tokens or None,
                output_tokens=usage.output_tokens,
            ),
            model_ref=model,
            provider_id=provider,
        )
    except (LookupError, ValueError):
        # Not listed, or figures the list's formula refuses: unknown, and so never zero.
        return Price(None, "unpriced"), None
    source = f"genai-prices:{found.provider.id}/{found.model.id}"
    fresh, cached = found.model_price.input_mtok, found.model_price.cache_read_mtok
    output = found.model_price.output_mtok
    rates = None
    # Steps by length and prices by the hour are asked for each time.
    if (
        not isinstance(found.model.prices, list)
        and isinstance(fresh, Decimal)
        and isinstance(output, Decimal)
        and isinstance(cached, (Decimal, type(None)))
    ):
        rates = Rates.of(fresh, fresh if cached is None else cached, output, source)
        told = rates.nano(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        if usage.cached_tokens > usage.input_tokens or Money(told) != Money.of(found.total_price):
            # The list knows more about this model than these three prices.
            rates = None
    return Price(Money.of(found.total_price), source), rates
