"""Counters of limit rules in this process, fed by leases from the shared store.

A worker leases a few units ahead, so that most calls are admitted without asking anybody; the sum of all leases never
passes the limit, however many workers there are. What a call used beyond its reservation becomes a debt that the next
lease pays first: this is the only way past a limit, and its bound is the error of the estimates of calls in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from interlock.core.finishing import finished
from interlock.core.ids import TenantId
from interlock.cost.limits import LimitRule, Measure
from interlock.stores.kv.base import Kv

__all__ = ["Counter", "Exhausted"]

_CHUNKS = 64
"""A lease is this part of the limit, when the call itself needs less: a worker that dies holds no more than that."""
_UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Why units were refused."""

    rule: LimitRule
    measure: Measure
    limit: int
    left: int
    retry_after_s: float | None
    """Seconds until enough may be free again; None when waiting will not help."""


class Counter:
    """One counter: a rule's measure for one scope.

    Args:
        journal: told of every lease and every return, ``(counter, slot, units)`` with returns negative, so that what a
            killed worker held can be given back.
    """

    __slots__ = (
        "_journal",
        "_kv",
        "_leased",
        "_left",
        "_lock",
        "ends_at",
        "free",
        "limit",
        "measure",
        "name",
        "near",
        "rule",
        "slot",
        "tenant",
        "used_at",
        "whole_at",
    )

    def __init__(
        self,
        kv: Kv,
        tenant: TenantId,
        rule: LimitRule,
        measure: Measure,
        *,
        scope: str,
        journal: Callable[[Counter, int, int], None],
    ) -> None:
        self._kv = kv
        self._journal = journal
        self.tenant = tenant
        self.rule = rule
        self.measure = measure
        self.limit = rule.measures[measure]
        self.name = f"limit:{rule.name}:{measure}:{scope}"
        self.free = 0
        """Leased units not yet reserved; negative is debt."""
        self.slot = -1
        self.ends_at = 0.0
        """Unix seconds at which the slot is over."""
        self.whole_at: float | None = None
        """Unix seconds at which nothing that was used by now counts any more; None: never."""
        self.used_at = 0.0
        self._left = self.limit
        self.near = 0
        """With more than this free, the warning line is not reached."""
        self._leased: dict[int, int] = {}
        self._lock = asyncio.Lock()

    @property
    def share(self) -> float:
        """Used part of the limit that this worker knows of: leased by anybody and not free here."""
        return (self.limit - self._left - max(0, self.free)) / self.limit if self.limit else 1.0

    @property
    def remaining(self) -> int:
        """Units that may still be reserved, as this worker knows it."""
        return max(0, self._left + self.free)

    @property
    def is_near(self) -> bool:
        """True when the use that this worker knows of is past the rule's warning line."""
        return self.free <= self.near and self.share >= self.rule.warn_at

    def try_take(self, amount: int, at: float) -> bool:
        """Reserve `amount` from what is leased already; False when the store must be asked first."""
        if at >= self.ends_at or self.free < amount:
            return False
        self.free -= amount
        self.used_at = at
        return True

    async def take(self, amount: int, at: float) -> Exhausted | None:
        """Reserve `amount`, leasing more when needed. None when it is reserved."""
        if self.try_take(amount, at):
            return None
        async with self._lock:
            await finished(self._turn_to(at))
            if self.try_take(amount, at):
                return None
            outcome: list[Exhausted | None] = []
            try:
                # What the store grants to a caller who leaves meanwhile, it has granted to this worker all the same.
                await finished(self._lease_for(amount, at, outcome))
            except BaseException:
                if outcome == [None]:
                    self.free += amount
                raise
            return outcome[0]

    async def _lease_for(self, amount: int, at: float, outcome: list[Exhausted | None]) -> None:
        """Lease what `amount` lacks, and reserve it; says in `outcome` whether it did. Under the lock."""
        need = amount - self.free
        slot = self.rule.slot(at)
        granted = await self._kv.grant(
            self.tenant,
            self.name,
            max(need, self.limit // _CHUNKS),
            limit=self.limit,
            slot=slot.number,
            span=self.rule.span,
            at_least=need,
            ttl_s=slot.ttl_s,
        )
        self._left = granted.left
        self.near = max(0, int(self.limit * (1 - self.rule.warn_at)) + 1 - granted.left)
        if granted.amount == 0 and need > 0:
            outcome.append(Exhausted(self.rule, self.measure, self.limit, granted.left, self._wait_s(amount, at)))
            return
        self._lease(granted.amount)
        self.free -= amount
        self.used_at = at
        outcome.append(None)

    def settle(self, reserved: int, actual: int, slot: int) -> int:
        """Replace a reservation made in `slot` by what was used; gives units to return to a slot that has passed."""
        if slot == self.slot:
            self.free += reserved - actual
            return 0
        # A window or period that is over: what was not used returns there, what was used beyond is owed now.
        if actual > reserved:
            self.free -= actual - reserved
            return 0
        return reserved - actual

    async def give_back(self, amount: int, slot: int) -> None:
        """Return units to the store."""
        if amount > 0:
            self._journal(self, slot, -amount)
            try:
                await self._kv.give_back(self.tenant, self.name, amount, slot=slot)
            except BaseException:
                self._journal(self, slot, amount)
                raise

    async def rest(self, at: float, *, all_of_it: bool = False) -> None:
        """Return leased units that are not being used, and pay debts: called now and then, and at the end."""
        async with self._lock:
            if not all_of_it:
                await self._turn_to(at)
            if self.free > 0:
                await self._return_free()
            elif self.free < 0:
                debt, self.free = -self.free, 0
                slot = self.rule.slot(at)
                try:
                    await self._kv.grant(
                        self.tenant, self.name, debt, limit=_UNBOUNDED, slot=slot.number, ttl_s=slot.ttl_s
                    )
                except BaseException:
                    self.free -= debt
                    raise
                self._journal(self, slot.number, debt)

    async def _return_free(self) -> None:
        """Return what is free now; it stays here when the store cannot be told. Under the lock."""
        free, self.free = self.free, 0
        self._leased[self.slot] = self._leased.get(self.slot, 0) - free
        try:
            await self.give_back(free, self.slot)
        except BaseException:
            self.free += free
            self._leased[self.slot] = self._leased.get(self.slot, 0) + free
            raise

    async def used(self, at: float) -> int:
        """Units in use or spent in the current window or period, those leased by other workers included."""
        slot = self.rule.slot(at)
        granted = await self._kv.granted(self.tenant, self.name, slot=slot.number, span=self.rule.span)
        return granted - (self.free if slot.number == self.slot else 0)

    def _lease(self, amount: int) -> None:
        self.free += amount
        self._leased[self.slot] = self._leased.get(self.slot, 0) + amount
        self._journal(self, self.slot, amount)

    async def _turn_to(self, at: float) -> None:
        """Enter the slot of `at`; what was leased for an earlier one goes back there, a debt is carried along."""
        slot = self.rule.slot(at)
        if slot.number == self.slot:
            return
        while self.free > 0:  # calls that end meanwhile give back to the slot that is still open here
            await self._return_free()
        self.slot, self.ends_at = slot.number, slot.ends_at
        wait_s = self.rule.reset_s(at)
        self.whole_at = None if wait_s is None else at + wait_s
        for old in [number for number in self._leased if number <= slot.number - self.rule.span]:
            del self._leased[old]

    def _wait_s(self, amount: int, at: float) -> float | None:
        if amount > self.limit:
            return None
        slot = self.rule.slot(at)
        if self.rule.window is None:
            return None if slot.ends_at == float("inf") else max(1.0, slot.ends_at - at)
        freed = 0
        for number in sorted(self._leased):
            freed += self._leased[number]
            if freed >= amount:
                return max(1.0, (number + self.rule.span) * self.rule.slot_s - at)
        return max(1.0, slot.ends_at - at)
