"""Whatever requests, providers and clients do at once: a served request is paid once, and no reservation stays."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from interlock.core.context import Context, Principal
from interlock.core.errors import InterlockError, LimitExceeded, ProviderError
from interlock.core.ids import PrincipalId, TenantId, new_trace_id
from interlock.core.messages import ChatRequest, Finish, TextDelta, Usage, text_message
from interlock.cost.admission import Admission
from interlock.cost.journal import Journal
from interlock.cost.limits import LimitRule
from interlock.cost.prices import Prices
from interlock.cost.service import Costs
from interlock.cost.types import PriceOverride
from interlock.gateway.cache.semantic import Semantic
from interlock.gateway.cache.service import AnswerCache
from interlock.gateway.cache.store import CacheStore
from interlock.gateway.service import Gateway, Served
from interlock.gateway.settings import BreakerSettings, GatewaySettings, ProviderSettings
from interlock.gateway.types import RouteSpec
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.sql import open_sql
from interlock.testing.providers import deps

ACME = TenantId("acme")
BUDGET = 250
OUTPUT = 20
PRICES = Prices({f"{name}/*": PriceOverride(input_per_million="1000000", output_per_million="1000000")
                 for name in ("a", "b")}, {})  # fmt: skip
"""A dollar a token."""
TRIES = st.sampled_from(["ok", "ok", "ok", "error", "refused", "limited", "mid", "mid-crash", "crash", "unfinished"])
CALL = st.tuples(
    st.lists(TRIES, min_size=6, max_size=6),  # what the providers do, try by try
    st.integers(0, 3),  # how long each of them takes, in turns of the loop
    st.sampled_from(["stream", "whole"]),
    st.none() | st.integers(0, 12),  # when the client leaves, in turns of the loop
    st.integers(0, 2),  # which question: equal ones meet in the cache
)


@dataclass
class Ended:
    how: str
    events: list
    served: Served
    rows: list


class Provider:
    """Does what the request's own list of tries says."""

    def __init__(self, name):
        self.name = name

    async def stream(self, ctx, request, model):
        plan = PLANS[ctx.trace_id]
        kind, turns = (plan.pop(0) if plan else "ok"), TURNS[ctx.trace_id]
        for _ in range(turns):
            await asyncio.sleep(0)
        if kind in {"error", "refused"}:
            raise ProviderError("no", provider=self.name, upstream_status=503, retryable=kind == "error")
        if kind == "limited":
            raise LimitExceeded("slow", code="provider_rate_limited")
        if kind == "crash":
            raise RuntimeError("a bug in a provider")
        for number in range(3):
            yield TextDelta(f"word {number} ")
            for _ in range(turns):
                await asyncio.sleep(0)
            if kind == "mid":
                raise ProviderError("cut", provider=self.name, retryable=True)
            if kind == "mid-crash":
                raise RuntimeError("a bug in a provider")
        if kind != "unfinished":
            yield Finish("stop", Usage(2, 6), model)

    async def embed(self, ctx, texts, model):
        raise NotImplementedError

    async def models(self):
        return ["m"]

    async def close(self):
        pass


PLANS: dict = {}
TURNS: dict = {}


async def _no_wait(seconds):
    await asyncio.sleep(0)


class Money(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.temporary = tempfile.TemporaryDirectory()
        folder = Path(self.temporary.name)
        self.sql = open_sql(f"sqlite:///{folder / 'control.db'}")
        self.kv = MemoryKv()
        self.journal = Journal(folder / "journal")
        rules = [LimitRule(name="all", period="month", money=str(BUDGET))]
        self.admission = Admission(self.kv, self.journal, tenant=ACME, rules=rules)
        self.costs = Costs(self.sql, PRICES, self.admission, self.journal)
        store = CacheStore(self.kv)
        config = GatewaySettings(
            providers={name: ProviderSettings(kind="scripted", max_concurrency=3) for name in ("a", "b")},
            breaker=BreakerSettings(failures=1000, failure_rate=1.0),
            retry_ratio=10,
        )
        self.gateway = Gateway(config, deps(), sleep=_no_wait, cache=AnswerCache(store, Semantic(store, None, None)))
        for name in ("a", "b"):
            self.gateway.attempts._providers[name] = Provider(name)
        self.paid = 0

    @initialize()
    def begin(self):
        self.runner.run(self.sql.migrate())

    @rule(calls=st.lists(CALL, min_size=1, max_size=6), cached=st.booleans())
    def at_once(self, calls, cached):
        ended = self.runner.run(self._all(calls, cached))
        for one in ended:
            self._check(one)

    async def _all(self, calls, cached):
        return await asyncio.gather(*(self._one(*call, cached=cached) for call in calls))

    async def _one(self, plan, turns, form, leaves, question, *, cached):
        ctx = Context(ACME, Principal(PrincipalId("svc"), "service"))
        ctx = replace(ctx, trace_id=new_trace_id())
        PLANS[ctx.trace_id], TURNS[ctx.trace_id] = list(plan), turns
        ended = Ended("", [], Served(), [])
        route = RouteSpec(
            targets=["a/m", "b/m"],
            retries=1,
            max_output_tokens=OUTPUT,
            cache={"ttl_s": 1000, "share": "tenant"} if cached else None,
        )
        task = asyncio.ensure_future(self._serve(ctx, route, form, question, ended))
        if leaves is not None:
            for _ in range(leaves):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            ended.how = "left"
        else:
            task.result()
        del PLANS[ctx.trace_id], TURNS[ctx.trace_id]
        return ended

    async def _serve(self, ctx, route, form, question, ended):
        request = ChatRequest("x", (text_message("user", f"question {question}"),))
        try:
            async with self.costs.reserve(ctx, None) as bill:
                ended.rows = bill.entries
                stream = self.gateway.stream(
                    ctx, request, route=route, served=ended.served, meter=bill, whole=form == "whole"
                )
                async with aclosing(stream) as events:
                    async for event in events:
                        ended.events.append(event)
        except InterlockError as error:
            ended.how = error.code
            return
        ended.how = "served"

    def _check(self, one):
        self.paid += sum(row.cost.nano for row in one.rows)
        providers = [row.provider for row in one.rows]
        if one.how == "served":
            assert len(providers) == 1, providers
            assert isinstance(one.events[-1], Finish)
            assert (providers[0] == "cache") == (one.served.cache in {"hit", "shared"})
            assert one.rows[0].usage.total_tokens == (0 if providers[0] == "cache" else 8)
        elif one.how == "left":
            assert len(providers) <= 1, "at most the one call that was under way"
        elif one.events:
            assert len(providers) == 1, "what the caller got a part of is paid, by an estimate"
            assert one.rows[0].usage.estimated
        else:
            assert providers == [], f"nothing was given ({one.how}), so nothing is paid"

    @rule()
    def commit(self):
        self.runner.run(self.costs.flush())

    @rule()
    def tidy(self):
        self.runner.run(self.costs.tidy())

    @invariant()
    def nothing_stays_reserved_and_no_budget_is_passed(self):
        assert self.costs.open_calls == 0
        assert self.paid <= BUDGET * 10**9
        assert all(self.gateway.attempts.turns(name).busy == 0 for name in ("a", "b"))
        assert self.gateway.cache._flights.open == {}

    def teardown(self):
        async def stored():
            await self.costs.flush()
            rows = await self.costs.ledger(Context(ACME, Principal(PrincipalId("x"), "service")), limit=100_000)
            assert sum(row.cost.nano for row in rows) == self.paid
            assert len({row.id for row in rows}) == len(rows)
            await self.costs.close()
            await self.sql.close()

        self.runner.run(stored())
        self.runner.close()
        self.temporary.cleanup()


Money.TestCase.settings = settings(
    max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMoney = Money.TestCase
