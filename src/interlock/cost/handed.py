"""Reservations that outlive their worker: for calls whose answers come hours later, from a provider's batch API.

The units stay counted while the provider works. What is written down elsewhere as `Handed.stored` is the reservation's
owner from `let_go` on; its journal then knows nothing of it. The ledger row is made when the answer is there, under the
id that the reservation had from the beginning, so that however often an answer is taken it is charged once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection

from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.admission import Reservation
from interlock.cost.journal import Held, Leased, Reserved
from interlock.cost.store import insert_all
from interlock.cost.types import LedgerEntry

if TYPE_CHECKING:
    from interlock.cost.service import Bill, Costs

__all__ = ["Handed", "HandedTry", "cheaper", "units_of"]


@dataclass(slots=True)
class Handed:
    """One reservation at the price of a provider's batch API."""

    record: Reserved
    discount: Decimal
    """Part of the ordinary price that is not charged, 0 to 1."""
    reservation: Reservation | None = field(default=None, repr=False)
    """Only in the process that made it, until `let_go` or `take_back`."""
    entry: LedgerEntry | None = None
    """The ledger row once it is charged: whoever stores the answer stores it, in one transaction."""
    asked: bool = False
    """A call was admitted by it already: further ones are ordinary calls."""

    @property
    def kept(self) -> Sequence[Held]:
        """Units that are given back where they are not used. That it was asked for counts, whatever becomes of it."""
        return [held for held in self.record.held if held.measure != "requests"]

    # Any: JSON.
    def stored(self) -> dict[str, Any]:
        """As JSON; `read` gives it back."""
        return {"record": msgspec.to_builtins(self.record), "discount": str(self.discount)}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Handed:
        """What `stored` wrote."""
        return cls(msgspec.convert(stored["record"], Reserved), Decimal(stored["discount"]))

    def let_go(self, costs: Costs) -> None:
        """It is written down durably: this worker's journal no longer answers for its units."""
        for held in self.kept:
            costs.journal.append(Leased(held.tenant, held.counter, held.slot, -held.amount))
        self.reservation = None
        costs.handing.pop(self.record.id, None)

    def take_back(self, costs: Costs) -> None:
        """It could not be written down: give its units back."""
        if self.reservation is not None:
            costs.admission.release(self.reservation.taken)
            self.reservation = None
            costs.handing.pop(self.record.id, None)

    def book(self, conn: Connection) -> None:
        """Store the ledger row, in the transaction that stores the answer. Without a charge there is none."""
        if self.entry is not None:
            insert_all(conn, [self.entry])

    async def put_right(self, costs: Costs) -> None:
        """Replace the units that were held by what the ledger row says; by nothing without one. Called once."""
        used = units_of(self.entry)
        for held in self.kept:
            await costs.admission.put_right(held, used[held.measure])


@dataclass(slots=True, eq=False)
class HandedTry:
    """The call that a handed reservation was for. Implements :class:`interlock.core.ports.Admitted`."""

    bill: Bill
    handed: Handed

    def charge(self, usage: Usage) -> None:
        """See `Admitted.charge`."""
        self.bill.entries.append(self.bill.costs.charge_handed(self.handed, usage, self.bill.ctx.notices))

    def drop(self) -> None:
        """See `Admitted.drop`: whoever keeps the reservation gives it back."""


def units_of(entry: LedgerEntry | None) -> Mapping[str, int]:
    """What a call used of each measure."""
    if entry is None:
        return {"requests": 1, "tokens": 0, "money": 0}
    return {"requests": 1, "tokens": entry.usage.total_tokens, "money": entry.cost.nano if entry.cost else 0}


def cheaper(cost: Money | None, discount: Decimal) -> Money | None:
    """A cost less the discount, half a nano-dollar to even; what is unpriced stays so."""
    if cost is None or not discount:
        return cost
    return Money(int((Decimal(cost.nano) * (1 - discount)).to_integral_value()))
