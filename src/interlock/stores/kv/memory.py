"""Key-value store in this process: the default of a single worker, and the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from interlock.core.errors import Conflict
from interlock.core.ids import TenantId
from interlock.stores.kv.base import Granted

__all__ = ["MemoryKv", "MemoryLease"]

_SWEEP_EVERY = 4096


@dataclass(slots=True)
class _Entry:
    value: bytes
    expires_s: float | None


@dataclass(slots=True)
class _Held:
    holder: str
    token: int
    expires_s: float


@dataclass(slots=True)
class _Slot:
    amount: int
    expires_s: float | None


class MemoryKv:
    """A `Kv` in a dictionary, for one event loop; nothing survives the process.

    No method waits between reading and writing, so each is atomic.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[tuple[TenantId, str], _Entry] = {}
        self._leases: dict[tuple[TenantId, str], _Held] = {}
        self._grants: dict[tuple[TenantId, str], dict[int, _Slot]] = {}
        self._writes = 0

    async def get(self, tenant: TenantId, key: str) -> bytes | None:
        """See `Kv.get`."""
        entry = self._live(tenant, key)
        return None if entry is None else entry.value

    async def set(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> None:
        """See `Kv.set`."""
        self._put(tenant, key, value, ttl_s)

    async def add(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> bool:
        """See `Kv.add`."""
        if self._live(tenant, key) is not None:
            return False
        self._put(tenant, key, value, ttl_s)
        return True

    async def delete(self, tenant: TenantId, key: str) -> bool:
        """See `Kv.delete`."""
        was_live = self._live(tenant, key) is not None
        self._entries.pop((tenant, key), None)
        return was_live

    async def delete_prefix(self, tenant: TenantId, prefix: str) -> int:
        """See `Kv.delete_prefix`. Looks at every key of every tenant."""
        found = [key for owner, key in self._entries if owner == tenant and key.startswith(prefix)]
        return sum([await self.delete(tenant, key) for key in found])

    async def increment(
        self, tenant: TenantId, key: str, amount: int = 1, *, limit: int | None = None, ttl_s: float | None = None
    ) -> int | None:
        """See `Kv.increment`. Raises: Conflict: the key holds something that is not a number."""
        entry = self._live(tenant, key)
        try:
            value = amount if entry is None else int(entry.value) + amount
        except ValueError as error:
            raise Conflict(f"the key {key!r} holds a value, not a counter", hint="use another key") from error
        if limit is not None and value > limit:
            return None
        if entry is None:
            self._put(tenant, key, b"%d" % value, ttl_s)
        else:
            entry.value = b"%d" % value
        return value

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
        """See `Kv.grant`."""
        left = max(0, limit - await self.granted(tenant, counter, slot=slot, span=span))
        given = min(amount, left)
        if given < (amount if at_least is None else at_least) or given <= 0:
            return Granted(0, left)
        slots = self._grants.setdefault((tenant, counter), {})
        if slot in slots:
            slots[slot].amount += given
        else:
            slots[slot] = _Slot(given, None if ttl_s is None else self._clock() + ttl_s)
            self._count_write()
        return Granted(given, left - given)

    async def give_back(self, tenant: TenantId, counter: str, amount: int, *, slot: int = 0) -> None:
        """See `Kv.give_back`."""
        held = self._live_slots(tenant, counter).get(slot)
        if held is not None:
            held.amount = max(0, held.amount - amount)

    async def granted(self, tenant: TenantId, counter: str, *, slot: int = 0, span: int = 1) -> int:
        """See `Kv.granted`."""
        slots = self._live_slots(tenant, counter)
        return sum(held.amount for at, held in slots.items() if slot - span < at <= slot)

    async def counters(self, tenant: TenantId, prefix: str) -> list[str]:
        """See `Kv.counters`."""
        mine = [name for owner, name in self._grants if owner == tenant and name.startswith(prefix)]
        return sorted(name for name in mine if self._live_slots(tenant, name))[:1000]

    def _live_slots(self, tenant: TenantId, counter: str) -> dict[int, _Slot]:
        slots = self._grants.get((tenant, counter), {})
        for at in [at for at, held in slots.items() if held.expires_s is not None and held.expires_s <= self._clock()]:
            del slots[at]
        return slots

    async def acquire(self, tenant: TenantId, name: str, *, holder: str, ttl_s: float) -> MemoryLease | None:
        """See `Kv.acquire`. The same holder gets it again with a new token: its earlier lease object is lost."""
        held = self._leases.get((tenant, name))
        if held is not None and held.expires_s > self._clock() and held.holder != holder:
            return None
        token = 1 if held is None else held.token + 1
        self._leases[tenant, name] = _Held(holder, token, self._clock() + ttl_s)
        return MemoryLease(self, tenant, name, token, ttl_s)

    async def sweep(self) -> int:
        """Forget expired values; how many went. Writers do it now and then."""
        return self._sweep()

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._leases.clear()
        self._grants.clear()

    def _renew(self, lease: MemoryLease) -> bool:
        held = self._leases.get((lease.tenant, lease.name))
        if held is None or held.token != lease.token or held.expires_s == 0:
            return False
        held.expires_s = self._clock() + lease.ttl_s
        return True

    def _release(self, lease: MemoryLease) -> None:
        held = self._leases.get((lease.tenant, lease.name))
        if held is not None and held.token == lease.token:
            # The row stays, so that the next holder's token is higher.
            held.expires_s = 0

    def _is_expired(self, entry: _Entry) -> bool:
        return entry.expires_s is not None and entry.expires_s <= self._clock()

    def _live(self, tenant: TenantId, key: str) -> _Entry | None:
        entry = self._entries.get((tenant, key))
        return None if entry is None or self._is_expired(entry) else entry

    def _put(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None) -> None:
        self._entries[tenant, key] = _Entry(value, None if ttl_s is None else self._clock() + ttl_s)
        self._count_write()

    def _count_write(self) -> None:
        self._writes += 1
        if self._writes % _SWEEP_EVERY == 0:
            self._sweep()

    def _sweep(self) -> int:
        expired = [at for at, entry in self._entries.items() if self._is_expired(entry)]
        for at in expired:
            del self._entries[at]
        for tenant, counter in list(self._grants):
            if not self._live_slots(tenant, counter):
                del self._grants[tenant, counter]
        return len(expired)


@dataclass(frozen=True, slots=True)
class MemoryLease:
    """A lease held in a `MemoryKv`."""

    kv: MemoryKv
    tenant: TenantId
    name: str
    token: int
    ttl_s: float

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return self.kv._renew(self)

    async def release(self) -> None:
        """See `Lease.release`."""
        self.kv._release(self)
