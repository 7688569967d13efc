"""The price book: overrides of the workspace first, then the public list of the `genai-prices` package."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.types import PriceOverride

__all__ = ["Price", "Prices"]

_OWN_MACHINE = frozenset({"local", "extractive", "scripted"})
_MILLION = Decimal(1_000_000)


class Price(NamedTuple):
    """A cost and where its price came from."""

    cost: Money | None
    source: str


class Prices:
    """Implements :class:`interlock.core.ports.PriceBook`.

    Args:
        overrides: ``provider/model`` or ``provider/*`` to a price.
        kinds: configured provider name to its plug-in kind, which is how public lists know it.
    """

    def __init__(self, overrides: Mapping[str, PriceOverride], kinds: Mapping[str, str]) -> None:
        self._overrides = overrides
        self._kinds = kinds

    def price(self, provider: str, model: str, usage: Usage) -> Money | None:
        """Cost of `usage`, None when unpriced."""
        return self.lookup(provider, model, usage).cost

    def lookup(self, provider: str, model: str, usage: Usage) -> Price:
        """Cost of `usage` and the source of its price."""
        if provider == "cache" and provider not in self._kinds:
            # An answer that was kept: nobody was asked again.
            return Price(Money.zero(), "cache")
        for name in (f"{provider}/{model}", f"{provider}/*"):
            if name in self._overrides and not usage.unmetered:
                return Price(_by_override(self._overrides[name], usage), f"override:{name}")
        kind = self._kinds.get(provider, provider)
        if kind in _OWN_MACHINE:
            # Tokens made on this machine are not bought; its electricity is priced by an override.
            return Price(Money.zero(), f"own-machine:{provider}")
        if usage.unmetered:
            return Price(None, "unpriced")
        return _by_public_list(kind if provider not in {"openai", "anthropic"} else provider, model, usage)


def _by_override(override: PriceOverride, usage: Usage) -> Money:
    cached = override.cached_per_million or override.input_per_million
    fresh = usage.input_tokens - usage.cached_tokens
    dollars = (
        fresh * Decimal(override.input_per_million)
        + usage.cached_tokens * Decimal(cached)
        + usage.output_tokens * Decimal(override.output_per_million)
    ) / _MILLION
    return Money.of(dollars)


def _by_public_list(provider: str, model: str, usage: Usage) -> Price:
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
        return Price(None, "unpriced")
    return Price(Money.of(found.total_price), f"genai-prices:{found.provider.id}/{found.model.id}")
