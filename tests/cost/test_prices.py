"""A price that is remembered is the price that the public list gives."""

from __future__ import annotations

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.prices import Prices
from interlock.cost.types import PriceOverride

LISTED = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in {"openai", "anthropic", "google", "mistral", "deepseek"}
    for model in provider.models
]
BOOK = Prices({}, {})
tokens = st.integers(0, 400_000)


@given(st.sampled_from(LISTED), tokens, tokens, tokens)
def test_remembered_rates_give_the_list_s_price(listed, inputs, cached, outputs):
    provider, model = listed
    usage = Usage(inputs, outputs, min(cached, inputs))
    try:
        asked = genai_prices.Usage(
            input_tokens=inputs, cache_read_tokens=usage.cached_tokens or None, output_tokens=outputs
        )
        expected = Money.of(genai_prices.calc_price(asked, model_ref=model, provider_id=provider).total_price)
    except (LookupError, ValueError):
        expected = None
    # Twice: the second answer comes from what the first one remembered.
    assert [BOOK.price(provider, model, usage) for _ in range(2)] == [expected, expected]


def test_more_cached_than_input_tokens_has_no_price_however_often_it_is_asked():
    book = Prices({}, {})
    assert book.price("openai", "gpt-4o-mini", Usage(10, 1)) is not None
    assert book.price("openai", "gpt-4o-mini", Usage(10, 1, cached_tokens=11)) is None


@pytest.mark.parametrize("model", ["gpt-4o-mini", "anything"])
def test_an_override_wins(model):
    book = Prices({"up/*": PriceOverride(input_per_million="1", output_per_million="2")}, {"up": "openai"})
    assert book.lookup("up", model, Usage(1_000_000, 500_000)) == (Money.of(2), "override:up/*")
