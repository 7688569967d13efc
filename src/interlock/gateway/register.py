"""The provider register as people read it: what each target is approved for, and what refuses or ends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from interlock.gateway.checking import targets_of
from interlock.gateway.routing import approval_of
from interlock.gateway.settings import GatewaySettings
from interlock.gateway.types import Approval, RouteSpec, Target

__all__ = ["SOON_DAYS", "Registered", "register"]

SOON_DAYS = 60
"""From how long before its last day on a target is said to end soon."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One target and its entry."""

    target: str
    approval: Approval | None
    state: Literal["approved", "unregistered", "refused", "ends soon", "ended"]
    """`unregistered` is refused only with `must_be_approved`, which makes it `refused`."""
    reason: str
    """Why it is refused or ends; empty when it is approved."""
    used_by: tuple[str, ...]
    """Routes and apps that name it."""


def register(settings: GatewaySettings, today: date, *, apps: Iterable[tuple[str, RouteSpec]] = ()) -> list[Registered]:
    """Every target that is configured or named by a route, by name, then entries of the register that none goes by.

    Args:
        apps: ``app/NAME`` and its route.
    """
    used: dict[str, list[str]] = {
        f"{name}/{model}": [] for name, entry in settings.providers.items() for model in entry.models
    }
    for owner, route in (*((f"route/{name}", route) for name, route in settings.routes.items()), *apps):
        for _, target in targets_of(route):
            owners = used.setdefault(_full(target), [])
            if owner not in owners:
                owners.append(owner)
    rows = [_registered(name, tuple(owners), settings, today) for name, owners in sorted(used.items())]
    # Entries that no known target goes by are told as they are written.
    told = {id(row.approval) for row in rows}
    patterns = sorted(name for name, entry in settings.approvals.items() if id(entry) not in told)
    return rows + [_judged(name, settings.approvals[name], (), today) for name in patterns]


def _full(name: str) -> str:
    target = Target.parse(name)
    return f"{target.provider}/{target.model}"


def _registered(name: str, owners: tuple[str, ...], settings: GatewaySettings, today: date) -> Registered:
    target = Target.parse(name)
    approval = approval_of(settings.approvals, target)
    shown = str(target)
    if approval is None:
        if settings.must_be_approved:
            return Registered(shown, None, "refused", "it is not in gateway.approvals", owners)
        return Registered(shown, None, "unregistered", "it is not in gateway.approvals", owners)
    return _judged(shown, approval, owners, today)


def _judged(shown: str, approval: Approval, owners: tuple[str, ...], today: date) -> Registered:
    ends = approval.deprecated_on
    if ends is not None and today >= ends:
        return Registered(shown, approval, "ended", f"it is out of use since {ends.isoformat()}", owners)
    if ends is not None and (ends - today).days <= SOON_DAYS:
        reason = f"it is used until {ends.isoformat()}, {(ends - today).days} days from now"
        return Registered(shown, approval, "ends soon", reason, owners)
    return Registered(shown, approval, "approved", "", owners)
