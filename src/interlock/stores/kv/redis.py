"""Key-value store on a Redis or Valkey server: state that several machines share.

Every change of more than one thing is a script, so it happens whole or not at all. The server's clock decides what has
expired. All keys of a tenant carry the same hash tag, ``interlock:{TENANT}:…``:

====================  ==========================================================================
``v:KEY``             a cached value or a counter
``g:SLOT:COUNTER``    units handed out in one slot of a quota
``n``, ``x``          names of the tenant's quotas, by name and by when they end
``l:NAME``            a lease; it stays when the lease ends, so that its token only ever grows
====================  ==========================================================================

A command is sent once: one that timed out may have been done, and doing it again could count twice. Units that were
granted to nobody in this way stay granted, so a limit errs on the side of refusing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from interlock.core.errors import Conflict, Misconfigured, MissingExtra, Unavailable
from interlock.core.ids import TenantId
from interlock.stores.kv.base import Granted

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisKv", "RedisLease", "ServerFacts", "is_redis"]

_CONNECT_S = 2.0
_ANSWER_S = 2.0
_CONNECTIONS = 32
_SCAN = 1000
_LISTED = 1000

_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

# KEYS: value. ARGV: amount, limit or '', ttl ms or ''.
_INCREMENT = """
local held = redis.call('GET', KEYS[1])
if held and not string.match(held, '^-?%d+$') then return {-1, 0} end
if ARGV[2] ~= '' and (tonumber(held) or 0) + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return {0, 0} end
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if not held and ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {1, value}
"""

# KEYS: names, ends, the slot, the other slots of the window. ARGV: amount, limit, at least, ttl ms or '', name.
# Sums are exact to 2^53 units (nine million dollars in billionths); what is added is exact always.
_GRANT = (
    _NOW
    + """
local used = 0
for at = 3, #KEYS do used = used + (tonumber(redis.call('GET', KEYS[at])) or 0) end
local left = math.max(0, tonumber(ARGV[2]) - used)
local given = math.min(tonumber(ARGV[1]), left)
if given < tonumber(ARGV[3]) or given <= 0 then return {'0', string.format('%.0f', left)} end
local is_new = redis.call('EXISTS', KEYS[3]) == 0
redis.call('INCRBY', KEYS[3], string.format('%.0f', given))
if is_new then
  local ends = '+inf'
  if ARGV[4] ~= '' then
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
    ends = string.format('%.0f', now + tonumber(ARGV[4]))
  end
  redis.call('ZADD', KEYS[1], 0, ARGV[5])
  local known = redis.call('ZSCORE', KEYS[2], ARGV[5])
  if not known or (known ~= 'inf' and (ends == '+inf' or tonumber(known) < tonumber(ends))) then
    redis.call('ZADD', KEYS[2], ends, ARGV[5])
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)) do
    redis.call('ZREM', KEYS[1], gone)
    redis.call('ZREM', KEYS[2], gone)
  end
end
return {string.format('%.0f', given), string.format('%.0f', left - given)}
"""
)

# KEYS: the slot. ARGV: amount.
_GIVE_BACK = """
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
if tonumber(held) <= tonumber(ARGV[1]) then redis.call('SET', KEYS[1], 0, 'KEEPTTL')
else redis.call('DECRBY', KEYS[1], ARGV[1]) end
return 1
"""

# KEYS: names, ends. ARGV: first, past the last, how many.
_COUNTERS = (
    _NOW
    + """
local found = {}
local offset = 0
while #found < tonumber(ARGV[3]) do
  local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', offset, 1000)
  if #names == 0 then break end
  for _, name in ipairs(names) do
    local ends = redis.call('ZSCORE', KEYS[2], name)
    local lives = ends and (ends == 'inf' or tonumber(ends) > now)
    if lives and #found < tonumber(ARGV[3]) then table.insert(found, name) end
  end
  offset = offset + 1000
end
return found
"""
)

# KEYS: lease. ARGV: holder, ttl ms.
_ACQUIRE = (
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'holder', 'ends')
if held[1] and tonumber(held[2]) > now and held[1] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'ends', string.format('%.0f', now + tonumber(ARGV[2])))
return redis.call('HINCRBY', KEYS[1], 'token', 1)
"""
)

# KEYS: lease. ARGV: token, ttl ms; 0 ms lets go. An expired lease that nobody took is still its holder's.
_RENEW = (
    _NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'token', 'ends')
if held[1] ~= ARGV[1] or held[2] == '0' then return 0 end
local ends = '0'
if ARGV[2] ~= '0' then ends = string.format('%.0f', now + tonumber(ARGV[2])) end
redis.call('HSET', KEYS[1], 'ends', ends)
return 1
"""
)


def is_redis(address: str) -> bool:
    """True for an address that :class:`RedisKv` takes: ``redis://``, ``rediss://`` (TLS) or ``unix://``."""
    return urlsplit(address).scheme in {"redis", "rediss", "unix"}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says about itself."""

    version: str
    evicts: str
    """Its `maxmemory-policy` when it has a bound on memory and one that throws keys away; else empty."""
    persists: bool
    """True when it writes snapshots or an append-only file, so that counters outlive a restart."""


class RedisKv:
    """A `Kv` on one Redis (6.2 or later) or Valkey server, also behind a proxy or with a failover; not a cluster.

    Connects at the first call. Every call takes at most about four seconds, connecting included.

    Args:
        address: ``redis://host:port/db``, ``rediss://…`` for TLS, ``unix:///path?db=0``.
        password: used when the address has none.

    Raises: MissingExtra; Misconfigured: not such an address.
    """

    def __init__(self, address: str, *, password: str | None = None) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "stores.kv names a Redis server, and the library for it is not installed",
                hint="pip install 'interlock[redis]'",
            ) from error
        parts = urlsplit(address)
        self._place = parts.path if parts.scheme == "unix" else (parts.hostname or "localhost")
        # A password in the address takes the place of one that is given.
        given = {"password": password} if password else {}
        try:
            pool = BlockingConnectionPool.from_url(
                address,
                max_connections=_CONNECTIONS,
                timeout=_CONNECT_S,
                socket_connect_timeout=_CONNECT_S,
                socket_timeout=_ANSWER_S,
                protocol=2,  # the scripts speak it, and so does every proxy
                retry=Retry(NoBackoff(), 0),
                **given,
            )
        except (ValueError, TypeError) as error:
            # The library's message may hold the address, and that a password.
            raise Misconfigured(
                "stores.kv is not the address of a Redis server",
                param="stores.kv",
                hint="redis://host:6379/0, rediss://host:6380/0 for TLS, or unix:///run/redis.sock",
            ) from error
        self._redis: Redis = Redis(connection_pool=pool)
        self._pool = pool
        script = self._redis.register_script
        self._increment, self._grant, self._give_back = script(_INCREMENT), script(_GRANT), script(_GIVE_BACK)
        self._counters, self._acquire, self._renewal = script(_COUNTERS), script(_ACQUIRE), script(_RENEW)

    async def ping(self) -> None:
        """Raises: Unavailable: it cannot be reached or refuses us."""
        async with self._talking():
            await self._run("PING")

    async def facts(self) -> ServerFacts:
        """What the server is and what it does when its memory is full. Raises: Unavailable."""
        async with self._talking():
            info: dict[str, Any] = await self._redis.info()  # Any: the server's own mixture
        policy = str(info.get("maxmemory_policy", "noeviction"))
        bounded = int(info.get("maxmemory", 0) or 0) > 0
        return ServerFacts(
            version=str(info.get("valkey_version") or info.get("redis_version") or "?"),
            evicts=policy if bounded and policy != "noeviction" else "",
            persists=bool(info.get("aof_enabled")) or int(info.get("rdb_last_save_time", 0) or 0) > 0,
        )

    async def get(self, tenant: TenantId, key: str) -> bytes | None:
        """See `Kv.get`."""
        async with self._talking():
            value: bytes | None = await self._run("GET", _key(tenant, "v", key))
            return value

    async def set(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> None:
        """See `Kv.set`."""
        async with self._talking():
            await self._run("SET", _key(tenant, "v", key), value, *_px(ttl_s))

    async def add(self, tenant: TenantId, key: str, value: bytes, ttl_s: float | None = None) -> bool:
        """See `Kv.add`."""
        async with self._talking():
            return bool(await self._run("SET", _key(tenant, "v", key), value, *_px(ttl_s), "NX"))

    async def delete(self, tenant: TenantId, key: str) -> bool:
        """See `Kv.delete`."""
        async with self._talking():
            return bool(await self._run("UNLINK", _key(tenant, "v", key)))

    async def delete_prefix(self, tenant: TenantId, prefix: str) -> int:
        """See `Kv.delete_prefix`. Walks through every key of the server, a thousand at a time."""
        removed, cursor = 0, 0
        pattern = _literal(_key(tenant, "v", prefix)) + b"*"
        while True:
            async with self._talking():
                at, found = await self._redis.scan(cursor, match=pattern, count=_SCAN)
                if found:
                    removed += int(await self._run("UNLINK", *found))
            cursor = int(at)
            if cursor == 0:
                return removed

    async def increment(
        self, tenant: TenantId, key: str, amount: int = 1, *, limit: int | None = None, ttl_s: float | None = None
    ) -> int | None:
        """See `Kv.increment`. Raises: Conflict: the key holds something that is not a number."""
        async with self._talking():
            found = await self._increment(
                keys=[_key(tenant, "v", key)],
                args=[amount, "" if limit is None else limit, "" if ttl_s is None else _ms(ttl_s)],
            )
        if found[0] < 0:
            raise Conflict(f"the key {key!r} holds a value, not a counter", hint="use another key")
        return int(found[1]) if found[0] else None

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
        async with self._talking():
            found = await self._grant(
                keys=[_key(tenant, "n"), _key(tenant, "x"), *_slots(tenant, counter, slot, span)],
                args=[
                    amount,
                    limit,
                    amount if at_least is None else at_least,
                    "" if ttl_s is None else _ms(ttl_s),
                    counter.encode(),
                ],
            )
        return Granted(int(found[0]), int(found[1]))

    async def give_back(self, tenant: TenantId, counter: str, amount: int, *, slot: int = 0) -> None:
        """See `Kv.give_back`."""
        async with self._talking():
            await self._give_back(keys=_slots(tenant, counter, slot, 1), args=[amount])

    async def granted(self, tenant: TenantId, counter: str, *, slot: int = 0, span: int = 1) -> int:
        """See `Kv.granted`."""
        async with self._talking():
            held: Sequence[bytes | None] = await self._run("MGET", *_slots(tenant, counter, slot, span))
        return sum(int(amount) for amount in held if amount is not None)

    async def counters(self, tenant: TenantId, prefix: str) -> list[str]:
        """See `Kv.counters`."""
        first = prefix.encode()
        async with self._talking():
            found: Sequence[bytes] = await self._counters(
                keys=[_key(tenant, "n"), _key(tenant, "x")], args=[b"[" + first, b"(" + first + b"\xff", _LISTED]
            )
        return [name.decode() for name in found]

    async def acquire(self, tenant: TenantId, name: str, *, holder: str, ttl_s: float) -> RedisLease | None:
        """See `Kv.acquire`. The same holder gets it again with a new token: its earlier lease object is lost."""
        async with self._talking():
            token = int(await self._acquire(keys=[_key(tenant, "l", name)], args=[holder, _ms(ttl_s)]))
        return RedisLease(self, tenant, name, token, ttl_s) if token else None

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._pool.aclose()

    async def _renew(self, lease: RedisLease, ms: int) -> bool:
        async with self._talking():
            return bool(await self._renewal(keys=[_key(lease.tenant, "l", lease.name)], args=[lease.token, ms]))

    # Any: what a command answers depends on the command.
    async def _run(self, *command: object) -> Any:
        return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]  # the library's gap

    @asynccontextmanager
    async def _talking(self) -> AsyncIterator[None]:
        """Turns the library's errors into ours; what they say may hold keys, and so stays out."""
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise self._told(error) from error

    def _told(self, error: BaseException) -> Unavailable:
        from redis import exceptions as of_redis

        # While it connects, the library wraps what went wrong.
        chain = [error]
        while (cause := chain[-1].__cause__) is not None and len(chain) < 5:
            chain.append(cause)
        refusals = (of_redis.AuthenticationError, of_redis.AuthorizationError, of_redis.NoPermissionError)
        refused = any(isinstance(one, refusals) for one in chain)
        full = any(isinstance(one, of_redis.OutOfMemoryError) for one in chain)
        if refused:
            what, hint = "refuses our name or password", "mend stores.kv, or set its password in REDISCLI_AUTH"
        elif full:
            what, hint = "has no memory left", "raise maxmemory of the server that stores.kv names"
        else:
            what = f"does not answer ({_why(error)})"
            hint = "is it running? start it, or mend its address: stores.kv in interlock.yaml"
        return Unavailable(
            f"the Redis server at {self._place!r} {what}",
            hint=hint,
            param="stores.kv",
            code="kv_unavailable",
            retryable=not refused,
            retry_after_s=None if refused else 1.0,
        )


@dataclass(frozen=True, slots=True)
class RedisLease:
    """A lease held in a `RedisKv`."""

    kv: RedisKv
    tenant: TenantId
    name: str
    token: int
    ttl_s: float

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self.kv._renew(self, _ms(self.ttl_s))

    async def release(self) -> None:
        """See `Lease.release`."""
        await self.kv._renew(self, 0)


def _key(tenant: TenantId, kind: str, *rest: str) -> bytes:
    # Quoted, so that no tenant's name can reach into another's keys or break the hash tag.
    return ":".join((f"interlock:{{{quote(tenant, safe='')}}}", kind, *rest)).encode()


def _slots(tenant: TenantId, counter: str, slot: int, span: int) -> list[bytes]:
    """Keys of a window's slots, the newest first."""
    return [_key(tenant, "g", str(at), counter) for at in range(slot, slot - max(1, span), -1)]


def _literal(key: bytes) -> bytes:
    """A key as a pattern that matches itself alone."""
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", key)


def _px(ttl_s: float | None) -> tuple[str | int, ...]:
    return () if ttl_s is None else ("PX", _ms(ttl_s))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _why(error: BaseException) -> str:
    name = type(error).__name__
    return {"TimeoutError": "timed out", "ConnectionError": "no connection", "BusyLoadingError": "loading"}.get(
        name, name
    )
