"""Limits and their use as JSON, one shape for the command line and the API."""

from __future__ import annotations

from typing import Any

from interlock.core.money import Money
from interlock.cost.admission import LimitUse
from interlock.cost.reconcile import Reconciled
from interlock.cost.rules import KnownRule

__all__ = ["reconciled_view", "rule_view", "use_view"]

# Any in this module: JSON objects on their way out.


def rule_view(known: KnownRule) -> dict[str, Any]:
    """A limit as it was written, and where it comes from."""
    return {
        **known.rule.model_dump(mode="json"),
        "source": known.source,
        "replaces": known.replaces,
        "set_by": known.set_by or None,
        "set_at": known.set_at.isoformat() if known.set_at else None,
    }


def use_view(use: LimitUse) -> dict[str, Any]:
    """One counter: money in dollars as a decimal string, everything else in whole units."""
    is_money = use.measure == "money"

    def amount(units: int) -> str | int:
        return f"{Money(units).decimal():f}" if is_money else units

    share = use.used / use.limit if use.limit else 1.0
    return {
        "limit": use.rule.name,
        "measure": use.measure,
        "scope": dict(zip(use.rule.per, use.scope.split("|"), strict=False)) if use.rule.per else {},
        "used": amount(use.used),
        "of": amount(use.limit),
        "share": round(share, 4),
        "state": "over" if share >= 1 else "near" if share >= use.rule.warn_at else "well",
        "mode": use.rule.mode,
        "per": use.rule.window or use.rule.period,
    }


def reconciled_view(found: Reconciled) -> dict[str, Any]:
    """Counters against the ledger, and the calls whose end nobody saw."""
    return {
        "counters": [
            {
                "limit": row.rule.name,
                "measure": row.measure,
                "scope": row.scope,
                "counted": f"{Money(row.counted).decimal():f}" if row.measure == "money" else row.counted,
                "ledger": f"{Money(row.ledger).decimal():f}" if row.measure == "money" else row.ledger,
                "state": row.state,
            }
            for row in found.differences
        ],
        "not_compared": list(found.unknown),
        "busy": found.busy or None,
        "orphans": [
            {
                "id": row.id,
                "at": row.at.isoformat(),
                "provider": row.provider,
                "model": row.model,
                "principal": row.principal,
                "trace_id": row.trace_id,
                "tokens": row.usage.total_tokens,
                "cost_usd": None if row.cost is None else f"{row.cost.decimal():f}",
            }
            for row in found.orphans
        ],
    }
