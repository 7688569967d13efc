"""Limits set while Interlock runs, and counters compared with the ledger."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import interlock.testing.postgres
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.errors import Conflict, Forbidden, InvalidInput, LimitExceeded, Misconfigured, NotFound
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost import store
from interlock.cost.admission import Admission
from interlock.cost.journal import Journal
from interlock.cost.limits import LimitRule
from interlock.cost.prices import Prices
from interlock.cost.reconcile import reconcile
from interlock.cost.recovery import recover
from interlock.cost.rules import Rules, read_rule
from interlock.cost.service import Costs
from interlock.cost.types import PriceOverride
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import open_sql
from interlock.testing.postgres import fresh_database

postgres_server = interlock.testing.postgres.postgres_server
ACME, RIVAL = TenantId("acme"), TenantId("rival")
PRICES = Prices({"m/*": PriceOverride(input_per_million="1000000", output_per_million="1000000")}, {})
CONFIGURED = LimitRule(name="configured", window="60s", requests=100)


class Log:
    def __init__(self):
        self.lines = []

    async def append(self, event):
        self.lines.append((event.tenant, event.actor, event.action, event.subject))

    def append_soon(self, event):
        raise AssertionError("administrative acts are written at once")


def caller(*roles, tenant=ACME):
    return Context(tenant, Principal(PrincipalId("ops"), "service", frozenset(roles)))


OPERATOR = caller(Role.OPERATOR)


class Worker:
    """One process: its own journal, counters and rules, the common database."""

    def __init__(self, sql, folder, log, rules=(CONFIGURED,), pseudonym=None):
        self.kv = SqlKv(sql)
        self.journals = folder / "journal"
        self.journal = Journal(self.journals)
        self.admission = Admission(self.kv, self.journal, tenant=ACME, rules=rules)
        self.costs = Costs(sql, PRICES, self.admission, self.journal, pseudonym=pseudonym)
        self.rules = Rules(sql, self.admission, log)
        self.sql, self.log = sql, log

    async def call(self, tokens, ctx=OPERATOR, app=""):
        async with self.costs.reserve(ctx, None, app=app) as bill:
            await bill.add("m", "x", Usage(tokens, 0))

    async def compare(self, *, repair=False, ctx=OPERATOR):
        found = await reconcile(self.costs, self.sql, self.kv, self.log, ctx, journals=self.journals, repair=repair)
        return found, {(row.rule.name, row.measure): (row.counted, row.ledger, row.state) for row in found.differences}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def sql(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'control.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    found = open_sql(url)
    await found.migrate()
    yield found
    await found.close()


@asynccontextmanager
async def workers(sql, folder, count=1, **given):
    log = Log()
    found = [Worker(sql, folder, log, **given) for _ in range(count)]
    yield found
    for worker in found:
        await worker.costs.close()


async def test_a_rule_that_one_worker_sets_holds_in_the_others_at_their_next_look(sql, tmp_path):
    async with workers(sql, tmp_path, 2) as (first, second):
        await first.rules.put(OPERATOR, LimitRule(name="few", window="60s", requests=1))
        await first.call(1)
        await second.rules.refresh()
        with pytest.raises(LimitExceeded):
            await second.call(1)
        await second.rules.remove(OPERATOR, "few")
        await first.rules.refresh()
        await first.call(1)
        assert [line[1:] for line in first.log.lines] == [("ops", "limit.set", "few"), ("ops", "limit.remove", "few")]


async def test_a_rule_that_is_changed_twice_in_a_row_is_seen_by_the_others(sql, tmp_path):
    async with workers(sql, tmp_path, 2) as (first, second):
        for requests in (5, 7):
            await first.rules.put(OPERATOR, LimitRule(name="r", window="60s", requests=requests))
            await second.rules.refresh()
            assert second.rules.get(OPERATOR, "r").rule.requests == requests


async def test_a_rule_set_over_a_configured_one_stands_in_for_it_until_it_is_removed(sql, tmp_path):
    async with workers(sql, tmp_path) as (worker,):
        known = await worker.rules.put(OPERATOR, LimitRule(name="configured", window="60s", requests=5))
        assert (known.source, known.replaces, known.set_by) == ("run time", True, "ops")
        assert worker.rules.get(OPERATOR, "configured").rule.requests == 5
        await worker.rules.remove(OPERATOR, "configured")
        assert worker.rules.get(OPERATOR, "configured").source == "interlock.yaml"
        with pytest.raises(Conflict) as caught:
            await worker.rules.remove(OPERATOR, "configured")
        assert "interlock.yaml" in caught.value.message


async def test_a_tenants_rules_are_its_own(sql, tmp_path):
    async with workers(sql, tmp_path) as (worker,):
        theirs = caller(Role.ADMIN, tenant=RIVAL)
        await worker.rules.put(theirs, LimitRule(name="none", window="60s", requests=0))
        await worker.call(1)
        with pytest.raises(LimitExceeded):
            await worker.call(1, ctx=theirs)
        assert [known.rule.name for known in worker.rules.list(OPERATOR)] == ["configured"]
        assert [known.rule.name for known in worker.rules.list(theirs)] == ["none"]
        with pytest.raises(NotFound):
            await worker.rules.remove(OPERATOR, "none")
        assert await worker.rules.use(theirs) == await worker.rules.use(theirs, "none")


@pytest.mark.parametrize("roles", [(), (Role.VIEWER,), (Role.DEVELOPER,), (Role.AUDITOR, Role.RISK)])
async def test_only_operators_change_limits(sql, tmp_path, roles):
    async with workers(sql, tmp_path) as (worker,):
        ctx = caller(*roles)
        with pytest.raises(Forbidden):
            await worker.rules.put(ctx, CONFIGURED)
        with pytest.raises(Forbidden):
            await worker.rules.remove(ctx, "configured")
        with pytest.raises(Forbidden):
            await worker.compare(repair=True, ctx=ctx)
        if roles:
            assert worker.rules.list(ctx)
        else:
            with pytest.raises(Forbidden):
                worker.rules.list(ctx)
        assert worker.log.lines == []


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "bad name", "window": "60s", "requests": 1}, "name"),
        ({"name": "x", "requests": 1}, "window"),
        ({"name": "x", "window": "60s", "period": "day", "requests": 1}, "window"),
        ({"name": "x", "window": "60s"}, "requests"),
        ({"name": "x", "window": "soon", "requests": 1}, "window"),
        ({"name": "x", "window": "60s", "requests": -1}, "requests"),
        ({"name": "x", "period": "month", "money": "lots"}, "money"),
        ({"name": "x", "period": "fortnight", "requests": 1}, "period"),
        ({"name": "x", "window": "60s", "requests": 1, "per": ["planet"]}, "per"),
        ({"name": "x", "window": "60s", "requests": 1, "match": {"colour": "red"}}, "match.colour"),
        ({"name": "x", "period": "day", "requests": 1, "timezone": "Mars/Olympus"}, "timezone"),
    ],
)
def test_a_wrong_rule_names_its_field(values, field):
    with pytest.raises(InvalidInput) as caught:
        read_rule(values)
    assert caught.value.param == field


async def test_a_stored_rule_of_a_later_version_is_read_without_its_unknown_fields(sql, tmp_path):
    async with workers(sql, tmp_path) as (worker,):
        await worker.rules.put(OPERATOR, LimitRule(name="r", window="60s", requests=3))
        spec = {"name": "r", "window": "60s", "requests": 4, "colour": "red"}
        at = worker.rules.get(OPERATOR, "r").set_at.replace(microsecond=1)
        await sql.write(lambda conn: store.put_rule(conn, ACME, "r", spec, by="later", at=at))
        await worker.rules.refresh()
        assert worker.rules.get(OPERATOR, "r").rule.requests == 4


async def test_a_stored_rule_that_cannot_be_read_never_counts_as_none(sql, tmp_path):
    async with workers(sql, tmp_path, 2) as (known, fresh):
        await known.rules.put(OPERATOR, LimitRule(name="r", window="60s", requests=0))
        at = known.rules.get(OPERATOR, "r").set_at.replace(microsecond=1)
        await sql.write(lambda conn: store.put_rule(conn, ACME, "r", {"name": "r", "window": "?"}, by="x", at=at))
        await known.rules.refresh()
        with pytest.raises(LimitExceeded):
            await known.call(1)
        with pytest.raises(Misconfigured):
            await fresh.rules.refresh()


# ── counters and the ledger ───────────────────────────────────────────────────────────────────────────────────────

BUDGET = LimitRule(name="b", period="month", money="100", tokens=1000)
GROUP = LimitRule(name="g", match={"group": "staff"}, period="month", tokens=10)


async def test_counters_that_agree_with_the_ledger_are_equal(sql, tmp_path):
    rules = (CONFIGURED, BUDGET, GROUP, LimitRule(name="app", per=("app",), window="1h", tokens=500))
    async with workers(sql, tmp_path, rules=rules) as (worker,):
        for tokens, app in ((3, "one"), (4, "two"), (5, "one")):
            await worker.call(tokens, app=app)
        found, rows = await worker.compare()
        assert {row.state for row in found.differences} == {"equal"}
        assert rows["b", "tokens"] == (12, 12, "equal")
        assert {row.scope for row in found.differences if row.rule.name == "app"} == {"one", "two"}
        assert (sorted(found.unknown), found.orphans, found.busy) == (["configured", "g"], [], "")


async def test_a_counter_that_lost_spending_is_raised(sql, tmp_path):
    async with workers(sql, tmp_path, rules=()) as (worker,):
        await worker.call(30)
        worker.admission.use_configured([BUDGET])
        _, rows = await worker.compare()
        assert rows["b", "money"] == (0, Money.of(30).nano, "below")
        await worker.compare(repair=True)
        _, rows = await worker.compare()
        assert rows["b", "money"] == (Money.of(30).nano, Money.of(30).nano, "equal")
        assert worker.log.lines == [(ACME, "ops", "limit.reconcile", "counters")]


async def test_a_counter_above_the_ledger_is_lowered_only_when_nothing_else_may_hold_it(sql, tmp_path):
    async with workers(sql, tmp_path, 2, rules=(BUDGET,)) as (worker, other):
        await worker.call(10)
        slot = BUDGET.slot(worker.admission.now()).number
        await worker.kv.grant(ACME, "limit:b:tokens:", 7, limit=1000, slot=slot)
        found, rows = await worker.compare(repair=True)
        assert rows["b", "tokens"] == (17, 10, "above")
        assert "1 other workers" in found.busy
        await other.costs.close()
        async with worker.costs.reserve(OPERATOR, None) as bill:
            await bill.admit("m", "x", Usage(5, 0))
            found, rows = await worker.compare(repair=True)
            assert "1 calls are under way" in found.busy
        _, rows = await worker.compare(repair=True)
        assert rows["b", "tokens"] == (17, 10, "lowered")
        _, rows = await worker.compare()
        assert rows["b", "tokens"] == (10, 10, "equal")
        other.journal = Journal(other.journals)
        other.costs = replace_journal(other)


def replace_journal(worker):
    return Costs(worker.sql, PRICES, worker.admission, worker.journal)


def person(name):
    return OPERATOR.on_behalf_of(EndUser(name, frozenset()))


async def test_counters_of_people_are_compared_though_the_ledger_has_no_ids(sql, tmp_path):
    rules = (
        LimitRule(name="each", per=("user",), period="month", tokens=1000),
        LimitRule(name="ana", match={"user": "ana"}, period="month", tokens=1000),
        LimitRule(name="all", period="month", tokens=1000),
    )
    async with workers(sql, tmp_path, rules=rules, pseudonym=lambda tenant, user: f"user:{tenant}-{user[::-1]}") as (
        w,
    ):
        for name, tokens in (("ana", 3), ("b|b%", 4), ("ana", 5)):
            await w.call(tokens, person(name))
        await w.call(7)
        found, rows = await w.compare(repair=True)
        assert {row.state for row in found.differences} == {"equal"}
        assert rows["ana", "tokens"] == (8, 8, "equal")
        assert rows["all", "tokens"] == (19, 19, "equal")
        assert {row.scope: row.counted for row in found.differences if row.rule.name == "each"} == {
            "ana": 8,
            "b%7Cb%25": 4,
            "": 7,
        }
        assert found.unknown == []


async def test_counters_per_person_are_left_alone_when_nobody_can_tell_whose_calls_they_were(sql, tmp_path):
    keyed = {"pseudonym": lambda tenant, user: f"user:{user[::-1]}"}
    async with workers(sql, tmp_path, rules=(), **keyed) as (worker,):
        await worker.call(3, person("ana"))
        worker.admission.use_configured([LimitRule(name="each", per=("user",), period="month", tokens=1000), BUDGET])
        found, rows = await worker.compare(repair=True)
        assert found.unknown == ["each"]
        assert rows["b", "tokens"] == (0, 3, "raised")


async def test_calls_whose_worker_died_are_flagged(sql, tmp_path):
    async with workers(sql, tmp_path, rules=(BUDGET,)) as (worker,):
        dead = Worker(sql, tmp_path, worker.log, rules=(BUDGET,))
        async with dead.costs.reserve(OPERATOR, None) as bill:
            await bill.admit("m", "x", Usage(9, 0))
            os.close(dead.journal._lock)
            await recover(worker.journals, sql, worker.kv, PRICES)
            dead.admission._counters.clear()
            bill._tries.clear()
        found, rows = await worker.compare()
        assert [(row.outcome, row.usage.total_tokens, row.cost) for row in found.orphans] == [
            ("orphaned", 9, Money.of(9))
        ]
        assert rows["b", "tokens"] == (9, 9, "equal")
        theirs, _ = await worker.compare(ctx=replace(caller(Role.AUDITOR), tenant=RIVAL))
        assert theirs.orphans == []
