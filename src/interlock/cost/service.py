"""The cost part's door: reserve before a call, settle it on every exit, exactly once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from interlock.core.clock import now
from interlock.core.context import Context, Notices, Principal
from interlock.core.errors import Blocked, StorageFull, Unavailable
from interlock.core.finishing import finished
from interlock.core.ids import ReleaseId, TenantId, TraceId, new_id
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.core.ports import Admitted
from interlock.core.release import Release
from interlock.cost import store
from interlock.cost.admission import Admission, Demand, LimitUse, Reservation, quota_headers
from interlock.cost.counters import Counter
from interlock.cost.handed import Handed, HandedTry, cheaper
from interlock.cost.journal import Dropped, Journal, Leased, Reserved, Settled
from interlock.cost.limits import Subject
from interlock.cost.prices import Prices
from interlock.cost.terms import Hold, Terms
from interlock.cost.types import LedgerEntry, Outcome, Spend
from interlock.stores.sql.base import Sql

__all__ = ["Bill", "Costs", "Try"]

_log = logging.getLogger("interlock.cost")
_COMMIT_EVERY_S = 0.1
_RETRY_S = 0.5
_MAX_WAITING = 100_000
_TIDY_EVERY_S = 2.0
_NOTHING_OFF = Decimal(0)


@dataclass(slots=True, eq=False)
class Try:
    """One admitted try. Implements :class:`interlock.core.ports.Admitted`."""

    bill: Bill
    record: Reserved
    reservation: Reservation
    is_open: bool = True

    def charge(self, usage: Usage) -> None:
        """See `Admitted.charge`."""
        assert self.is_open, "a try is charged or dropped once"
        # First: what was served and cannot be written down must not be dropped. It stands at its estimate.
        self.is_open = False
        self.bill.entries.append(self.bill.costs._settle(self, usage))

    def drop(self, *, uncount: bool = False) -> None:
        """See `Admitted.drop`.

        Args:
            uncount: the request itself is given back as well: it is about to be admitted anew.
        """
        if self.is_open:
            self.bill.costs._drop(self, uncount=uncount)
            self.is_open = False


@dataclass(slots=True)
class Bill:
    """What one request has used so far. Implements :class:`interlock.core.ports.Meter`."""

    costs: Costs = field(repr=False)
    ctx: Context = field(repr=False)
    release: Release | None = None
    app: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    entries: list[LedgerEntry] = field(default_factory=list)
    """One row a served call, in order."""
    near: dict[str, None] = field(default_factory=dict)
    """Names of limits that are past their warning line."""
    _tries: list[Try] = field(default_factory=list, repr=False)
    _counted: set[str] = field(default_factory=set, repr=False)

    handed: Handed | None = None
    """What the first call was admitted by, hours ago, when a provider's batch API answers it."""

    async def admit(self, provider: str, model: str, estimate: Usage) -> Admitted:
        """See `Meter.admit`."""
        if self.handed is not None and not self.handed.asked:
            self.handed.asked = True
            return HandedTry(self, self.handed)
        admitted = await self.costs._admit(self, provider, model, estimate)
        self._tries.append(admitted)
        return admitted

    def pressure(self) -> float:
        """See `Meter.pressure`."""
        return self.costs.admission.pressure(self.subject())

    def subject(self, provider: str = "", model: str = "") -> Subject:
        """Who pays, for limits."""
        ctx = self.ctx
        return Subject(
            tenant=ctx.tenant,
            key=ctx.principal.key_id or ctx.principal.id,
            user=ctx.end_user.id if ctx.end_user else "",
            groups=ctx.end_user.groups if ctx.end_user else frozenset(),
            app=self.app,
            tags=self.tags,
            provider=provider,
            model=model,
        )

    async def add(self, provider: str, model: str, usage: Usage) -> None:
        """Admit and charge a call whose usage is known."""
        (await self.admit(provider, model, usage)).charge(usage)

    def drop(self) -> None:
        """Release every try that is still open."""
        for one in self._tries:
            one.drop()

    @property
    def lines(self) -> dict[tuple[str, str], Usage]:
        """Usage by provider and model."""
        found: dict[tuple[str, str], Usage] = {}
        for entry in self.entries:
            key = (entry.provider, entry.model)
            found[key] = found.get(key, Usage()) + entry.usage
        return found

    @property
    def usage(self) -> Usage:
        """Sum over calls."""
        return sum((entry.usage for entry in self.entries), Usage())

    @property
    def cost(self) -> Money | None:
        """Sum over calls; None when any is unpriced, or when nothing was served."""
        costs = [entry.cost for entry in self.entries]
        if not costs or any(cost is None for cost in costs):
            return None
        return sum((cost for cost in costs if cost is not None), Money.zero())


class Costs:
    """Prices, limits and the ledger of all tenants.

    What "acknowledged" means: before a call is sent, its reservation is in this worker's journal; when it was served,
    its settlement is, before the caller's last byte. The ledger row follows in a group commit within 100 ms. A killed
    worker's journal is settled by the next one (`cost.recovery`); with `wait_for_ledger` the row is committed before
    the last byte as well.
    """

    def __init__(
        self,
        sql: Sql,
        prices: Prices,
        admission: Admission,
        journal: Journal,
        *,
        wait_for_ledger: bool = False,
        clock: Callable[[], datetime] = now,
        pseudonym: Callable[[TenantId, str], str] | None = None,
    ) -> None:
        """
        Args:
            pseudonym: what stands for an end user's id in the ledger and in the journal; None keeps the id itself.
        """
        self._sql = sql
        self.journal = journal
        self._clock = clock
        self._wait = wait_for_ledger
        self._pseudonym = pseudonym
        self._pending: list[LedgerEntry | Hold] = []
        self._open: dict[str, Try] = {}
        self._made = 0
        self.held: dict[str, Hold] = {}
        """Calls under way that were admitted by terms, by the id of their ledger row."""
        self.handing: dict[str, Handed] = {}
        """Reservations that are not yet written down where they will be kept, by the id of their ledger row."""
        self._commit: asyncio.Task[None] | None = None
        self._storing = asyncio.Lock()
        self._tidier: asyncio.Task[None] | None = None
        self.prices = prices
        self.admission = admission

    def start(self, *also: Callable[[], Awaitable[None]]) -> None:
        """Begin returning idle leases and rotating the journal, every two seconds. Needs a running loop.

        Args:
            also: done in the same rhythm, e.g. looking for rules that somebody changed.
        """
        self._tidier = asyncio.ensure_future(self._tidy_now_and_then((self.tidy, *also)))

    @property
    def waiting(self) -> int:
        """Ledger rows not yet committed."""
        return len(self._pending)

    @property
    def is_behind(self) -> bool:
        """True when so many rows wait for the database that no call may add one."""
        return len(self._pending) > _MAX_WAITING

    @property
    def open_calls(self) -> int:
        """Reservations not yet settled."""
        return len(self._open) + len(self.held)

    @property
    def generation(self) -> int:
        """Another number after every change of rules or prices."""
        return self.admission.generation + self.prices.generation

    def terms(self, tenant: TenantId, principal: Principal, provider: str, model: str) -> Terms:
        """What a caller pays at a target, for calls without an end user, an app or tags.

        They hold until `generation` is another.
        """
        self._made += 1
        subject = Subject(tenant, principal.key_id or principal.id, provider=provider, model=model)
        rates = self.prices.rates(provider, model)
        return Terms(self, self._made, subject, principal.id, rates=rates, counters=self.admission.counters_of(subject))

    def book(self, hold: Hold) -> None:
        """Send a charged call's row to the ledger."""
        self._pending.append(hold)
        self._commit_soon()

    def quote(self, bill: Bill) -> Money | None:
        """Cost of the bill so far; None when any call is unpriced."""
        return bill.cost if bill.entries else Money.zero()

    @asynccontextmanager
    async def reserve(
        self,
        ctx: Context,
        release: Release | None,
        *,
        app: str = "",
        tags: Mapping[str, str] | None = None,
        outcome: Outcome = "ok",
        handed: Handed | None = None,
    ) -> AsyncIterator[Bill]:
        """Open a bill; on every exit its open try is released and its rows go to the ledger.

        `outcome` is what its rows say when all goes well. `handed` admits its first call, whose row is left there.

        A client that leaves cancels the task, not the settlement.
        """
        bill = self.open(ctx, release, app=app, tags=tags)
        bill.handed = handed
        try:
            yield bill
        except Blocked:
            outcome = "blocked" if outcome == "ok" else outcome
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled" if outcome == "ok" else outcome
            raise
        except BaseException:
            outcome = "error" if outcome == "ok" else outcome
            raise
        finally:
            self.close_bill(bill, outcome)
            if bill.entries and self._wait:
                await finished(self.flush())

    def open(
        self, ctx: Context, release: Release | None, *, app: str = "", tags: Mapping[str, str] | None = None
    ) -> Bill:
        """A bill that its caller closes by `close_bill`, on every exit. `reserve` does both."""
        return Bill(self, ctx, release, release.app if release else app, tags or {})

    def close_bill(self, bill: Bill, outcome: Outcome) -> None:
        """Release what is still open and send the rows to the ledger."""
        bill.drop()
        if bill.entries:
            if outcome != "ok":
                bill.entries[:] = [msgspec.structs.replace(entry, outcome=outcome) for entry in bill.entries]
            rows = bill.entries
            if bill.handed is not None:
                own = bill.handed.record.id
                bill.handed.entry = next((entry for entry in rows if entry.id == own), None)
                rows = [entry for entry in rows if entry.id != own]
            self._pending.extend(rows)
            self._commit_soon()

    @property
    def waits_for_ledger(self) -> bool:
        """True when an answer's last byte waits for its row."""
        return self._wait

    async def hand_over(self, bill: Bill, provider: str, model: str, estimate: Usage, discount: Decimal) -> Handed:
        """Reserve for a call whose answer will be settled later, maybe by another worker, at the price less `discount`.

        If this worker dies before `Handed.let_go`, the units are given back and nothing is charged.
        Raises: LimitExceeded, BudgetExceeded.
        """
        opened = await self._admit(bill, provider, model, estimate, discount)
        self.journal.append(Dropped(opened.record.id))
        del self._open[opened.record.id]
        opened.is_open = False
        handed = self.handing[opened.record.id] = Handed(opened.record, discount, opened.reservation)
        return handed

    def charge_handed(
        self, handed: Handed, usage: Usage, notices: Notices | None = None, *, outcome: Outcome = "ok"
    ) -> LedgerEntry:
        """The answer is there: make its ledger row, which whoever stores the answer stores with it."""
        record = handed.record
        price = self.prices.lookup(record.provider, record.model, usage)
        cost = cheaper(price.cost, handed.discount)
        if notices is not None:
            nano = None if cost is None else cost.nano
            notices.charge(f"{record.provider}/{record.model}", usage.input_tokens, usage.output_tokens, nano)
        source = f"{price.source} batch -{(handed.discount * 100).normalize():f}%"
        handed.entry = entry_of(record, usage, cost, source, outcome)
        return handed.entry

    async def _admit(
        self, bill: Bill, provider: str, model: str, estimate: Usage, discount: Decimal = _NOTHING_OFF
    ) -> Try:
        if self.is_behind:
            raise Unavailable(
                "the ledger cannot be written, so no call that costs something is made",
                hint="see the log of the database: interlock doctor",
                code="ledger_unavailable",
            )
        money = cheaper(self.prices.price(provider, model, estimate), discount)
        subject = bill.subject(provider, model)
        met: list[Counter] = []
        self._tell_quota(bill, met)
        reservation = await self.admission.reserve(
            subject, Demand(estimate.total_tokens, money), counted=bill._counted, met=met
        )
        return self._note(bill, subject, estimate, reservation)

    def _tell_quota(self, bill: Bill, met: list[Counter]) -> None:
        """Let the answer's head say how much is left of the limits that were met."""
        if self.admission.rules(bill.ctx.tenant):
            bill.ctx.notices.quota = lambda: quota_headers(met, self.admission.now())

    def _note(self, bill: Bill, subject: Subject, estimate: Usage, reservation: Reservation) -> Try:
        """Write the reservation down before the call is sent."""
        ctx = bill.ctx
        for name in reservation.near:
            bill.near[name] = ctx.notices.near[name] = None
        record = Reserved(
            id=new_id("led"),
            at_ns=int(self._clock().timestamp() * 1e9),
            tenant=ctx.tenant,
            principal=ctx.principal.id,
            end_user=self.keyed(ctx.tenant, subject.user),
            app=bill.app,
            release=bill.release.id if bill.release else None,
            trace_id=ctx.trace_id,
            provider=subject.provider,
            model=subject.model,
            input_tokens=estimate.input_tokens,
            output_tokens=estimate.output_tokens,
            held=reservation.held(),
            tags=dict(bill.tags),
        )
        try:
            self.journal.append(record)
        except BaseException:
            self.admission.release(reservation.taken)
            raise
        opened = self._open[record.id] = Try(bill, record, reservation)
        return opened

    def _settle(self, opened: Try, usage: Usage) -> LedgerEntry:
        record = opened.record
        price = self.prices.lookup(record.provider, record.model, usage)
        self.journal.append(
            Settled(
                record.id,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                usage.reasoning_tokens,
                usage.estimated,
                None if price.cost is None else price.cost.nano,
                price.source,
            )
        )
        cost_nano = None if price.cost is None else price.cost.nano
        target = f"{record.provider}/{record.model}"
        opened.bill.ctx.notices.charge(target, usage.input_tokens, usage.output_tokens, cost_nano)
        del self._open[record.id]
        self.admission.settle(opened.reservation, usage.total_tokens, cost_nano or 0)
        return entry_of(record, usage, price.cost, price.source, "ok")

    def _drop(self, opened: Try, *, uncount: bool) -> None:
        self.note_dropped(opened.record.id)
        del self._open[opened.record.id]
        self.admission.release(opened.reservation.taken, uncount=uncount)

    def note_dropped(self, call: str) -> None:
        """Write down that nothing is owed for a call."""
        if self.journal.is_closed:
            # What is open when a worker stops is settled at its estimate by the next one.
            return
        try:
            self.journal.append(Dropped(call))
        except (StorageFull, Unavailable) as error:
            # The next file of the journal knows nothing of it; a crash before that settles it at its estimate.
            _log.warning("a call that was not served cannot be struck out of the journal: %s", error.code)

    def _commit_soon(self) -> None:
        if self._commit is None or self._commit.done():
            self._commit = asyncio.ensure_future(self._commit_all())

    async def _commit_all(self) -> None:
        while self._pending:
            # Also between two commits: among a thousand, a row costs two thirds of what it does among a hundred.
            await asyncio.sleep(_COMMIT_EVERY_S)
            try:
                await self._store_pending()
            except Exception as error:  # noqa: BLE001 - a border: the rows stay, and are tried again
                _log.error("ledger rows wait for the database: %s", type(error).__name__, exc_info=error)
                await asyncio.sleep(_RETRY_S)

    async def _store_pending(self) -> None:
        # One at a time: two that took the same rows would both remove as many, and with them rows that nobody wrote.
        async with self._storing:
            rows = self._pending[:2000]
            if rows:
                await self._sql.write(lambda conn: store.insert_all(conn, rows))
                del self._pending[: len(rows)]

    async def flush(self) -> None:
        """Commit every settled call now. Raises: what the database raises."""
        if self._commit is not None and not self._commit.done():
            self._commit.cancel()
            await asyncio.wait([self._commit])
        while self._pending:
            await self._store_pending()

    async def _tidy_now_and_then(self, chores: Sequence[Callable[[], Awaitable[None]]]) -> None:
        while True:
            await asyncio.sleep(_TIDY_EVERY_S)
            for chore in chores:
                try:
                    await chore()
                except Exception as error:  # noqa: BLE001 - a border: the next round tries again
                    _log.warning("leases or rules of limits were not looked after: %s", type(error).__name__)

    async def tidy(self) -> None:
        """Return idle leases; begin a new journal file when the present one has grown."""
        await self.admission.tidy()
        if self.journal.is_long:
            await self.rotate()

    async def rotate(self) -> None:
        """Begin a new journal file with what is open; the old one goes once its rows are in the ledger."""
        opened = [*(one.record for one in self._open.values()), *(one.record for one in self.held.values())]
        # What an open call holds was leased too, and a reader subtracts it again.
        holding = [held for one in opened for held in one.held]
        holding += [held for handed in self.handing.values() for held in handed.kept]
        leased = [Leased(held.tenant, held.counter, held.slot, held.amount) for held in holding]
        old = self.journal.rotate([*self.admission.leases(), *leased, *opened])
        await self.flush()
        old.unlink(missing_ok=True)

    async def close(self) -> None:
        """Commit the ledger, return all leases, and remove the journal when nothing is open in it."""
        if self._tidier is not None:
            self._tidier.cancel()
            await asyncio.wait([self._tidier])
        stored = False
        try:
            await self.flush()
            await self.admission.tidy(all_of_it=True)
            stored = not self.open_calls
        finally:
            self.journal.close(remove=stored)

    async def ledger(self, ctx: Context, *, trace_id: str | None = None, limit: int = 100) -> Sequence[LedgerEntry]:
        """Ledger rows of the tenant, newest first."""
        await self.flush()
        return await self._sql.read(lambda conn: store.entries(conn, ctx.tenant, trace_id=trace_id, limit=limit))

    async def spend(
        self,
        ctx: Context,
        *,
        by: Literal["app", "model", "provider", "principal", "end_user"],
        since: datetime,
        until: datetime,
        user: str | None = None,
    ) -> Sequence[Spend]:
        """Sums over a period, largest cost first. Grouped by end user, the keys are pseudonyms.

        Args:
            user: only what this end user's calls cost.
        """
        await self.flush()
        # Rows of before ids were keyed hold the id itself.
        users = None if user is None else (self.keyed(ctx.tenant, user), user)
        return await self._sql.read(
            lambda conn: store.spend(conn, ctx.tenant, by=by, since=since, until=until, users=users)
        )

    def keyed(self, tenant: TenantId, user: str) -> str:
        """An end user as the ledger names it."""
        return user if self._pseudonym is None or not user else self._pseudonym(tenant, user)

    async def limit_use(self, ctx: Context) -> Sequence[LimitUse]:
        """How far each limit of the tenant is used now."""
        return await self.admission.use(ctx.tenant)


def entry_of(record: Reserved, usage: Usage, cost: Money | None, price: str, outcome: Outcome) -> LedgerEntry:
    """The ledger row of a journalled call."""
    return LedgerEntry(
        id=record.id,
        tenant=TenantId(record.tenant),
        at=datetime.fromtimestamp(record.at_ns / 1e9, UTC),
        principal=record.principal,
        end_user=record.end_user,
        app=record.app,
        release=None if record.release is None else ReleaseId(record.release),
        trace_id=TraceId(record.trace_id),
        provider=record.provider,
        model=record.model,
        usage=usage,
        cost=cost,
        price=price,
        outcome=outcome,
        tags=record.tags,
    )
