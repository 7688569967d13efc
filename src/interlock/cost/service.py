"""The cost part's door: open a bill before the call, settle it on every exit, exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import anyio

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import Blocked
from interlock.core.ids import new_id
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.core.release import Release
from interlock.cost import store
from interlock.cost.prices import Prices
from interlock.cost.types import LedgerEntry, Outcome, Spend
from interlock.stores.sql.base import Sql

__all__ = ["Bill", "Costs"]


@dataclass(slots=True)
class Bill:
    """What one request has used so far, per model. Rows are written when it is settled."""

    lines: dict[tuple[str, str], Usage] = field(default_factory=dict)
    entries: list[LedgerEntry] = field(default_factory=list)
    """Filled by the settlement."""

    def add(self, provider: str, model: str, usage: Usage) -> None:
        """Charge `usage` of one call."""
        self.lines[provider, model] = self.lines.get((provider, model), Usage()) + usage

    @property
    def usage(self) -> Usage:
        """Sum over models."""
        return sum(self.lines.values(), Usage())

    @property
    def cost(self) -> Money | None:
        """Settled cost; None when any line is unpriced, or before the settlement."""
        costs = [entry.cost for entry in self.entries]
        if not costs or any(cost is None for cost in costs):
            return None
        return sum((cost for cost in costs if cost is not None), Money.zero())


async def _settled(work: Coroutine[None, None, None]) -> None:
    """Wait for the settlement however often the caller is cancelled meanwhile, then let the cancellation go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    # anyio cancels again at every await inside a cancelled scope, so its scopes must be kept out as well.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


class Costs:
    """The ledger of all tenants."""

    def __init__(self, sql: Sql, prices: Prices) -> None:
        self._sql = sql
        self.prices = prices

    def quote(self, bill: Bill) -> Money | None:
        """What the bill would cost if it were settled now; None when any line is unpriced."""
        costs = [self.prices.price(provider, model, usage) for (provider, model), usage in bill.lines.items()]
        if any(cost is None for cost in costs):
            return None
        return sum((cost for cost in costs if cost is not None), Money.zero())

    @asynccontextmanager
    async def reserve(self, ctx: Context, release: Release | None, *, app: str = "") -> AsyncIterator[Bill]:
        """Open a bill; on every exit its lines go to the ledger in one transaction.

        A client that leaves cancels the task, not the settlement.
        """
        bill = Bill()
        outcome: Outcome = "ok"
        try:
            yield bill
        except Blocked:
            outcome = "blocked"
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        except BaseException:
            outcome = "error"
            raise
        finally:
            self._price(ctx, release, app, bill, outcome)
            await _settled(self._store(tuple(bill.entries)))

    def _price(self, ctx: Context, release: Release | None, app: str, bill: Bill, outcome: Outcome) -> None:
        for (provider, model), usage in bill.lines.items():
            price = self.prices.lookup(provider, model, usage)
            bill.entries.append(
                LedgerEntry(
                    id=new_id("led"),
                    tenant=ctx.tenant,
                    at=now(),
                    principal=ctx.principal.id,
                    end_user=ctx.end_user.id if ctx.end_user else "",
                    app=release.app if release else app,
                    release=release.id if release else None,
                    trace_id=ctx.trace_id,
                    provider=provider,
                    model=model,
                    usage=usage,
                    cost=price.cost,
                    price=price.source,
                    outcome=outcome,
                )
            )

    async def _store(self, entries: tuple[LedgerEntry, ...]) -> None:
        if entries:
            await self._sql.write(lambda conn: store.insert_all(conn, entries))

    async def ledger(self, ctx: Context, *, trace_id: str | None = None, limit: int = 100) -> Sequence[LedgerEntry]:
        """Ledger rows of the tenant, newest first."""
        return await self._sql.read(lambda conn: store.entries(conn, ctx.tenant, trace_id=trace_id, limit=limit))

    async def spend(
        self,
        ctx: Context,
        *,
        by: Literal["app", "model", "provider", "principal", "end_user"],
        since: datetime,
        until: datetime,
    ) -> Sequence[Spend]:
        """Sums over a period, largest cost first."""
        return await self._sql.read(lambda conn: store.spend(conn, ctx.tenant, by=by, since=since, until=until))
