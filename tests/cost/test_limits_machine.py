"""Whatever workers do, die and recover in whatever order: no budget is passed, and every served call is paid once."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import LimitExceeded
from interlock.core.ids import PrincipalId, TenantId, new_id, new_trace_id
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.admission import Admission
from interlock.cost.journal import Journal
from interlock.cost.limits import LimitRule
from interlock.cost.prices import Prices
from interlock.cost.recovery import recover
from interlock.cost.service import Bill, Costs
from interlock.cost.types import PriceOverride
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.sql import open_sql

ACME = TenantId("acme")
PRICES = Prices({"m/*": PriceOverride(input_per_million="1000000", output_per_million="1000000")}, {})
"""A dollar a token, so that money and tokens are the same number."""
BUDGET, PER_USER, PER_WINDOW = 200, 90, 120
RULES = [
    LimitRule(name="all", period="month", money=str(BUDGET)),
    LimitRule(name="user", period="day", per=("user",), tokens=PER_USER),
    LimitRule(name="window", window="60s", tokens=PER_WINDOW),
]
START = 1_790_000_000.0
SERVICE = Principal(PrincipalId("svc"), "service")


class Worker:
    """One process's share: its own journal and counters, the common store."""

    def __init__(self, machine):
        self.machine = machine
        self.journal = Journal(machine.folder / "journal")
        self.admission = Admission(machine.kv, self.journal, tenant=ACME, rules=RULES, clock=lambda: machine.at)
        self.costs = Costs(machine.sql, PRICES, self.admission, self.journal)
        self.open = []
        self.terms = None

    def known_terms(self):
        if self.terms is None or self.terms.generation != self.costs.generation:
            self.terms = self.costs.terms(ACME, SERVICE, "m", "x")
        return self.terms

    def kill(self):
        """As `kill -9` would: nothing is closed in order, but the system lets go of the lock."""
        os.close(self.journal._lock)


class Limits(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.at = START
        self.kv = MemoryKv(clock=lambda: self.at)
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.sql = open_sql(f"sqlite:///{self.folder / 'control.db'}")
        self.paid = {}
        """Reservation id to (time, user, tokens) of every call that was served, or whose worker died in it."""

    @initialize()
    def begin(self):
        self.runner.run(self.sql.migrate())
        self.workers = [Worker(self), Worker(self)]

    @rule(worker=st.integers(0, 1), user=st.sampled_from(["ada", "bo"]), tokens=st.integers(0, 60), quick=st.booleans())
    def admit(self, worker, user, tokens, quick):
        async def work():
            chosen = self.workers[worker]
            if quick:
                # As on the fast lane, where nobody has an end user.
                hold = chosen.known_terms().take(new_id("led"), new_trace_id(), int(self.at * 1e9), tokens, 0)
                if hold is not None:
                    chosen.open.append((None, hold, "", tokens, self.at))
                    return
            who = "" if quick else user
            ctx = Context(ACME, SERVICE)
            bill = Bill(chosen.costs, ctx.on_behalf_of(EndUser(who)) if who else ctx)
            try:
                admitted = await bill.admit("m", "x", Usage(tokens, 0))
            except LimitExceeded:
                return
            chosen.open.append((bill, admitted, who, tokens, self.at))

        self.runner.run(work())

    @precondition(lambda self: any(worker.open for worker in self.workers))
    @rule(data=st.data())
    def serve(self, data):
        worker = data.draw(st.sampled_from([worker for worker in self.workers if worker.open]))
        bill, admitted, user, most, at = worker.open.pop(data.draw(st.integers(0, len(worker.open) - 1)))
        used = data.draw(st.integers(0, most))

        async def work():
            admitted.charge(Usage(used, 0))
            if bill is None:
                admitted.close("ok")
            else:
                worker.costs._pending.extend(bill.entries)

        self.paid[admitted.record.id] = (at, user, used)
        self.runner.run(work())

    @precondition(lambda self: any(worker.open for worker in self.workers))
    @rule(data=st.data(), uncount=st.booleans())
    def fail(self, data, uncount):
        worker = data.draw(st.sampled_from([worker for worker in self.workers if worker.open]))
        worker.open.pop(data.draw(st.integers(0, len(worker.open) - 1)))[1].drop(uncount=uncount)

    @rule(seconds=st.sampled_from([1, 7, 30, 61, 86_400, 31 * 86_400]))
    def wait(self, seconds):
        self.at += seconds

    @rule(worker=st.integers(0, 1))
    def tidy(self, worker):
        self.runner.run(self.workers[worker].costs.tidy())

    @rule(worker=st.integers(0, 1))
    def commit(self, worker):
        self.runner.run(self.workers[worker].costs.flush())

    @rule(worker=st.integers(0, 1))
    def rotate(self, worker):
        self.runner.run(self.workers[worker].costs.rotate())

    @rule(worker=st.integers(0, 1), warn_at=st.sampled_from([0.5, 0.9]))
    def change_rules(self, worker, warn_at):
        # Other rules of the same limits: what calls hold under the old ones must still come back.
        changed = [rule.model_copy(update={"warn_at": warn_at}) for rule in RULES]
        self.workers[worker].admission.use_configured(changed)

    @rule(worker=st.integers(0, 1))
    def die(self, worker):
        dead = self.workers[worker]
        dead.kill()
        for _, admitted, user, most, at in dead.open:
            # Nobody knows how the call ended: it is charged at its estimate.
            self.paid[admitted.record.id] = (at, user, most)
        self.workers[worker] = Worker(self)
        self.runner.run(recover(self.folder / "journal", self.sql, self.kv, PRICES))

    @invariant()
    def nothing_is_passed(self):
        if not hasattr(self, "workers"):
            return
        calls = [*self.paid.values()]
        calls += [(at, user, most) for worker in self.workers for _, _, user, most, at in worker.open]
        assert sum(used for at, _, used in calls if _month(at) == _month(self.at)) <= BUDGET
        for user in ("ada", "bo", ""):
            today = [used for at, who, used in calls if who == user and at // 86_400 == self.at // 86_400]
            assert sum(today) <= PER_USER
        # The window slides: wherever a minute is laid, no more was used in it.
        for end, _, _ in calls:
            assert sum(used for at, _, used in calls if end - 60 < at <= end) <= PER_WINDOW

    def teardown(self):
        async def end():
            for worker in self.workers:
                for _, admitted, _, _, _ in worker.open:
                    admitted.drop()
                await worker.costs.close()
            ctx = Context(ACME, SERVICE)
            journal = Journal(self.folder / "last")
            last = Costs(self.sql, PRICES, Admission(self.kv, journal, tenant=ACME, rules=RULES), journal)
            rows = {row.id: row for row in await last.ledger(ctx, limit=100_000)}
            await last.close()
            return rows

        try:
            if hasattr(self, "workers"):
                rows = self.runner.run(end())
                assert {name: row.usage.total_tokens for name, row in rows.items()} == {
                    name: used for name, (_, _, used) in self.paid.items()
                }
                assert all(row.cost == Money.of(row.usage.total_tokens) for row in rows.values())
                month = sum(used for at, _, used in self.paid.values() if _month(at) == _month(self.at))
                slot = RULES[0].slot(self.at).number
                held = self.runner.run(self.kv.granted(ACME, "limit:all:money:", slot=slot))
                assert held == Money.of(month).nano, "every reservation was released, and every call is still counted"
        finally:
            self.runner.run(self.sql.close())
            self.runner.close()
            self.temporary.cleanup()


def _month(at):
    return RULES[0].slot(at).number


TestLimits = Limits.TestCase
TestLimits.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
