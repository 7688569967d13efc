"""Kept answers in the shared key-value store: bounded, and forgotten by tag without a race.

Each tag (everything, an app, a route, a document) has an *epoch*, a counter that a purge moves on. An answer
carries the epochs of its tags from before it was asked for, so one that was being written while its document was
erased is never given to anybody. A `generation` that moves with every purge saves looking at the tags while
nothing was purged.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from interlock.core.errors import InterlockError
from interlock.core.ids import TenantId
from interlock.core.messages import ChatEvent
from interlock.gateway.cache.entries import Kept, joined, pack, unpack
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.cache.types import CacheScope, Entry, Purge, user_tag
from interlock.stores.kv.base import Kv

__all__ = ["CacheStore", "Place", "Stamp"]

_SLOTS = 8
_MOST_POINTERS = 2_000
"""What more answers than this ever rested on: forgetting all answers is quicker than finding them."""


class Place(NamedTuple):
    """Where an answer is kept."""

    tenant: TenantId
    app: str
    route: str
    digest: str
    rests_on: tuple[str, ...] = ()
    """Tags of what the answer was written from, and for whom: ``document:ID``, ``collection:NAME``, ``user:…``."""

    @classmethod
    def of(cls, tenant: TenantId, scope: CacheScope, route: str, digest: str, *, user: str = "") -> Place:
        """The place of a call, for an end user if it has one."""
        rests_on = [f"document:{name}" for name in sorted(set(scope.documents))]
        rests_on += [f"collection:{scope.collection}"] if scope.collection else []
        rests_on += [user_tag(user)] if user else []
        return cls(tenant, scope.app, route, digest, tuple(rests_on))

    @property
    def tags(self) -> tuple[str, ...]:
        """What may be purged that takes this answer along."""
        own = ["all", *([f"app:{self.app}"] if self.app else []), *([f"route:{self.route}"] if self.route else [])]
        return (*own, *self.rests_on)

    @property
    def key(self) -> str:
        """Key of the answer."""
        return f"{_folder(self.app, self.route)}{self.digest}"


class Stamp(NamedTuple):
    """State of the tags before an answer is asked for."""

    generation: int
    epochs: dict[str, int]


def _folder(app: str, route: str) -> str:
    return f"cache/e/{quote(app, safe='') or '-'}/{quote(route, safe='') or '-'}/"


class CacheStore:
    """Entries, tags and bounds over a `Kv`.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, kv: Kv, *, clock: Callable[[], float] = time.time) -> None:
        self._kv = kv
        self._clock = clock

    async def stamp(self, place: Place) -> Stamp:
        """Read before the answer is asked for; `put` wants it."""
        generation = await self._count(place.tenant, "cache/generation")
        # The generation first: a purge between the two makes the answer look older than it is, never newer.
        return Stamp(generation, {tag: await self._count(place.tenant, f"cache/t/{tag}") for tag in place.tags})

    async def get(self, place: Place, spec: CacheSpec) -> Entry | None:
        """The kept answer, if it still holds."""
        data = await self._kv.get(place.tenant, place.key)
        kept = None if data is None else unpack(data)
        if kept is None:
            return None
        if kept.generation != await self._count(place.tenant, "cache/generation"):
            for tag in {*place.tags, *kept.epochs}:
                if kept.epochs.get(tag, 0) != await self._count(place.tenant, f"cache/t/{tag}"):
                    return None
        age = self._clock() - kept.written_at
        if age > spec.ttl_s + spec.stale_s:
            return None
        return Entry(kept.events, kept.target, fresh=age <= spec.ttl_s)

    async def put(self, place: Place, spec: CacheSpec, stamp: Stamp, events: Sequence[ChatEvent], target: str) -> bool:
        """Keep an answer; False when it is too large or the route's share is full."""
        at = self._clock()
        data = pack(Kept(joined(events), target, at, stamp.generation, stamp.epochs))
        if len(data) > spec.max_entry_bytes:
            return False
        life_s = spec.ttl_s + spec.stale_s
        slot_s = max(life_s / _SLOTS, 1.0)
        epochs = "/".join(str(stamp.epochs.get(tag, 0)) for tag in place.tags if tag not in place.rests_on)
        # Bytes written within a life are all that can be alive. A purge begins a new count, since it frees the old.
        granted = await self._kv.grant(
            place.tenant,
            f"cache/b/{quote(place.app, safe='')}/{quote(place.route, safe='')}/{epochs}",
            len(data),
            limit=spec.max_bytes,
            slot=int(at // slot_s),
            span=_SLOTS + 1,
            ttl_s=life_s + 2 * slot_s,
        )
        if not granted.amount:
            return False
        await self._kv.set(place.tenant, place.key, data, life_s)
        for tag in place.rests_on:
            await self._point(place.tenant, tag, place.key, life_s)
        if await self.has_moved(place, stamp):
            # Erased while it was made: nobody would be given it, but its bytes must not stay either.
            await self._kv.delete(place.tenant, place.key)
            return False
        return True

    async def has_moved(self, place: Place, stamp: Stamp) -> bool:
        """Whether something the answer rests on was purged since `stamp`."""
        if stamp.generation == await self._count(place.tenant, "cache/generation"):
            return False
        for tag in place.tags:
            if stamp.epochs.get(tag, 0) != await self._count(place.tenant, f"cache/t/{tag}"):
                return True
        return False

    async def _point(self, tenant: TenantId, tag: str, key: str, life_s: float) -> None:
        name = quote(tag, safe="")
        number = await self._kv.increment(tenant, f"cache/n/{name}")
        await self._kv.set(tenant, f"cache/d/{name}/{number}", key.encode(), life_s)

    async def purge(self, tenant: TenantId, what: Purge) -> int:
        """Make answers unreachable, then remove their bytes; how many were removed."""
        await self._kv.increment(tenant, f"cache/t/{what}")
        await self._kv.increment(tenant, "cache/generation")
        if what.user is not None:
            # Embeddings are kept by text, not by whose text it was.
            await self._kv.delete_prefix(tenant, "cache/v/")
        if what.document is not None or what.collection is not None or what.user is not None:
            return await self._remove_pointed(tenant, str(what))
        if what.app is not None:
            name = quote(what.app, safe="") or "-"
            await self._kv.delete_prefix(tenant, f"cache/s/{name}/")
            return await self._kv.delete_prefix(tenant, f"cache/e/{name}/")
        if what.route is not None:
            name = quote(what.route, safe="") or "-"
            await self._kv.delete_prefix(tenant, f"cache/s/-/{name}/")
            return await self._kv.delete_prefix(tenant, f"cache/e/-/{name}/")
        removed = await self._kv.delete_prefix(tenant, "cache/e/")
        for prefix in ("cache/d/", "cache/n/", "cache/s/", "cache/v/"):
            await self._kv.delete_prefix(tenant, prefix)
        return removed

    async def _remove_pointed(self, tenant: TenantId, tag: str) -> int:
        name = quote(tag, safe="")
        pointers = await self._count(tenant, f"cache/n/{name}")
        if pointers > _MOST_POINTERS:
            await self._kv.delete_prefix(tenant, "cache/s/")
            removed = await self._kv.delete_prefix(tenant, "cache/e/")
        else:
            removed = 0
            for number in range(1, pointers + 1):
                key = (await self._kv.get(tenant, f"cache/d/{name}/{number}") or b"").decode()
                # A bucket of questions goes along, and is no answer.
                removed += bool(key) and await self._kv.delete(tenant, key) and key.startswith("cache/e/")
        await self._kv.delete_prefix(tenant, f"cache/d/{name}/")
        # The counter stays: a pointer that is being written now must get a number of its own.
        return removed

    async def lead(self, place: Place, holder: str, ttl_s: float) -> bool:
        """Say that `holder` is asking for an answer; False while another one is."""
        return await self._kv.add(place.tenant, self._lead(place), holder.encode(), ttl_s)

    async def is_led(self, place: Place) -> bool:
        """True while somebody is asking."""
        return await self._kv.get(place.tenant, self._lead(place)) is not None

    async def led(self, place: Place, holder: str) -> None:
        """`holder` has asked. Does nothing when its time was over."""
        if await self._kv.get(place.tenant, self._lead(place)) == holder.encode():
            await self._kv.delete(place.tenant, self._lead(place))

    @staticmethod
    def _lead(place: Place) -> str:
        return f"cache/f/{hashlib.sha256(place.key.encode()).hexdigest()}"

    async def vector(self, tenant: TenantId, name: str) -> bytes | None:
        """A kept embedding, as little-endian float32."""
        return await self._kv.get(tenant, f"cache/v/{name}")

    async def keep_vector(self, tenant: TenantId, name: str, data: bytes, ttl_s: float) -> None:
        """Keep an embedding."""
        await self._kv.set(tenant, f"cache/v/{name}", data, ttl_s)

    async def questions(self, place: Place) -> bytes | None:
        """Kept questions of a bucket (`place.digest`)."""
        return await self._kv.get(place.tenant, self._bucket(place))

    async def keep_questions(self, place: Place, data: bytes, ttl_s: float) -> None:
        """Replace a bucket's questions."""
        await self._kv.set(place.tenant, self._bucket(place), data, ttl_s)
        for tag in place.rests_on:
            if tag.startswith("user:"):
                await self._point(place.tenant, tag, self._bucket(place), ttl_s)

    async def forget_questions(self, place: Place) -> None:
        """Remove a bucket's questions."""
        await self._kv.delete(place.tenant, self._bucket(place))

    @staticmethod
    def _bucket(place: Place) -> str:
        return f"cache/s/{quote(place.app, safe='') or '-'}/{quote(place.route, safe='') or '-'}/{place.digest}"

    async def _count(self, tenant: TenantId, key: str) -> int:
        value = await self._kv.get(tenant, key)
        try:
            return 0 if value is None else int(value)
        except ValueError as error:
            raise InterlockError(f"the cache's counter {key!r} holds no number") from error
