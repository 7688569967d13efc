"""Many readers ask for the ledger while calls are charged."""

from __future__ import annotations

import asyncio

from interlock.core.context import Context, Principal
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import Usage
from interlock.cost import store
from interlock.cost.admission import Admission
from interlock.cost.journal import Journal
from interlock.cost.prices import Prices
from interlock.cost.service import Costs
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import open_sql

ACME = TenantId("acme")


class Gated:
    """A database whose writes return one by one, each when it is let go."""

    def __init__(self, sql):
        self._sql = sql
        self.gates = asyncio.Queue()

    def __getattr__(self, name):
        return getattr(self._sql, name)

    async def write(self, fn):
        done = await self._sql.write(fn)
        await self.gates.get()
        return done


async def test_no_row_is_lost_between_flushes_that_run_beside_each_other(tmp_path):
    sql = open_sql(f"sqlite:///{tmp_path / 'control.db'}")
    await sql.migrate()
    journal, gated = Journal(tmp_path / "journal"), Gated(sql)
    costs = Costs(gated, Prices({}, {}), Admission(SqlKv(sql), journal, tenant=ACME, rules=()), journal)
    ctx = Context(ACME, Principal(PrincipalId("p"), "service", frozenset()))

    async def call():
        async with costs.reserve(ctx, None) as bill:
            await bill.add("m", "x", Usage(1, 1))

    await call()
    flushes = {asyncio.create_task(costs.flush()) for _ in range(2)}
    await asyncio.sleep(0.05)
    gated.gates.put_nowait(None)
    # One of them is through; a call is charged; only then is the other.
    _, others = await asyncio.wait(flushes, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    await call()
    for _ in range(4):
        gated.gates.put_nowait(None)
    if others:
        await asyncio.wait(others)
    await costs.flush()
    rows = await sql.read(lambda conn: store.entries(conn, ACME, trace_id=None, limit=10))
    assert len(rows) == 2
    await costs.close()
    await sql.close()
