"""Money: prices, overrides, what is unknown, and sums that are exact."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import interlock.testing.postgres
from interlock.core.clock import now
from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import Blocked, ProviderError, Unavailable
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost import store
from interlock.cost.admission import Admission
from interlock.cost.journal import Journal
from interlock.cost.prices import Prices
from interlock.cost.recovery import recover
from interlock.cost.service import Bill, Costs
from interlock.cost.types import PriceOverride
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.sql import open_sql
from interlock.testing.postgres import fresh_database

postgres_server = interlock.testing.postgres.postgres_server
ACME = TenantId("acme")
OWN = {"mine/*": PriceOverride(input_per_million="2", output_per_million="8", cached_per_million="0.5"),
       "mine/cheap": PriceOverride(input_per_million="0.1", output_per_million="0.2")}  # fmt: skip
KINDS = {"openai": "openai", "claude": "anthropic", "local": "local", "mine": "openai", "ollama": "openai"}
PRICES = Prices(OWN, KINDS)
MILLION = 1_000_000


@asynccontextmanager
async def open_costs(sql, folder, rules=(), kv=None):
    journal = Journal(folder / "journal")
    costs = Costs(sql, PRICES, Admission(kv or MemoryKv(), journal, tenant=ACME, rules=rules), journal)
    yield costs
    await costs.close()


def caller(tenant=ACME, user=None):
    ctx = Context(tenant, Principal(PrincipalId("svc"), "service"))
    return ctx.on_behalf_of(EndUser(user)) if user else ctx


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def costs(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'control.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    await sql.migrate()
    async with open_costs(sql, tmp_path) as costs:
        yield costs
    await sql.close()


def test_a_public_price_is_exact_and_names_its_row():
    price = PRICES.lookup("openai", "gpt-4.1-mini", Usage(MILLION, MILLION))
    assert price.cost == Money.of("2.00")  # 0.40 in, 1.60 out
    assert price.source.startswith("genai-prices:openai/")
    cached = PRICES.lookup("openai", "gpt-4.1-mini", Usage(MILLION, 0, MILLION))
    assert cached.cost == Money.of("0.10")


def test_a_provider_under_another_name_is_priced_by_its_kind():
    assert PRICES.lookup("claude", "claude-haiku-4-5", Usage(MILLION, 0)).cost == Money.of("1")


def test_an_override_wins_and_the_exact_one_before_the_general_one():
    assert PRICES.lookup("mine", "big", Usage(MILLION, MILLION)) == (Money.of(10), "override:mine/*")
    assert PRICES.lookup("mine", "cheap", Usage(MILLION, MILLION)) == (Money.of("0.3"), "override:mine/cheap")
    assert PRICES.lookup("mine", "big", Usage(MILLION, 0, MILLION)).cost == Money.of("0.5")
    assert PRICES.lookup("mine", "cheap", Usage(MILLION, 0, MILLION)).cost == Money.of("0.1")


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "brand-new"), ("ollama", "qwen"), ("nobody", "x"), ("openai", "")]
)
def test_an_unknown_price_is_unknown_and_never_zero(provider, model):
    assert PRICES.lookup(provider, model, Usage(1000, 1000)) == (None, "unpriced")


def test_tokens_made_on_this_machine_are_not_bought():
    assert PRICES.lookup("local", "smollm2", Usage(1000, 1000)) == (Money.zero(), "own-machine:local")
    priced = Prices({"local/*": PriceOverride(input_per_million="1", output_per_million="1")}, KINDS)
    assert priced.price("local", "x", Usage(MILLION, 0)) == Money.of(1)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_more_tokens_never_cost_less(inputs, outputs, cached):
    cached = min(cached, inputs)
    less = PRICES.price("mine", "big", Usage(inputs, outputs, cached))
    more = PRICES.price("mine", "big", Usage(inputs + 1, outputs + 1, cached))
    assert less is not None
    assert more is not None
    assert less < more


@pytest.mark.parametrize("price", ["-1", "1e3", "free", "", "1,5", "NaN"])
def test_a_price_that_is_no_amount_is_refused(price):
    with pytest.raises(ValidationError):
        PriceOverride(input_per_million=price, output_per_million="1")


async def test_every_call_of_a_bill_has_a_row_of_its_own(costs):
    ctx = caller(user="ada")
    async with costs.reserve(ctx, None, app="x") as bill:
        await bill.add("mine", "big", Usage(10, 5))
        await bill.add("mine", "cheap", Usage(20, 5, estimated=True))
        await bill.add("mine", "big", Usage(1, 1))
    rows = await costs.ledger(ctx, trace_id=ctx.trace_id)
    assert sorted((r.model, r.usage.total_tokens) for r in rows) == [("big", 2), ("big", 15), ("cheap", 25)]
    assert bill.lines == {("mine", "big"): Usage(11, 6), ("mine", "cheap"): Usage(20, 5, estimated=True)}
    assert {(r.outcome, r.app, r.end_user, r.principal, r.trace_id) for r in rows} == {
        ("ok", "x", "ada", "svc", ctx.trace_id)
    }
    assert sum((r.cost.nano for r in rows), 0) == bill.cost.nano == costs.quote(bill).nano


async def test_one_unpriced_line_makes_the_sum_unknown(costs):
    async with costs.reserve(caller(), None) as bill:
        await bill.add("mine", "big", Usage(10, 5))
        await bill.add("nobody", "x", Usage(10, 5))
    assert bill.cost is None
    assert costs.quote(bill) is None


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [(Blocked("x"), "blocked"), (ProviderError("x", provider="p"), "error"), (ValueError("x"), "error"),
     (asyncio.CancelledError(), "cancelled"), (GeneratorExit(), "cancelled")],
)  # fmt: skip
async def test_a_bill_is_settled_on_every_exit(costs, ending, outcome):
    ctx = caller()

    async def work():
        async with costs.reserve(ctx, None) as bill:
            await bill.add("mine", "big", Usage(1, 1))
            raise ending

    with pytest.raises(type(ending)):
        await work()
    assert [row.outcome for row in await costs.ledger(ctx, trace_id=ctx.trace_id)] == [outcome]


async def test_a_row_of_the_same_id_is_left_out_so_nothing_is_charged_twice(costs):
    async with costs.reserve(caller(), None) as bill:
        await bill.add("mine", "big", Usage(1, 1))
    await costs.flush()
    await costs._sql.write(lambda conn: store.insert_all(conn, bill.entries))
    assert len(await costs.ledger(caller())) == 1


async def test_a_bill_without_lines_writes_nothing(costs):
    async with costs.reserve(caller(), None):
        pass
    assert await costs.ledger(caller()) == []


LINES = st.lists(
    st.tuples(
        st.sampled_from(["mine/big", "mine/cheap", "openai/gpt-4.1-mini", "local/x", "nobody/x"]),
        st.sampled_from(["ada", "bo", ""]),
        st.integers(0, 10**7),
        st.integers(0, 10**7),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(LINES)
async def test_the_sum_of_the_rows_is_the_total_however_it_is_grouped(tmp_path_factory, lines):
    sql = open_sql(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'control.db'}")
    await sql.migrate()
    async with open_costs(sql, tmp_path_factory.mktemp("journal")) as costs:
        await _add_and_compare(costs, lines)
    await sql.close()


async def _add_and_compare(costs, lines):
    start = now() - timedelta(seconds=1)
    for name, user, inputs, outputs in lines:
        provider, model = name.split("/")
        async with costs.reserve(caller(user=user), None, app=user) as bill:
            await bill.add(provider, model, Usage(inputs, outputs))
    async with costs.reserve(caller(TenantId("rival")), None) as bill:
        await bill.add("mine", "big", Usage(MILLION, MILLION))
    rows = await costs.ledger(caller(), limit=1000)
    total = sum(row.cost.nano for row in rows if row.cost is not None)
    for by in ("app", "model", "provider", "principal", "end_user"):
        sums = await costs.spend(caller(), by=by, since=start, until=now() + timedelta(seconds=1))
        assert sum(s.cost.nano for s in sums) == total
        assert sum(s.calls for s in sums) == len(rows) == len(lines)
        assert sum(s.unpriced_calls for s in sums) == sum(row.cost is None for row in rows)
        assert sum(s.input_tokens for s in sums) == sum(line[2] for line in lines)
        assert [s.cost for s in sums] == sorted((s.cost for s in sums), reverse=True)
    assert await costs.spend(caller(), by="app", since=start, until=start) == []


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_money_adds_exactly(a, b):
    assert Money(a) + Money(b) == Money(a + b)
    assert (Money(a) + Money(b)).decimal() == Money(a).decimal() + Money(b).decimal()
    assert Money(a) - Money(a) == Money.zero()
    assert Money.of(Money(a).decimal()) == Money(a)


@given(st.decimals(min_value=-(10**6), max_value=10**6, allow_nan=False, places=12))
def test_dollars_become_money_within_half_a_nano(amount):
    assert abs(Money.of(amount).decimal() - amount) <= Decimal("0.5e-9")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "$0"), ("12", "$12.00"), ("0.01", "$0.010000"), ("0.0000001", "$0.000000100"), ("-3", "$-3.00")],
)
def test_money_is_shown_with_the_digits_it_needs(amount, shown):
    assert str(Money.of(amount)) == shown


def test_an_empty_bill_costs_nothing_yet():
    bill = Bill(None, caller())
    assert bill.usage == Usage()
    assert bill.cost is None


async def test_a_stopped_worker_writes_into_nobody_s_file(tmp_path):
    """A closed journal's number is soon the number of another open file: of the database, for one."""
    sql = open_sql(f"sqlite:///{tmp_path / 'control.db'}")
    await sql.migrate()
    kv = MemoryKv()
    async with open_costs(sql, tmp_path, kv=kv) as costs:
        late = [await costs.open(caller(), None).admit("openai", "gpt-4.1-mini", Usage(10, 5)) for _ in range(2)]
    with (tmp_path / "other").open("wb") as first, (tmp_path / "another").open("wb") as second:
        late[0].drop()
        with pytest.raises(Unavailable, match="stopping"):
            late[1].charge(Usage(10, 5))
        first.flush()
        second.flush()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "another").read_bytes() == b""
    found = await recover(tmp_path / "journal", sql, kv, PRICES)
    assert found.orphaned == 2, "what was open when it stopped is settled at its estimate"
    await sql.close()
