"""What one caller pays at one target, worked out beforehand: for a path that forwards calls and waits for nothing.

Which counters a call meets and what its tokens cost depends on who calls, on the target, and on rules and prices; none
of these changes from one call to the next. `Terms` hold the answers until a rule or a price changes, so that admitting
a call is a few subtractions and one record in the journal.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from interlock.core.ids import TenantId, TraceId
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.admission import Reservation
from interlock.cost.counters import Counter
from interlock.cost.journal import Agreed, Held, Reserved, Settled, Taken
from interlock.cost.limits import Subject
from interlock.cost.prices import Rates
from interlock.cost.types import LedgerEntry, Outcome

if TYPE_CHECKING:
    from interlock.cost.service import Costs

__all__ = ["Hold", "Terms"]


class Hold:
    """One admitted call: charged or dropped once, then closed."""

    __slots__ = (
        "at_ns", "cost", "id", "inputs", "outcome", "outputs", "price", "reservation", "terms", "trace_id", "usage",
    )  # fmt: skip

    def __init__(
        self,
        terms: Terms,
        call: str,
        at_ns: int,
        trace_id: str,
        *,
        inputs: int,
        outputs: int,
        reservation: Reservation,
    ) -> None:
        self.terms = terms
        self.id = call
        self.at_ns = at_ns
        self.trace_id = trace_id
        self.inputs = inputs
        self.outputs = outputs
        self.reservation = reservation
        self.usage: Usage | None = None
        """What was used; None until it is charged."""
        self.cost: int | None = None
        """Nano-dollars; None when unpriced."""
        self.price = ""
        self.outcome: Outcome = "ok"

    @property
    def near(self) -> tuple[str, ...]:
        """Names of limits that are past their warning line."""
        return self.reservation.near

    def charge(self, usage: Usage) -> None:
        """The call was served. Raises: StorageFull, Unavailable: that cannot be written down."""
        self.terms.settle(self, usage)

    def drop(self, *, uncount: bool = False) -> None:
        """Nothing is owed.

        Args:
            uncount: the request itself is given back as well: it is about to be admitted anew.
        """
        self.terms.drop(self, uncount=uncount)

    def close(self, outcome: Outcome) -> None:
        """The request is over: what was charged goes to the ledger, what was not is dropped."""
        self.terms.close(self, outcome)

    @property
    def record(self) -> Reserved:
        """What the journal would say of it in full."""
        subject = self.terms.subject
        return Reserved(
            id=self.id,
            at_ns=self.at_ns,
            tenant=subject.tenant,
            principal=self.terms.principal,
            end_user="",
            app=subject.app,
            release=None,
            trace_id=self.trace_id,
            provider=subject.provider,
            model=subject.model,
            input_tokens=self.inputs,
            output_tokens=self.outputs,
            held=tuple(
                Held(counter.tenant, counter.name, counter.measure, slot, amount)
                for counter, slot, amount in self.reservation.taken
            ),
            tags={},
        )

    def row(self) -> tuple[object, ...]:
        """See `store.Charged`."""
        usage, terms = self.usage, self.terms
        assert usage is not None, "only a charged call has a row"
        subject = terms.subject
        seconds, rest = divmod(self.at_ns, 1_000_000_000)
        return (
            self.id,
            subject.tenant,
            f"{_second(seconds)}.{rest // 1000:06d}",
            terms.principal,
            "",
            subject.app,
            None,
            self.trace_id,
            subject.provider,
            subject.model,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
            usage.estimated,
            self.cost,
            self.price,
            self.outcome,
            usage.cache_write_tokens,
            None,
        )

    def entry(self) -> LedgerEntry:
        """See `store.Charged`."""
        assert self.usage is not None, "only a charged call has a row"
        subject = self.terms.subject
        return LedgerEntry(
            self.id,
            subject.tenant,
            datetime.fromtimestamp(self.at_ns / 1e9, UTC),
            self.terms.principal,
            "",
            subject.app,
            None,
            TraceId(self.trace_id),
            subject.provider,
            subject.model,
            self.usage,
            None if self.cost is None else Money(self.cost),
            self.price,
            self.outcome,
        )


class Terms:
    """Of one caller at one target.

    Args:
        number: unlike that of all others of this process.
        rates: None when the price must be looked up for each use.
    """

    __slots__ = (
        "_costs",
        "_counters",
        "_file",
        "_hard",
        "_rates",
        "generation",
        "number",
        "principal",
        "subject",
    )

    def __init__(
        self,
        costs: Costs,
        number: int,
        subject: Subject,
        principal: str,
        *,
        rates: Rates | None,
        counters: tuple[Counter, ...],
    ) -> None:
        self._costs = costs
        self._rates = rates
        self._counters = counters
        self._file = -1
        """Number of the journal's file that knows these terms."""
        self._hard = tuple(
            (measure, mine)
            for measure in ("requests", "tokens")
            if (mine := [one for one in counters if one.measure == measure and one.rule.mode == "hard"])
        )
        self.number = number
        self.subject = subject
        self.principal = principal
        self.generation = costs.generation
        """Of the rules and prices they were made by: others may hold once `Costs.generation` is another."""

    @property
    def tenant(self) -> TenantId:
        """Who pays."""
        return self.subject.tenant

    def take(self, call: str, trace_id: str, at_ns: int, inputs: int, outputs: int) -> Hold | None:
        """Reserve for a call, and write that down, without waiting for anything.

        None when that cannot be (a limit's lease is used up, a rule would refuse): nothing is held then.

        Args:
            call: id of its ledger row.
            inputs, outputs: tokens that it may use at most.

        Raises: StorageFull, Unavailable: it cannot be written down; nothing is held.
        """
        costs = self._costs
        if costs.is_behind:
            return None
        rates = self._rates
        nano = self._price(Usage(inputs, outputs))[0] if rates is None else rates.nano(inputs, 0, outputs)
        admission, journal = costs.admission, costs.journal
        reservation = admission.reserve_now(self._counters, inputs + outputs, nano)
        if reservation is None:
            return None
        held: list[int] = []
        for _, slot, amount in reservation.taken:
            held.append(slot)
            held.append(amount)
        try:
            if self._file != journal.number:
                self._agree()
            journal.append(Taken(call, self.number, at_ns, trace_id, inputs, outputs, held))
        except BaseException:
            admission.release(reservation.taken, uncount=True)
            raise
        hold = costs.held[call] = Hold(
            self, call, at_ns, trace_id, inputs=inputs, outputs=outputs, reservation=reservation
        )
        return hold

    def _agree(self) -> None:
        """Let the journal's present file know what `Taken` records of this number mean."""
        subject, journal = self.subject, self._costs.journal
        journal.append(
            Agreed(
                self.number,
                subject.tenant,
                self.principal,
                subject.app,
                subject.provider,
                subject.model,
                tuple((counter.name, counter.measure) for counter in self._counters),
            )
        )
        self._file = journal.number

    def settle(self, hold: Hold, usage: Usage) -> None:
        """See `Hold.charge`."""
        assert hold.usage is None, "a call is charged once"
        rates = self._rates
        if rates is None or usage.unmetered or usage.cached_tokens > usage.input_tokens:
            nano, source = self._price(usage)
        else:
            nano = rates.nano(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
            source = rates.source
        costs = self._costs
        costs.journal.append(
            Settled(
                hold.id,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                usage.reasoning_tokens,
                usage.estimated,
                nano,
                source,
            )
        )
        hold.usage = usage
        hold.cost = nano
        hold.price = source
        del costs.held[hold.id]
        costs.admission.settle(hold.reservation, usage.input_tokens + usage.output_tokens, nano or 0)

    def drop(self, hold: Hold, *, uncount: bool) -> None:
        """See `Hold.drop`."""
        costs = self._costs
        if hold.usage is not None or costs.held.pop(hold.id, None) is None:
            return
        costs.note_dropped(hold.id)
        costs.admission.release(hold.reservation.taken, uncount=uncount)

    def close(self, hold: Hold, outcome: Outcome) -> None:
        """See `Hold.close`."""
        if hold.usage is None:
            self.drop(hold, uncount=False)
        else:
            hold.outcome = outcome
            self._costs.book(hold)

    def _price(self, usage: Usage) -> tuple[int | None, str]:
        cost, source = self._costs.prices.lookup(self.subject.provider, self.subject.model, usage)
        return None if cost is None else cost.nano, source

    def quota(self, at: float) -> str:
        """Header lines ``x-ratelimit-…`` about the tightest limits: what `admission.quota_headers` says."""
        told = ""
        for measure, counters in self._hard:
            tightest = counters[0] if len(counters) == 1 else min(counters, key=_remaining)
            told += (
                f"x-ratelimit-limit-{measure}: {tightest.limit}\r\n"
                f"x-ratelimit-remaining-{measure}: {tightest.remaining}\r\n"
            )
            if tightest.whole_at is not None:
                told += f"x-ratelimit-reset-{measure}: {max(1, math.ceil(tightest.whole_at - at))}s\r\n"
        return told


@lru_cache(16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ")[:19]


def _remaining(counter: Counter) -> int:
    return counter.remaining
