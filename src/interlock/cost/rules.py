"""Limits and budgets that are set while Interlock runs: who may, what is stored, and how every worker hears of it."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

from pydantic import ValidationError

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InvalidInput, Misconfigured, NotFound
from interlock.core.ids import TenantId
from interlock.core.wording import plain
from interlock.cost import store
from interlock.cost.admission import Admission, LimitUse
from interlock.cost.limits import LimitRule
from interlock.stores.sql.base import Sql

__all__ = ["MAY_CHANGE", "MAY_SEE", "KnownRule", "Rules", "read_rule"]

_log = logging.getLogger("interlock.cost")
MAY_SEE = (Role.VIEWER, Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
MAY_CHANGE = (Role.OPERATOR,)
_MOST = 1000
_WRITTEN = {
    "name": "a name is 1 to 128 letters, digits and _ . : - and begins with a letter or a digit",
    "money": "an amount of US dollars, as 50 or 0.25",
}


@dataclass(frozen=True, slots=True)
class KnownRule:
    """A rule that holds, and where it comes from."""

    rule: LimitRule
    source: Literal["interlock.yaml", "run time"]
    replaces: bool = False
    """True when it stands in for a rule of `interlock.yaml` with the same name."""
    set_by: str = ""
    set_at: datetime | None = None
    begins_anew: bool = False
    """True of a rule just set whose counters begin at 0: what its predecessor counted is of another window, period,
    time zone or `per`.
    """


# Any value: a rule before validation.
def read_rule(values: Mapping[str, object]) -> LimitRule:
    """A rule from plain values. Raises: InvalidInput naming the field."""
    try:
        return LimitRule.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # What is wrong with the whole is about its time or about its figures.
        whole = "window" if "window" in first["msg"] else "requests"
        name = ".".join(str(step) for step in first["loc"]) or whole
        said = _WRITTEN.get(name) or plain(first["msg"])
        raise InvalidInput(f"{name}: {said}", param=name, hint="see docs/how-to/limits.md") from error


class Rules:
    """Limits and budgets of all tenants: those of the configuration, and those set at run time."""

    def __init__(self, sql: Sql, admission: Admission, audit: AuditLog, *, clock: Callable[[], datetime] = now) -> None:
        self._sql = sql
        self._admission = admission
        self._audit = audit
        self._clock = clock
        self._seen: Mapping[str, frozenset[tuple[str, datetime]]] = {}
        self._set: dict[TenantId, dict[str, KnownRule]] = {}

    async def refresh(self) -> None:
        """Take over what other workers or the command line changed. One small query when nothing did."""
        stamps = await self._sql.read(store.rule_stamps)
        changed = {t for t in {*stamps, *self._seen} if stamps.get(t) != self._seen.get(t)}
        for tenant in changed:
            await self._load(TenantId(tenant))
        self._seen = stamps

    async def _load(self, tenant: TenantId) -> None:
        found: dict[str, KnownRule] = {}
        for spec, by, at in await self._sql.read(partial(store.rules, tenant=tenant)):
            known = {name: value for name, value in spec.items() if name in LimitRule.model_fields}
            try:
                rule = LimitRule.model_validate(known)
            except ValidationError as error:
                # A rule that cannot be read must not count as no rule.
                name = str(spec.get("name"))
                held = self._set.get(tenant, {}).get(name)
                if held is None:
                    raise Misconfigured(
                        f"the stored limit {name!r} cannot be read", hint=f"interlock limits remove {name}"
                    ) from error
                _log.error("the stored limit %s cannot be read; the one before it stays", name)
                rule, by, at = held.rule, held.set_by, held.set_at or at
            found[rule.name] = KnownRule(rule, "run time", set_by=by, set_at=at)
        self._set[tenant] = found
        self._admission.use_rules(tenant, [known.rule for known in found.values()])

    def list(self, ctx: Context) -> list[KnownRule]:
        """Rules that hold for the caller's tenant, by name. Raises: Forbidden."""
        ctx.require(*MAY_SEE)
        mine = self._set.get(ctx.tenant, {})
        configured = self._admission.configured if ctx.tenant == self._admission.tenant else ()
        named = {rule.name for rule in configured}
        found = [KnownRule(rule, "interlock.yaml") for rule in configured if rule.name not in mine]
        found += [
            KnownRule(known.rule, "run time", name in named, known.set_by, known.set_at) for name, known in mine.items()
        ]
        return sorted(found, key=lambda known: known.rule.name)

    def get(self, ctx: Context, name: str) -> KnownRule:
        """One rule. Raises: NotFound, Forbidden."""
        found = next((known for known in self.list(ctx) if known.rule.name == name), None)
        if found is None:
            raise NotFound(f"there is no limit {name[:128]!r}", param="name", hint="interlock limits list")
        return found

    async def use(self, ctx: Context, name: str | None = None) -> builtins.list[LimitUse]:
        """How far each counter is used, all workers together. Raises: NotFound, Forbidden."""
        ctx.require(*MAY_SEE)
        if name is not None:
            self.get(ctx, name)
        return [use for use in await self._admission.use(ctx.tenant) if name in {None, use.rule.name}]

    async def put(self, ctx: Context, rule: LimitRule) -> KnownRule:
        """Set a rule, replacing one of the same name.

        What its counters hold goes on to count, unless they are of another kind then (`KnownRule.begins_anew`). It
        holds in this worker at once and in every other within a few seconds. Raises: Forbidden, Conflict.
        """
        ctx.require(*MAY_CHANGE)
        mine = self._set.get(ctx.tenant, {})
        if rule.name not in mine and len(mine) >= _MOST:
            raise Conflict(f"a tenant has at most {_MOST} limits", hint="remove some: interlock limits list")
        before = next((known.rule for known in self.list(ctx) if known.rule.name == rule.name), None)
        spec = rule.model_dump(mode="json", exclude_defaults=True)
        at, by = self._clock(), str(ctx.principal.id)
        await self._sql.write(partial(store.put_rule, tenant=ctx.tenant, name=rule.name, spec=spec, by=by, at=at))
        await self._told(ctx, "limit.set", rule.name, {"limit": _summary(rule)})
        await self.refresh()
        return replace(self.get(ctx, rule.name), begins_anew=before is not None and _kind(before) != _kind(rule))

    async def remove(self, ctx: Context, name: str) -> KnownRule:
        """Remove a rule that was set at run time; gives it. Raises: NotFound, Forbidden, Conflict: it is configured."""
        ctx.require(*MAY_CHANGE)
        known = self.get(ctx, name)
        if known.source != "run time":
            raise Conflict(
                f"the limit {name!r} comes from interlock.yaml",
                param="name",
                hint="edit cost.limits in interlock.yaml, then: interlock reload; or set one of this name over it",
            )
        await self._sql.write(partial(store.delete_rule, tenant=ctx.tenant, name=name))
        await self._told(ctx, "limit.remove", name, {})
        await self.refresh()
        return known

    async def _told(self, ctx: Context, action: str, name: str, details: Mapping[str, str | int | bool]) -> None:
        await self._audit.append(
            AuditEvent(
                tenant=ctx.tenant,
                actor=str(ctx.principal.id),
                action=action,
                subject=name,
                outcome="ok",
                details=details,
                trace_id=ctx.trace_id,
            )
        )


def _kind(rule: LimitRule) -> tuple[object, ...]:
    """What its counters are named and numbered by."""
    calendar = rule.timezone if rule.period in {"day", "week", "month"} else ""
    return rule.window, rule.period, calendar, rule.per


def _summary(rule: LimitRule) -> str:
    figures = [f"{rule.requests} requests" if rule.requests is not None else ""]
    figures += [f"{rule.tokens} tokens" if rule.tokens is not None else ""]
    figures += [f"${rule.money}" if rule.money is not None else ""]
    return f"{', '.join(filter(None, figures))} / {rule.window or rule.period}, {rule.mode}"
