"""Settle what a killed worker left open: its journal says what it had leased, reserved and served."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

from interlock.core.ids import TenantId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost import store
from interlock.cost.journal import Dropped, Fresh, Held, Leased, Reserved, Settled, dead_workers, read_records
from interlock.cost.prices import Prices
from interlock.cost.service import entry_of
from interlock.cost.types import LedgerEntry
from interlock.stores.kv.base import Kv
from interlock.stores.sql.base import Sql

__all__ = ["Recovered", "recover"]

_log = logging.getLogger("interlock.cost")
_Key = tuple[str, str, int]
_UNBOUNDED = 1 << 62


class Recovered(NamedTuple):
    """What was done about dead workers."""

    workers: int
    settled: int
    """Served calls whose ledger row had not been committed, or may not have been."""
    orphaned: int
    """Calls whose end nobody saw: charged at their estimate and flagged."""


class _Left:
    """State of one journal after its last record."""

    def __init__(self) -> None:
        self.open: dict[str, Reserved] = {}
        self.rows: list[LedgerEntry] = []
        self.balance: dict[_Key, int] = {}

    def _use(self, held: Held, units: int) -> None:
        key = (held.tenant, held.counter, held.slot)
        self.balance[key] = self.balance.get(key, 0) - units

    def settle(self, record: Reserved, said: Settled) -> None:
        """A call that was served."""
        usage = Usage(
            said.input_tokens,
            said.output_tokens,
            said.cached_tokens,
            said.reasoning_tokens,
            said.estimated,
            said.cache_write_tokens,
        )
        cost = None if said.cost_nano is None else Money(said.cost_nano)
        self.rows.append(entry_of(record, usage, cost, said.price, "ok"))
        self._charge(record, usage, cost)

    def orphan(self, record: Reserved, prices: Prices) -> None:
        """A call whose end is unknown: it may have been served, so its estimate stands."""
        usage = Usage(record.input_tokens, record.output_tokens, estimated=True)
        price = prices.lookup(record.provider, record.model, usage)
        self.rows.append(entry_of(record, usage, price.cost, price.source, "orphaned"))
        self._charge(record, usage, price.cost)

    def drop(self, record: Reserved) -> None:
        """A call that was not served: only that it was asked for counts."""
        for held in record.held:
            self._use(held, held.amount if held.measure == "requests" else 0)

    def _charge(self, record: Reserved, usage: Usage, cost: Money | None) -> None:
        units = {"requests": 1, "tokens": usage.total_tokens, "money": cost.nano if cost else 0}
        for held in record.held:
            self._use(held, units[held.measure])


def _read(folder: Path, prices: Prices) -> tuple[_Left, int]:
    left = _Left()
    for record in read_records(folder):
        match record:
            case Fresh():
                left.open.clear()
                left.balance.clear()
            case Leased():
                key = (record.tenant, record.counter, record.slot)
                left.balance[key] = left.balance.get(key, 0) + record.units
            case Reserved():
                left.open[record.id] = record
            case Settled() if record.id in left.open:
                left.settle(left.open.pop(record.id), record)
            case Dropped() if record.id in left.open:
                left.drop(left.open.pop(record.id))
    orphans = list(left.open.values())
    for orphan in orphans:
        left.orphan(orphan, prices)
    return left, len(orphans)


async def recover(folder: Path, sql: Sql, kv: Kv, prices: Prices) -> Recovered:
    """Settle the journals of workers that no longer run. Safe to repeat: a ledger row's id is its call's.

    Args:
        folder: where the workers of this machine keep their journals.
    """
    workers = settled = orphaned = 0
    for worker in dead_workers(folder):
        left, orphans = _read(worker.folder, prices)
        for at in range(0, len(left.rows), 1000):
            await sql.write(partial(store.insert_all, rows=left.rows[at : at + 1000]))
        for (tenant, counter, slot), units in left.balance.items():
            if units > 0:
                await kv.give_back(TenantId(tenant), counter, units, slot=slot)
            elif units < 0:
                await kv.grant(TenantId(tenant), counter, -units, limit=_UNBOUNDED, slot=slot)
        worker.forget()
        workers += 1
        settled += len(left.rows) - orphans
        orphaned += orphans
    if workers:
        _log.warning("settled the journal of %d dead workers: %d served, %d orphaned", workers, settled, orphaned)
    return Recovered(workers, settled, orphaned)
