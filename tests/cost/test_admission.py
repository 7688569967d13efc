"""Limits at the moment of a call: soft and hard, priced and not, once a request, and never far past the line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import BudgetExceeded, LimitExceeded, Unavailable
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.admission import Admission, Demand
from interlock.cost.journal import Journal
from interlock.cost.limits import LimitRule, Subject
from interlock.cost.prices import Prices
from interlock.cost.service import Costs
from interlock.cost.types import PriceOverride
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.sql import open_sql

ACME = TenantId("acme")
PRICES = Prices({"m/*": PriceOverride(input_per_million="1000000", output_per_million="1000000")}, {})
START = 1_790_000_000.0


def caller(user=None, key="svc"):
    ctx = Context(ACME, Principal(PrincipalId(key), "service"))
    return ctx.on_behalf_of(EndUser(user)) if user else ctx


class Clock:
    at = START


@asynccontextmanager
async def open_costs(folder, *rules, kv=None, clock=None):
    clock = clock or Clock()
    sql = open_sql(f"sqlite:///{folder / 'control.db'}")
    await sql.migrate()
    journal = Journal(folder / "journal")
    kv = kv or MemoryKv(clock=lambda: clock.at)
    admission = Admission(kv, journal, tenant=ACME, rules=rules, clock=lambda: clock.at)
    costs = Costs(sql, PRICES, admission, journal)
    yield costs
    await costs.close()
    await sql.close()


async def used(costs, name):
    return {(use.measure, use.scope): use.used for use in await costs.limit_use(caller()) if use.rule.name == name}


class SlowKv(MemoryKv):
    """Grants a moment after it was asked; `away` refuses to do anything."""

    away = False
    fails_for = ""

    def _look(self, counter):
        if self.away or (self.fails_for and self.fails_for in counter):
            raise Unavailable("the store is away")

    async def grant(self, tenant, counter, *args, **kwargs):
        self._look(counter)
        granted = await super().grant(tenant, counter, *args, **kwargs)
        await asyncio.sleep(0.001)
        return granted

    async def give_back(self, tenant, counter, *args, **kwargs):
        self._look(counter)
        await super().give_back(tenant, counter, *args, **kwargs)


TWO = (
    LimitRule(name="first", window="60s", tokens=1_000_000),
    LimitRule(name="second", period="total", tokens=1_000_000, requests=100_000),
)


async def held(kv, rule, measure="tokens"):
    slot = rule.slot(START)
    return await kv.granted(ACME, f"limit:{rule.name}:{measure}:", slot=slot.number, span=rule.span)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=4, max_size=40))
def test_callers_who_leave_while_they_are_admitted_leave_nothing_behind(leave_after):
    async def work():
        kv = SlowKv(clock=lambda: START)
        journal = Journal(Path(mkdtemp()))
        admission = Admission(kv, journal, tenant=ACME, rules=TWO, clock=lambda: START)
        subject = Subject(ACME, "svc", provider="m", model="x")

        async def ask(rounds):
            demand = Demand(50_000, Money.zero())
            task = asyncio.create_task(admission.reserve(subject, demand, counted=set()))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            try:
                reservation = await task
            except (asyncio.CancelledError, LimitExceeded):
                return
            admission.settle(reservation, 0, 0)

        await asyncio.gather(*[ask(rounds) for rounds in leave_after])
        await admission.tidy(all_of_it=True)
        assert [await held(kv, rule) for rule in TWO] == [0, 0]
        journal.close(remove=True)

    asyncio.run(work())


async def test_what_one_rule_granted_is_given_back_when_the_store_fails_at_the_next(tmp_path):
    kv = SlowKv(clock=lambda: START)
    kv.fails_for = "second"
    async with open_costs(tmp_path, *TWO, kv=kv) as costs:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await costs.admission.reserve(Subject(ACME, "svc"), Demand(200, Money.zero()), counted=set())
        await costs.admission.tidy(all_of_it=True)
        assert await held(kv, TWO[0]) == 0


@pytest.mark.parametrize("actual", [5_000, 30_000], ids=["a return", "a debt"])
async def test_returns_and_debts_wait_for_a_store_that_is_away(tmp_path, actual):
    kv = SlowKv(clock=lambda: START)
    async with open_costs(tmp_path, TWO[1], kv=kv) as costs:
        reservation = await costs.admission.reserve(Subject(ACME, "svc"), Demand(20_000, Money.zero()), counted=set())
        costs.admission.settle(reservation, actual, 0)
        kv.away = True
        for _ in range(2):
            with pytest.raises(Unavailable):
                await costs.admission.tidy(all_of_it=True)
        kv.away = False
        await costs.admission.tidy(all_of_it=True)
        assert await held(kv, TWO[1]) == actual


@pytest.mark.parametrize("field", ["tokens", "requests"])
def test_a_limit_that_no_database_can_count_is_refused(field):
    with pytest.raises(ValueError, match=field):
        LimitRule(name="big", window="60s", **{field: 10**23})


async def test_a_soft_limit_warns_and_lets_every_call_pass(tmp_path):
    rule = LimitRule(name="soft", window="60s", requests=2, mode="soft", warn_at=1)
    async with open_costs(tmp_path, rule) as costs:
        seen = []
        for _ in range(4):
            ctx = caller()
            async with costs.reserve(ctx, None) as bill:
                await bill.add("m", "x", Usage(1, 1))
            seen.append((list(bill.near), list(ctx.notices.near)))
        assert seen == [([], []), (["soft"], ["soft"]), (["soft"], ["soft"]), (["soft"], ["soft"])]
        assert costs.admission.warned == {"requests": 3}
        assert costs.admission.refused == {}
        await costs.tidy()
        assert await used(costs, "soft") == {("requests", ""): 4}


async def test_a_hard_limit_warns_before_it_stops(tmp_path):
    rule = LimitRule(name="hard", window="60s", tokens=10, warn_at=0.5)
    async with open_costs(tmp_path, rule) as costs:
        near = []
        for _ in range(5):
            async with costs.reserve(caller(), None) as bill:
                await bill.add("m", "x", Usage(2, 0))
            near.append(bool(bill.near))
        assert near == [False, False, True, True, True]
        with pytest.raises(LimitExceeded, match="'hard' of 10 tokens"):
            async with costs.reserve(caller(), None) as bill:
                await bill.add("m", "x", Usage(2, 0))
        assert costs.admission.refused == {"tokens": 1}


async def test_a_model_without_a_price_is_refused_by_a_budget_unless_it_says_otherwise(tmp_path):
    strict = LimitRule(name="strict", match={"app": "strict"}, period="month", money="5")
    lenient = LimitRule(name="lenient", match={"app": "lenient"}, period="month", money="5", unpriced="allow")
    soft = LimitRule(name="soft", match={"app": "soft"}, period="month", money="5", mode="soft")
    async with open_costs(tmp_path, strict, lenient, soft) as costs:
        for app in ("lenient", "soft"):
            async with costs.reserve(caller(), None, app=app) as bill:
                await bill.add("nobody", "x", Usage(1, 1))
        with pytest.raises(BudgetExceeded) as caught:
            async with costs.reserve(caller(), None, app="strict") as bill:
                await bill.add("nobody", "x", Usage(1, 1))
        assert (caught.value.code, caught.value.status) == ("unpriced_model", 429)
        assert "cost.prices" in caught.value.hint


async def test_limits_are_asked_again_at_every_target_and_a_request_counts_once(tmp_path):
    rpm = LimitRule(name="rpm", window="60s", requests=100)
    dear = LimitRule(name="dear", match={"model": "m/dear"}, period="day", money="1")
    async with open_costs(tmp_path, rpm, dear) as costs:
        async with costs.reserve(caller(), None) as bill:
            for _ in range(2):
                with pytest.raises(BudgetExceeded):
                    await bill.admit("m", "dear", Usage(5, 0))
            await bill.add("m", "cheap", Usage(5, 0))
        await costs.tidy()
        assert await used(costs, "rpm") == {("requests", ""): 1}
        assert [(entry.model, entry.cost) for entry in bill.entries] == [("cheap", Money.of(5))]


async def test_a_refusal_holds_nothing_under_the_other_rules(tmp_path):
    tokens = LimitRule(name="tokens", window="60s", tokens=1000)
    money = LimitRule(name="money", period="month", money="3")
    async with open_costs(tmp_path, tokens, money) as costs:
        for _ in range(5):
            with pytest.raises(BudgetExceeded):
                async with costs.reserve(caller(), None) as bill:
                    await bill.admit("m", "x", Usage(50, 0))
        await costs.admission.tidy(all_of_it=True)
        assert await used(costs, "tokens") == {("tokens", ""): 0}


async def test_headers_tell_of_the_tightest_hard_limit_also_when_it_refuses(tmp_path):
    rules = [
        LimitRule(name="wide", window="1h", requests=1000),
        LimitRule(name="tight", window="60s", requests=3, per=("user",)),
        LimitRule(name="soft", window="60s", requests=1, mode="soft"),
        LimitRule(name="tokens", period="day", tokens=500, timezone="UTC"),
    ]
    async with open_costs(tmp_path, *rules) as costs:
        ctx = caller("ada")
        async with costs.reserve(ctx, None) as bill:
            await bill.add("m", "x", Usage(10, 10))
        headers = ctx.notices.quota()
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == "2"
        assert headers["x-ratelimit-reset-requests"] == "64s"
        assert headers["x-ratelimit-limit-tokens"] == "500"
        assert headers["x-ratelimit-remaining-tokens"] == "480"
        assert headers["x-ratelimit-reset-tokens"] == f"{86_400 - int(START) % 86_400}s"
        with pytest.raises(LimitExceeded):
            for _ in range(3):
                again = caller("ada")
                async with costs.reserve(again, None) as bill:
                    await bill.add("m", "x", Usage(1, 0))
        assert again.notices.quota()["x-ratelimit-remaining-requests"] == "0"


async def test_without_limits_nothing_is_told(tmp_path):
    async with open_costs(tmp_path) as costs:
        ctx = caller()
        async with costs.reserve(ctx, None) as bill:
            await bill.add("m", "x", Usage(1, 1))
        assert ctx.notices.quota is None
        assert (ctx.notices.target, ctx.notices.input_tokens, ctx.notices.cost_nano) == ("m/x", 1, Money.of(2).nano)


async def test_what_would_refuse_is_told_without_taking_anything(tmp_path):
    rule = LimitRule(name="day", period="day", tokens=100)
    money = LimitRule(name="money", match={"provider": "nobody"}, period="month", money="1")
    async with open_costs(tmp_path, rule, money) as costs:
        subject = Subject(ACME, "svc", provider="m", model="x")
        assert await costs.admission.short(subject, Demand(101, Money.of(1))) == ["day"]
        assert await costs.admission.short(subject, Demand(100, Money.of(1))) == []
        unpriced = Subject(ACME, "svc", provider="nobody", model="x")
        assert await costs.admission.short(unpriced, Demand(1, None)) == ["money"]
        assert await used(costs, "day") == {("tokens", ""): 0}


async def test_the_pressure_is_that_of_the_fullest_budget_about_the_caller(tmp_path):
    rules = [
        LimitRule(name="all", period="month", money="1000"),
        LimitRule(name="ada", match={"user": "ada"}, period="month", money="10"),
    ]
    async with open_costs(tmp_path, *rules) as costs:
        async with costs.reserve(caller("ada"), None) as bill:
            await bill.add("m", "x", Usage(8, 0))
            assert bill.pressure() == pytest.approx(0.8)
        async with costs.reserve(caller("bo"), None) as bill:
            assert bill.pressure() < 0.1


async def test_a_rule_that_changes_keeps_what_was_used_and_what_calls_hold(tmp_path):
    clock = Clock()
    tight = LimitRule(name="b", period="month", money="10")
    async with open_costs(tmp_path, tight, clock=clock) as costs:
        async with costs.reserve(caller(), None) as bill:
            held = await bill.admit("m", "x", Usage(6, 0))
            costs.admission.use_configured([LimitRule(name="b", period="month", money="12")])
            with pytest.raises(BudgetExceeded):
                await bill.admit("m", "x", Usage(7, 0))
            held.charge(Usage(2, 0))
        await costs.tidy()
        assert await used(costs, "b") == {("money", ""): Money.of(2).nano}
        async with costs.reserve(caller(), None) as bill:
            await bill.add("m", "x", Usage(10, 0))
        costs.admission.use_configured([])
        async with costs.reserve(caller(), None) as bill:
            await bill.add("m", "x", Usage(10_000, 0))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), min_size=1, max_size=20),
    st.integers(1, 4),
)
async def test_a_budget_is_passed_by_no_more_than_what_calls_in_flight_underestimated(tmp_path_factory, calls, workers):
    """The documented bound: the sum of (used beyond the estimate) over calls that were in flight together."""
    limit, clock = 100, Clock()
    kv = MemoryKv(clock=lambda: clock.at)
    rule = LimitRule(name="b", period="month", tokens=limit)
    houses = []
    for _ in range(workers):
        journal = Journal(tmp_path_factory.mktemp("journal"))
        houses.append(Admission(kv, journal, tenant=ACME, rules=[rule], clock=lambda: clock.at))
    subject = Subject(ACME, "svc", provider="m", model="x")
    held, excess, spent = [], 0, 0
    for number, (estimate, actual) in enumerate(calls):
        house = houses[number % workers]
        try:
            held.append((house, await house.reserve(subject, Demand(estimate, None), counted=set()), estimate, actual))
        except LimitExceeded:
            continue
    for house, reservation, estimate, actual in held:
        house.settle(reservation, actual, 0)
        excess += max(0, actual - estimate)
        spent += actual
    assert spent <= limit + excess
    # What was used beyond is a debt: nothing more is admitted until there is room for it.
    for house in houses:
        await house.tidy(all_of_it=True)
    if spent >= limit:
        with pytest.raises(LimitExceeded):
            await houses[0].reserve(subject, Demand(1, None), counted=set())
    assert await kv.granted(ACME, "limit:b:tokens:", slot=rule.slot(clock.at).number) == spent


async def test_callers_of_many_workers_at_once_never_pass_a_request_limit(tmp_path):
    clock = Clock()
    kv = MemoryKv(clock=lambda: clock.at)
    rule = LimitRule(name="r", window="60s", requests=25)
    houses = [
        Admission(kv, Journal(tmp_path / str(n)), tenant=ACME, rules=[rule], clock=lambda: clock.at) for n in range(3)
    ]

    async def one(number):
        try:
            await houses[number % 3].reserve(Subject(ACME, "svc"), Demand(1, None), counted=set())
        except LimitExceeded:
            return 0
        return 1

    admitted = sum(await asyncio.gather(*(one(number) for number in range(100))))
    assert admitted <= 25
    for house in houses:
        await house.tidy(all_of_it=True)
    assert await kv.granted(ACME, "limit:r:requests:", slot=rule.slot(clock.at).number, span=rule.span) == admitted
