"""One state machine for every limit and budget: reserve before a try, settle what served, release what did not.

Every rule that matches must have room, or nothing is reserved. A call that moves to another target gives up its
reservation and makes a new one there, so limits are checked again at every hop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from interlock.core.errors import BudgetExceeded, LimitExceeded
from interlock.core.ids import TenantId
from interlock.core.money import Money
from interlock.cost.counters import Counter, Exhausted
from interlock.cost.journal import Held, Journal, Leased
from interlock.cost.limits import LimitRule, Measure, Subject
from interlock.stores.kv.base import Kv

__all__ = ["Admission", "Demand", "LimitUse", "Reservation", "quota_headers"]

_MAX_COUNTERS = 50_000
_IDLE_S = 2.0
_UNBOUNDED = 1 << 62
_RETIRED_S = 7200.0
"""How long the counter of a rule that was changed or removed is kept for calls that still hold it: longer than any."""


class Demand(msgspec.Struct, frozen=True):
    """What one try may use at most."""

    tokens: int
    money: Money | None
    """None when the target is unpriced."""

    def of(self, measure: Measure) -> int:
        """Units of a measure."""
        if measure == "requests":
            return 1
        return self.tokens if measure == "tokens" else (self.money.nano if self.money else 0)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How far one counter is used."""

    rule: LimitRule
    measure: Measure
    scope: str
    used: int
    limit: int


@dataclass(slots=True)
class Reservation:
    """Units held for one try."""

    taken: list[tuple[Counter, int, int]]
    """Counter, slot, units."""
    near: tuple[str, ...] = ()
    """Names of rules that are past their warning line, soft ones also past their limit."""

    def held(self) -> tuple[Held, ...]:
        """For the journal."""
        return tuple(
            Held(counter.tenant, counter.name, counter.measure, slot, amount) for counter, slot, amount in self.taken
        )


class Admission:
    """Limits of all tenants in this worker.

    Args:
        kv: shared by all workers that a limit is about.
        rules: of the workspace's configuration, for `tenant`.
        clock: Unix seconds.
    """

    def __init__(
        self,
        kv: Kv,
        journal: Journal,
        *,
        tenant: TenantId,
        rules: Sequence[LimitRule] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kv = kv
        self._journal = journal
        self._clock = clock
        self._tenant = tenant
        self._configured = tuple(rules)
        self._stored: dict[TenantId, tuple[LimitRule, ...]] = {}
        self._counters: dict[tuple[TenantId, str, Measure, str], Counter] = {}
        self._returns: list[tuple[Counter, int, int]] = []
        self.generation = 0
        """Another number when the counters about a subject may be others."""
        self._retired: list[tuple[float, Counter]] = []
        self.refused: dict[Measure, int] = {}
        """Tries that a hard limit stopped since start, by what ran out."""
        self.warned: dict[Measure, int] = {}
        """Tries that passed a warning line or a soft limit."""

    @property
    def configured(self) -> Sequence[LimitRule]:
        """Rules of the workspace's configuration."""
        return self._configured

    @property
    def tenant(self) -> TenantId:
        """Whose the configured rules are."""
        return self._tenant

    def stored(self, tenant: TenantId) -> Sequence[LimitRule]:
        """Rules set at run time."""
        return self._stored.get(tenant, ())

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def rules(self, tenant: TenantId) -> Sequence[LimitRule]:
        """Rules of a tenant: the workspace's, then those set at run time, which replace one of the same name."""
        stored = self._stored.get(tenant, ())
        named = {rule.name for rule in stored}
        base = self._configured if tenant == self._tenant else ()
        return [*(rule for rule in base if rule.name not in named), *stored]

    def use_rules(self, tenant: TenantId, rules: Sequence[LimitRule]) -> None:
        """Replace a tenant's run-time rules. Counters of a rule that changed go on with what was used.

        Calls under way settle with the rules that they were admitted by.
        """
        self._stored[tenant] = tuple(rules)
        self.generation += 1
        current = {rule.name: rule for rule in self.rules(tenant)}
        for key, counter in list(self._counters.items()):
            if key[0] == tenant and current.get(key[1]) != counter.rule:
                self._retired.append((self._clock(), self._counters.pop(key)))

    def use_configured(self, rules: Sequence[LimitRule]) -> None:
        """Replace the workspace's rules."""
        self._configured = tuple(rules)
        self.use_rules(self._tenant, self._stored.get(self._tenant, ()))

    async def reserve(
        self, subject: Subject, demand: Demand, *, counted: set[str], met: list[Counter] | None = None
    ) -> Reservation:
        """Take room for one try under every rule that is about it.

        Args:
            counted: counters that this call was already counted in as a request; added to.
            met: gets the counters that were asked, also when the try is refused.

        Raises: BudgetExceeded, LimitExceeded: names the rule; nothing is held then.
        """
        at = self._clock()
        taken: list[tuple[Counter, int, int]] = []
        near: list[str] = []
        for rule in self.rules(subject.tenant):
            if not rule.match.holds(subject):
                continue
            scope = rule.scope(subject)
            for measure in rule.measures:
                counter = self._counter(subject.tenant, rule, measure, scope)
                if met is not None:
                    met.append(counter)
                if measure == "requests" and counter.name in counted:
                    continue
                if measure == "money" and demand.money is None and rule.unpriced == "refuse" and rule.mode == "hard":
                    self._refuse(taken, counted, measure)
                    raise _unpriced(rule, subject)
                amount = demand.of(measure)
                try:
                    refused = await counter.take(amount, at)
                except BaseException:
                    # The caller left, or the store is away: nobody will settle what was taken before.
                    self.release(taken, uncount=True)
                    raise
                if refused is not None and rule.mode == "soft":
                    counter.free -= amount
                    near.append(rule.name)
                    self.warned[measure] = self.warned.get(measure, 0) + 1
                elif refused is not None:
                    self._refuse(taken, counted, measure)
                    raise _error(refused, scope)
                taken.append((counter, counter.slot, amount))
                if refused is None and counter.is_near:
                    near.append(rule.name)
                    self.warned[measure] = self.warned.get(measure, 0) + 1
        counted.update(counter.name for counter, _, _ in taken if counter.measure == "requests")
        return Reservation(taken, tuple(dict.fromkeys(near)))

    def reserve_now(self, counters: Sequence[Counter], tokens: int, nano: int | None) -> Reservation | None:
        """As `reserve`, from what this worker has leased already.

        None when the store must be asked, or a rule would refuse: nothing is held then, and `reserve` decides.

        Args:
            counters: of `counters_of`, as long as `generation` stays.
            nano: nano-dollars; None when the target is unpriced.
        """
        at = self._clock()
        taken: list[tuple[Counter, int, int]] = []
        near: tuple[str, ...] = ()
        for counter in counters:
            measure = counter.measure
            if measure == "requests":
                amount = 1
            elif measure == "tokens":
                amount = tokens
            elif nano is not None:
                amount = nano
            else:
                amount = 0 if counter.rule.unpriced != "refuse" else -1
            if at >= counter.ends_at or counter.free < amount or amount < 0:
                for held, _, units in taken:
                    held.free += units
                return None
            counter.free -= amount
            counter.used_at = at
            taken.append((counter, counter.slot, amount))
            if counter.free <= counter.near and counter.is_near and counter.rule.name not in near:
                near = (*near, counter.rule.name)
                self.warned[measure] = self.warned.get(measure, 0) + 1
        return Reservation(taken, near)

    def counters_of(self, subject: Subject) -> tuple[Counter, ...]:
        """Counters that a call of `subject` meets, in the order of the rules."""
        return tuple(
            self._counter(subject.tenant, rule, measure, rule.scope(subject))
            for rule in self.rules(subject.tenant)
            if rule.match.holds(subject)
            for measure in rule.measures
        )

    def _refuse(self, taken: Sequence[tuple[Counter, int, int]], counted: set[str], measure: Measure) -> None:
        self.release(taken)
        self.refused[measure] = self.refused.get(measure, 0) + 1
        # It was asked for, and its next try at another target is the same request.
        counted.update(counter.name for counter, _, _ in taken if counter.measure == "requests")

    async def short(self, subject: Subject, demand: Demand) -> list[str]:
        """Names of the hard rules that would refuse a try now. Takes nothing."""
        at = self._clock()
        names = []
        for rule in self.rules(subject.tenant):
            if rule.mode == "soft" or not rule.match.holds(subject):
                continue
            unpriced = demand.money is None and "money" in rule.measures and rule.unpriced == "refuse"
            scope = rule.scope(subject)
            for measure, limit in rule.measures.items():
                used = await self._counter(subject.tenant, rule, measure, scope).used(at)
                if unpriced or used + demand.of(measure) > limit:
                    names.append(rule.name)
                    break
        return names

    def pressure(self, subject: Subject) -> float:
        """Share used of the fullest money budget that is about a caller, whatever the target."""
        shares = [0.0]
        for rule in self.rules(subject.tenant):
            if "money" in rule.measures and not rule.by_target and rule.match.holds(subject):
                known = self._counters.get((subject.tenant, rule.name, "money", rule.scope(subject)))
                shares.append(known.share if known is not None else 0.0)
        return max(shares)

    def settle(self, reservation: Reservation, tokens: int, nano: int) -> None:
        """Replace the reservation by what was used."""
        for counter, slot, amount in reservation.taken:
            measure = counter.measure
            actual = tokens if measure == "tokens" else nano if measure == "money" else 1
            if slot == counter.slot:
                counter.free += amount - actual
            else:
                self._put_right(counter, slot, amount, actual)
        reservation.taken = []

    async def put_right(self, held: Held, actual: int) -> None:
        """Replace units that no worker leases any more by what was used of them."""
        tenant = TenantId(held.tenant)
        if held.amount > actual:
            await self._kv.give_back(tenant, held.counter, held.amount - actual, slot=held.slot)
        elif actual > held.amount:
            await self._kv.grant(tenant, held.counter, actual - held.amount, limit=_UNBOUNDED, slot=held.slot)

    def release(self, taken: Sequence[tuple[Counter, int, int]], *, uncount: bool = False) -> None:
        """Give everything back, except that a request stays counted: the limit is on asking.

        Args:
            uncount: give that back too: the request is about to be admitted anew.
        """
        for counter, slot, amount in taken:
            self._put_right(counter, slot, amount, amount if counter.measure == "requests" and not uncount else 0)

    def _put_right(self, counter: Counter, slot: int, reserved: int, actual: int) -> None:
        late = counter.settle(reserved, actual, slot)
        if late:
            self._returns.append((counter, late, slot))

    def _counter(self, tenant: TenantId, rule: LimitRule, measure: Measure, scope: str) -> Counter:
        key = (tenant, rule.name, measure, scope)
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= _MAX_COUNTERS:
                self._forget_idle()
            counter = self._counters[key] = Counter(self._kv, tenant, rule, measure, scope=scope, journal=self._note)
        return counter

    def _note(self, counter: Counter, slot: int, units: int) -> None:
        self._journal.append(Leased(counter.tenant, counter.name, slot, units))

    def _forget_idle(self) -> None:
        for key, counter in list(self._counters.items()):
            if counter.free == 0 and counter.used_at < self._clock() - 60:
                del self._counters[key]
        self.generation += 1

    async def tidy(self, *, all_of_it: bool = False) -> None:
        """Give back what is not being used. Called now and then, and with `all_of_it` at the end."""
        at = self._clock()
        while self._returns:
            counter, amount, slot = self._returns.pop()
            try:
                await counter.give_back(amount, slot)
            except BaseException:
                self._returns.append((counter, amount, slot))
                raise
        for counter in list(self._counters.values()):
            if all_of_it or (counter.free and counter.used_at < at - _IDLE_S):
                await counter.rest(at, all_of_it=all_of_it)
        for _, counter in self._retired:
            await counter.rest(at, all_of_it=True)
        self._retired = [(since, counter) for since, counter in self._retired if since > at - _RETIRED_S]

    def leases(self) -> list[Leased]:
        """What this worker holds, for the next file of the journal: leased units that are not yet settled."""
        held: dict[tuple[TenantId, str, int], int] = {}
        for counter in (*self._counters.values(), *(retired for _, retired in self._retired)):
            if counter.free:
                at = (counter.tenant, counter.name, counter.slot)
                held[at] = held.get(at, 0) + counter.free
        for counter, amount, slot in self._returns:
            at = (counter.tenant, counter.name, slot)
            held[at] = held.get(at, 0) + amount
        return [Leased(tenant, name, slot, units) for (tenant, name, slot), units in held.items()]

    async def use(self, tenant: TenantId) -> list[LimitUse]:
        """How far each known counter of a tenant is used, in the order of the rules."""
        at = self._clock()
        found = []
        for rule in self.rules(tenant):
            for measure, limit in rule.measures.items():
                prefix = f"limit:{rule.name}:{measure}:"
                names = await self._kv.counters(tenant, prefix)
                for scope in sorted({name.removeprefix(prefix) for name in names} | (set() if rule.per else {""})):
                    used = await self._counter(tenant, rule, measure, scope).used(at)
                    found.append(LimitUse(rule, measure, scope, used, limit))
        return found


def quota_headers(met: Sequence[Counter], at: float) -> Mapping[str, str]:
    """``x-ratelimit-…`` of the tightest hard limits on requests and on tokens, in OpenAI's names.

    What remains is as this worker knows it: exact when it is the only one, otherwise up to the others' leases too high.
    The reset is when the counter is whole again if nothing more is asked.
    """
    found: dict[str, str] = {}
    for measure in ("requests", "tokens"):
        mine = [counter for counter in met if counter.measure == measure and counter.rule.mode == "hard"]
        if mine:
            tightest = min(mine, key=lambda counter: counter.remaining)
            found[f"x-ratelimit-limit-{measure}"] = str(tightest.limit)
            found[f"x-ratelimit-remaining-{measure}"] = str(tightest.remaining)
            if (reset := tightest.rule.reset_s(at)) is not None:
                found[f"x-ratelimit-reset-{measure}"] = f"{max(1, math.ceil(reset))}s"
    return found


def _error(refused: Exhausted, scope: str) -> LimitExceeded:
    rule = refused.rule
    over = f"per {rule.window}" if rule.window else f"per {rule.period}" if rule.period != "total" else "in total"
    if refused.measure == "money":
        return BudgetExceeded(
            f"the budget {rule.name!r} of {Money(refused.limit)} {over} has {Money(refused.left)} left,"
            " less than this call may cost",
            hint="ask for a shorter answer or a cheaper model, or have the budget raised: interlock budgets list",
            retry_after_s=refused.retry_after_s,
        )
    return LimitExceeded(
        f"the limit {rule.name!r} of {refused.limit:,} {refused.measure} {over} is reached",
        hint="wait as Retry-After says, or have the limit raised: interlock limits list",
        retry_after_s=refused.retry_after_s,
        retryable=refused.retry_after_s is not None,
    )


def _unpriced(rule: LimitRule, subject: Subject) -> BudgetExceeded:
    return BudgetExceeded(
        f"{subject.provider}/{subject.model} has no price, so the budget {rule.name!r} cannot be kept",
        code="unpriced_model",
        hint=f"set cost.prices for {subject.provider}/{subject.model}, or `unpriced: allow` on the budget",
    )
