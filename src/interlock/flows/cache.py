"""Look at the cache, and make it forget: audited, for one tenant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from interlock.core.audit import AuditEvent
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Unavailable
from interlock.flows.parts import Parts
from interlock.gateway.cache.service import PROVIDER, AnswerCache
from interlock.gateway.cache.types import Purge

__all__ = ["cache_stats", "forget_answers", "purge_cache"]


def _cache(parts: Parts) -> AnswerCache:
    if parts.gateway.cache is None:
        raise Unavailable("this gateway keeps no answers", hint="open it with a cache")
    return parts.gateway.cache


# Any: JSON on its way out.
async def cache_stats(parts: Parts, ctx: Context, *, days: float = 30.0) -> dict[str, Any]:
    """What the cache did: answers given again in `days`, from the ledger, and this worker's counts."""
    ctx.require(Role.VIEWER, Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
    until = now()
    since = until - timedelta(days=days)
    rows = await parts.cost.spend(ctx, by="provider", since=since, until=until)
    calls = sum(row.calls for row in rows)
    hits = sum(row.calls for row in rows if row.key == PROVIDER)
    counts: Mapping[str, int] = _cache(parts).counts.get(ctx.tenant, {})
    return {
        "since": since.isoformat(timespec="seconds"),
        "calls": calls,
        "given_again": hits,
        "share": round(hits / calls, 4) if calls else None,
        "worker": {name: int(value) for name, value in sorted(counts.items())},
        "routes": {
            name: route.cache.model_dump(mode="json")
            for name, route in parts.gateway.routes.items()
            if route.cache is not None
        },
    }


async def forget_answers(parts: Parts, ctx: Context, what: Purge) -> int:
    """Forget answers as part of an act that is allowed and audited by itself; how many were removed."""
    return await _cache(parts).purge(ctx.tenant, what)


async def purge_cache(parts: Parts, ctx: Context, what: Purge) -> int:
    """Forget answers; how many were removed. Needs the role developer or operator; audited."""
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    removed = await _cache(parts).purge(ctx.tenant, what)
    await parts.governance.append(
        AuditEvent(
            ctx.tenant,
            ctx.principal.id,
            "cache.purge",
            str(what)[:256],
            "ok",
            {"removed": removed},
            trace_id=ctx.trace_id,
        )
    )
    return removed
