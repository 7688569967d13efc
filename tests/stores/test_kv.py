"""The key-value store in memory and over both relational databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from interlock.core.errors import Misconfigured, Unavailable
from interlock.core.ids import TenantId
from interlock.stores.kv.base import Kv
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.kv.redis import RedisKv
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import Sql
from interlock.testing.stores import KvSuite
from interlock.testing.valkey import Valkey, running_valkey


class TestMemory(KvSuite):
    @pytest.fixture
    def kv(self) -> Kv:
        return MemoryKv()


class TestSql(KvSuite):
    @pytest.fixture
    def kv(self, any_sql: Sql) -> Kv:
        return SqlKv(any_sql)


class TestRedis(KvSuite):
    @pytest.fixture
    async def kv(self, valkey_server: Valkey) -> AsyncIterator[Kv]:
        kv = RedisKv(valkey_server.address)
        await kv._run("FLUSHALL")
        yield kv
        await kv.close()

    async def test_no_tenants_name_reaches_into_another(self, kv: Kv) -> None:
        for name in ("a:v:b", "a", "a}:v:{a", "*", "a?", "日本"):
            await kv.set(TenantId(name), "b", name.encode())
        for name in ("a:v:b", "a", "a}:v:{a", "*", "a?", "日本"):
            assert await kv.get(TenantId(name), "b") == name.encode()
        assert await kv.delete_prefix(TenantId("*"), "") == 1
        assert await kv.get(TenantId("a"), "b") == b"a"

    async def test_prefixes_of_many_keys_go_whole(self, kv: Kv) -> None:
        for number in range(3000):
            await kv.set(TenantId("a"), f"old/{number}", b"x")
        await kv.set(TenantId("a"), "new/1", b"x")
        assert await kv.delete_prefix(TenantId("a"), "old/") == 3000
        assert await kv.get(TenantId("a"), "new/1") == b"x"

    async def test_names_of_ended_quotas_do_not_pile_up(self, kv: RedisKv) -> None:
        for number in range(30):
            await kv.grant(TenantId("a"), f"limit:{number}", 1, limit=5, ttl_s=0.01)
        await asyncio.sleep(0.05)
        await kv.grant(TenantId("a"), "limit:last", 1, limit=5)
        assert await kv._run("ZCARD", "interlock:{a}:n") == 1
        assert await kv._run("ZCARD", "interlock:{a}:x") == 1

    async def test_money_is_counted_to_the_billionth(self, kv: Kv) -> None:
        budget = 5_000_000 * 10**9
        assert await kv.grant(TenantId("a"), "q", budget - 1, limit=budget) == (budget - 1, 1)
        assert await kv.grant(TenantId("a"), "q", 2, limit=budget, at_least=1) == (1, 0)
        await kv.give_back(TenantId("a"), "q", 1)
        assert await kv.granted(TenantId("a"), "q") == budget - 1


async def test_a_server_that_is_away_is_told_without_its_password() -> None:
    kv = RedisKv("redis://someone:hunter2@127.0.0.1:9/0")
    with pytest.raises(Unavailable) as caught:
        await kv.get(TenantId("a"), "k")
    assert "stores.kv" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    await kv.close()


async def test_a_server_that_falls_silent_is_given_up_and_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.stores.kv.redis._ANSWER_S", 0.2)
    with running_valkey() as server:
        kv, other = RedisKv(server.address), RedisKv(server.address)
        await kv.ping()
        await other._run("CLIENT", "PAUSE", 600, "ALL")
        with pytest.raises(Unavailable, match="timed out"):
            await kv.get(TenantId("a"), "k")
        await asyncio.sleep(0.7)
        assert await kv.get(TenantId("a"), "k") is None
        await kv.close()
        await other.close()


async def test_a_wrong_password_is_told_and_a_given_one_used() -> None:
    with running_valkey() as server:
        admin = RedisKv(server.address)
        await admin._run("CONFIG", "SET", "requirepass", "hunter2")
        await admin.close()
        wrong = RedisKv(server.address, password="hunter3")
        with pytest.raises(Unavailable, match="REDISCLI_AUTH") as caught:
            await wrong.ping()
        assert not caught.value.retryable
        right = RedisKv(server.address, password="hunter2")
        await right.ping()
        await wrong.close()
        await right.close()


async def test_a_server_that_throws_keys_away_says_so() -> None:
    settings = {"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}
    with running_valkey(**settings) as server:
        kv = RedisKv(server.address)
        facts = await kv.facts()
        assert facts.evicts == "allkeys-lru"
        assert facts.version[0].isdigit()
        await kv.close()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"stores\.kv") as caught:
        RedisKv("redis://host:notaport/0?password=hunter2")
    assert "hunter2" not in str(caught.value)


async def test_expired_rows_are_swept(sqlite_sql: Sql) -> None:
    await sqlite_sql.migrate()
    now_ms = 1000
    kv = SqlKv(sqlite_sql, clock_ms=lambda: now_ms)
    await kv.set(TenantId("a"), "short", b"", ttl_s=1)
    await kv.set(TenantId("a"), "long", b"", ttl_s=10)
    await kv.set(TenantId("a"), "ever", b"")
    now_ms = 3000
    assert await kv.sweep() == 1
    assert await kv.get(TenantId("a"), "long") == b""


async def test_memory_sweeps_itself() -> None:
    now = 0.0
    kv = MemoryKv(clock=lambda: now)
    await kv.set(TenantId("a"), "short", b"", ttl_s=1)
    now = 2.0
    assert await kv.sweep() == 1
