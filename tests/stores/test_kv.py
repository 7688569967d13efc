"""The key-value store in memory and over both relational databases."""

from __future__ import annotations

import pytest

from interlock.core.ids import TenantId
from interlock.stores.kv.base import Kv
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import Sql
from interlock.testing.stores import KvSuite


class TestMemory(KvSuite):
    @pytest.fixture
    def kv(self) -> Kv:
        return MemoryKv()


class TestSql(KvSuite):
    @pytest.fixture
    def kv(self, any_sql: Sql) -> Kv:
        return SqlKv(any_sql)


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
