"""Compare what limits have counted with what the ledger says was spent, and put right what differs.

A counter may rightly stand above the ledger while calls are under way or other workers hold leases, so it is only
lowered when this is the only worker and nothing is open; one that stands below is raised at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.context import Context
from interlock.core.ids import TenantId
from interlock.cost import store
from interlock.cost.journal import live_workers
from interlock.cost.limits import LimitRule, Measure, Subject
from interlock.cost.rules import MAY_CHANGE, MAY_SEE
from interlock.cost.service import Costs
from interlock.cost.types import LedgerEntry
from interlock.stores.kv.base import Kv
from interlock.stores.sql.base import Sql

__all__ = ["Difference", "Reconciled", "reconcile"]

_UNBOUNDED = 1 << 62
_MAX_ORPHANS = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """One counter and the ledger's sum for it, in the measure's unit (money in nano-dollars)."""

    rule: LimitRule
    measure: Measure
    scope: str
    counted: int
    ledger: int
    state: Literal["equal", "below", "above", "raised", "lowered"]
    """`below` and `above` say where the counter stands against the ledger; the others what was done about it."""


class Reconciled(NamedTuple):
    """What was found."""

    differences: Sequence[Difference]
    """Every counter of rules that the ledger can tell about, those that are equal included."""
    unknown: Sequence[str]
    """Names of rules that it cannot: rules on requests alone, of which the ledger has only the served ones, rules about
    groups of users, which it does not keep, and rules about users whose rows no counter and no rule explains: the
    ledger has no ids of people, only what stands for them."""
    orphans: Sequence[LedgerEntry]
    """Calls whose worker died before it was known how they ended: each is charged at its estimate, newest first."""
    busy: str
    """Why counters that stand above the ledger are left as they are; empty when they may be lowered."""


class _Sum(NamedTuple):
    rule: str
    measure: Measure
    scope: str
    slot: int


async def reconcile(
    costs: Costs,
    sql: Sql,
    kv: Kv,
    audit: AuditLog,
    ctx: Context,
    *,
    journals: Path,
    repair: bool = False,
    held: int = 0,
) -> Reconciled:
    """Compare the counters of the caller's tenant in their present window or period.

    Args:
        journals: folder where the workers of this machine keep their journals.
        repair: change the counters. Needs the role operator.
        held: lines of batches that providers have, whose reservations no worker holds.

    Raises: Forbidden.
    """
    ctx.require(*(MAY_CHANGE if repair else MAY_SEE))
    await costs.flush()
    await costs.admission.tidy(all_of_it=True)
    at = costs.admission.now()
    rules = list(costs.admission.rules(ctx.tenant))
    told = [rule for rule in rules if rule.match.group is None and set(rule.measures) != {"requests"}]
    users = await _users(costs, kv, ctx.tenant, told)
    sums, strangers = await _sums(sql, ctx.tenant, told, at, users) if told else ({}, set())
    told = [rule for rule in told if rule.name not in strangers]
    busy = _busy(costs, journals, held)
    found = []
    for rule in told:
        for measure in rule.measures:
            if measure == "requests":
                continue
            prefix = f"limit:{rule.name}:{measure}:"
            names = {name.removeprefix(prefix) for name in await kv.counters(ctx.tenant, prefix)}
            names |= {key.scope for key in sums if (key.rule, key.measure) == (rule.name, measure)}
            for scope in sorted(names):
                found.append(
                    await _compare(
                        kv,
                        ctx.tenant,
                        rule=rule,
                        measure=measure,
                        scope=scope,
                        sums=sums,
                        at=at,
                        repair=repair,
                        busy=busy,
                    )
                )
    mended = [difference for difference in found if difference.state in {"raised", "lowered"}]
    if mended:
        details: dict[str, str | int | bool] = {"counters": len(mended)}
        await audit.append(AuditEvent(ctx.tenant, str(ctx.principal.id), "limit.reconcile", "counters", "ok", details))
    orphans = await sql.read(partial(store.orphans, tenant=ctx.tenant, limit=_MAX_ORPHANS))
    return Reconciled(found, [rule.name for rule in rules if rule not in told], orphans, busy)


def _busy(costs: Costs, journals: Path, held: int) -> str:
    if costs.open_calls:
        return f"{costs.open_calls} calls are under way here"
    if held:
        return f"providers' batch APIs have {held} lines"
    others = live_workers(journals) - 1
    return f"{others} other workers hold leases on this machine" if others > 0 else ""


async def _users(costs: Costs, kv: Kv, tenant: TenantId, rules: Sequence[LimitRule]) -> dict[str, str]:
    """Ids of the users that counters and rules name, by what stands for them in the ledger."""
    ids = {rule.match.user for rule in rules if rule.match.user is not None and not _is_pattern(rule.match.user)}
    for rule in rules:
        if "user" not in rule.per:
            continue
        place = rule.per.index("user")
        for measure in rule.measures:
            prefix = f"limit:{rule.name}:{measure}:"
            for name in await kv.counters(tenant, prefix):
                values = name.removeprefix(prefix).split("|")
                if len(values) == len(rule.per):
                    ids.add(values[place].replace("%7C", "|").replace("%25", "%"))
    return {costs.keyed(tenant, one): one for one in ids}


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _is_about(rule: LimitRule) -> bool:
    """Whether the rule may be about a user whose id is not known. One that names a single user is not."""
    if rule.match.user is not None and not _is_pattern(rule.match.user):
        return False
    return "user" in rule.per or rule.match.user not in {None, "*"}


async def _sums(
    sql: Sql, tenant: TenantId, rules: Sequence[LimitRule], at: float, users: Mapping[str, str]
) -> tuple[dict[_Sum, int], set[str]]:
    """What the ledger has for every counter, by slot of the present window or period, and the rules that are about
    users whom nothing but the ledger knows.
    """
    found: dict[_Sum, int] = {}
    strangers: set[str] = set()
    first = {rule.name: rule.slot(at).number - rule.span + 1 for rule in rules}

    def read(conn: Connection) -> None:
        for entry in store.matching(conn, tenant, datetime.fromtimestamp(_since(rules, at), UTC)):
            # Rows of before ids were keyed hold the id itself.
            user = users.get(entry.end_user, entry.end_user)
            subject = _subject(entry, user)
            is_stranger = entry.end_user not in users and user not in users.values() and bool(user)
            for rule in rules:
                number = rule.slot(entry.at.timestamp()).number
                if number < first[rule.name]:
                    continue
                if is_stranger and _is_about(rule):
                    strangers.add(rule.name)
                if not rule.match.holds(subject):
                    continue
                units = {"tokens": entry.usage.total_tokens, "money": entry.cost.nano if entry.cost else 0}
                for measure in rule.measures:
                    if measure != "requests":
                        key = _Sum(rule.name, measure, rule.scope(subject), number)
                        found[key] = found.get(key, 0) + units[measure]

    await sql.read(read)
    return found, strangers


def _since(rules: Sequence[LimitRule], at: float) -> float:
    """Start of the longest present window or period, at least as early as it is, in Unix seconds."""
    if any(rule.period == "total" for rule in rules):
        return 0.0
    periods = {"hour": 3600, "day": 90_000, "week": 8 * 86_400, "month": 32 * 86_400}
    lengths = [rule.slot_s * rule.span if rule.window else periods[rule.period or "day"] for rule in rules]
    return at - max(lengths)


def _subject(entry: LedgerEntry, user: str) -> Subject:
    # A service's principal is its key's id, so the ledger tells keys apart as admission does.
    return Subject(
        tenant=entry.tenant,
        key=entry.principal,
        user=user,
        app=entry.app,
        tags=entry.tags,
        provider=entry.provider,
        model=entry.model,
    )


async def _compare(
    kv: Kv,
    tenant: TenantId,
    *,
    rule: LimitRule,
    measure: Measure,
    scope: str,
    sums: dict[_Sum, int],
    at: float,
    repair: bool,
    busy: str,
) -> Difference:
    name = f"limit:{rule.name}:{measure}:{scope}"
    slot = rule.slot(at)
    counted = await kv.granted(tenant, name, slot=slot.number, span=rule.span)
    slots = range(slot.number - rule.span + 1, slot.number + 1)
    ledger = {number: sums.get(_Sum(rule.name, measure, scope, number), 0) for number in slots}
    total = sum(ledger.values())
    if counted == total:
        return Difference(rule, measure, scope, counted, total, "equal")
    is_below = counted < total
    if not repair or (not is_below and busy):
        return Difference(rule, measure, scope, counted, total, "below" if is_below else "above")
    for number in slots:
        held = await kv.granted(tenant, name, slot=number, span=1)
        if held < ledger[number]:
            missing = ledger[number] - held
            await kv.grant(tenant, name, missing, limit=_UNBOUNDED, slot=number, ttl_s=slot.ttl_s)
        elif held > ledger[number] and not busy:
            await kv.give_back(tenant, name, held - ledger[number], slot=number)
    return Difference(rule, measure, scope, counted, total, "raised" if is_below else "lowered")
