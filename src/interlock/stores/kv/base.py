"""Small shared state: counters, cached values, leases.

Keys are scoped by tenant; values are bytes. Shaped so that Redis or Valkey can hold it: each method is one command
or one script.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from interlock.core.ids import TenantId

__all__ = ["Granted", "Kv", "Lease"]


class Granted(NamedTuple):
    """What `Kv.grant` gave."""

    amount: int
    """Units that are now the caller's; 0 when less than asked for was left."""
    left: int
    """Units that remain for others."""


class Lease(Protocol):
    """A named right held by one process until it lets go or dies."""

    @property
    def name(self) -> str:
        """What is leased."""

    @property
    def token(self) -> int:
        """Fencing token: grows with each new holder, so a stale holder's writes can be refused."""

    async def renew(self) -> bool:
        """Extend by the lease's time to live; False when it was lost."""

    async def release(self) -> None:
        """Let go at once. Does nothing when it was lost."""


class Kv(Protocol):
    """One key-value store."""

    async def get(self, tenant: TenantId, key: str) -> bytes | None:
        """The value, or None when absent or expired."""

    async def set(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> None:
        """Store, replacing; expires after `ttl_s` seconds when given."""

    async def add(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> bool:
        """Store only when absent; True when this call stored it."""

    async def delete(self, tenant: TenantId, key: str) -> bool:
        """Remove; True when it was there."""

    async def delete_prefix(self, tenant: TenantId, prefix: str) -> int:
        """Remove every key that starts with `prefix`; how many went."""

    async def increment(
        self, tenant: TenantId, key: str, amount: int = 1, *, limit: int | None = None, ttl_s: float | None = None
    ) -> int | None:
        """Add atomically and give the new value; with `limit`, None and no change when it would pass the limit.

        `ttl_s` sets the expiry when this call creates the counter and is ignored later, which makes a fixed window.
        """

    async def grant(
        self,
        tenant: TenantId,
        counter: str,
        amount: int,
        *,
        limit: int,
        slot: int = 0,
        span: int = 1,
        at_least: int | None = None,
        ttl_s: float | None = None,
    ) -> Granted:
        """Hand out units of a quota so that the sum over slots ``slot - span + 1 .. slot`` never passes `limit`.

        Gives as much of `amount` as is left, and nothing when that is less than `at_least` (default: all of it).
        Slots number stretches of time, so that a sliding window is the sum of its last `span` slots; a calendar
        period is one slot. `ttl_s` bounds how long a slot is kept after its first grant.
        """

    async def give_back(self, tenant: TenantId, counter: str, amount: int, *, slot: int = 0) -> None:
        """Return units of a slot; more than it holds empties it, and an expired slot stays gone."""

    async def granted(self, tenant: TenantId, counter: str, *, slot: int = 0, span: int = 1) -> int:
        """Units handed out in the last `span` slots up to `slot`."""

    async def counters(self, tenant: TenantId, prefix: str) -> list[str]:
        """Names of at most 1,000 counters that begin with `prefix` and hold a slot, sorted."""

    async def acquire(self, tenant: TenantId, name: str, *, holder: str, ttl_s: float) -> Lease | None:
        """Take the lease `name`, or None while another holder has it."""

    async def close(self) -> None:
        """Let go of resources."""
