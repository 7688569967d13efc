# ruff: noqa: D102 - a test name is a sentence
"""What every `Kv` must do."""

from __future__ import annotations

import asyncio

import pytest

from interlock.core.errors import Conflict
from interlock.core.ids import TenantId
from interlock.stores.kv.base import Kv

__all__ = ["KvSuite"]

A, B = TenantId("acme"), TenantId("Acme")


class KvSuite:
    """Needs a fixture ``kv``: an empty store. Time to live is tested with real waiting, a tenth of a second."""

    async def test_a_value_is_read_back_by_its_tenant_only(self, kv: Kv) -> None:
        await kv.set(A, "k", b"\x00\xff")
        assert await kv.get(A, "k") == b"\x00\xff"
        assert await kv.get(B, "k") is None
        assert await kv.get(A, "other") is None

    async def test_set_replaces_value_and_expiry(self, kv: Kv) -> None:
        await kv.set(A, "k", b"1", ttl_s=0.05)
        await kv.set(A, "k", b"2")
        await asyncio.sleep(0.1)
        assert await kv.get(A, "k") == b"2"

    async def test_an_expired_value_is_gone_for_every_method(self, kv: Kv) -> None:
        for key in ("a", "b", "c", "d"):
            await kv.set(A, key, b"7", ttl_s=0.03)
        await asyncio.sleep(0.1)
        assert await kv.get(A, "a") is None
        assert await kv.delete(A, "a") is False
        assert await kv.add(A, "b", b"new") is True
        assert await kv.increment(A, "c") == 1
        assert await kv.delete_prefix(A, "d") == 0

    async def test_of_many_who_add_one_wins(self, kv: Kv) -> None:
        won = await asyncio.gather(*[kv.add(A, "k", b"%d" % i) for i in range(20)])
        assert sum(won) == 1
        assert await kv.get(A, "k") == b"%d" % won.index(True)

    async def test_delete_says_whether_it_was_there(self, kv: Kv) -> None:
        await kv.set(A, "k", b"")
        assert await kv.delete(B, "k") is False
        assert await kv.delete(A, "k") is True
        assert await kv.delete(A, "k") is False

    async def test_delete_prefix_takes_the_prefix_literally(self, kv: Kv) -> None:
        for key in ("a%:1", "a%:2", "ab:1", "A%:1"):
            await kv.set(A, key, b"x")
        await kv.set(B, "a%:1", b"x")
        assert await kv.delete_prefix(A, "a%:") == 2
        assert await kv.get(A, "ab:1") == b"x"
        assert await kv.get(A, "A%:1") == b"x"
        assert await kv.get(B, "a%:1") == b"x"

    async def test_concurrent_increments_lose_nothing(self, kv: Kv) -> None:
        values = await asyncio.gather(*[kv.increment(A, "n", 2) for _ in range(50)])
        assert sorted(v for v in values if v is not None) == list(range(2, 102, 2))
        assert await kv.get(A, "n") == b"100"

    async def test_a_limit_is_never_passed(self, kv: Kv) -> None:
        values = await asyncio.gather(*[kv.increment(A, "n", limit=10) for _ in range(30)])
        assert sorted(v for v in values if v is not None) == list(range(1, 11))
        assert await kv.increment(A, "n", -3, limit=10) == 7
        assert await kv.increment(A, "fresh", 11, limit=10) is None
        assert await kv.get(A, "fresh") is None

    async def test_a_counters_expiry_is_set_once(self, kv: Kv) -> None:
        await kv.increment(A, "w", ttl_s=0.15)
        await asyncio.sleep(0.1)
        await kv.increment(A, "w", ttl_s=0.15)
        await asyncio.sleep(0.1)
        assert await kv.increment(A, "w", ttl_s=10) == 1

    async def test_a_value_that_is_no_number_is_not_counted(self, kv: Kv) -> None:
        await kv.set(A, "k", b"text")
        with pytest.raises(Conflict):
            await kv.increment(A, "k")

    async def test_one_holder_at_a_time_and_growing_tokens(self, kv: Kv) -> None:
        first = await kv.acquire(A, "lead", holder="w1", ttl_s=30)
        assert first is not None
        assert await kv.acquire(A, "lead", holder="w2", ttl_s=30) is None
        assert await kv.acquire(B, "lead", holder="w2", ttl_s=30) is not None
        await first.release()
        second = await kv.acquire(A, "lead", holder="w2", ttl_s=30)
        assert second is not None
        assert second.token > first.token
        assert second.name == "lead"
        assert await first.renew() is False
        await first.release()  # does nothing: it is not the holder any more
        assert await second.renew() is True

    async def test_an_expired_lease_goes_to_the_next_and_cannot_be_renewed(self, kv: Kv) -> None:
        dead = await kv.acquire(A, "lead", holder="w1", ttl_s=0.05)
        assert dead is not None
        await asyncio.sleep(0.1)
        heir = await kv.acquire(A, "lead", holder="w2", ttl_s=30)
        assert heir is not None
        assert heir.token > dead.token
        assert await dead.renew() is False
        assert await heir.renew() is True

    async def test_of_many_who_acquire_one_wins(self, kv: Kv) -> None:
        leases = await asyncio.gather(*[kv.acquire(A, "lead", holder=f"w{i}", ttl_s=30) for i in range(20)])
        assert len([lease for lease in leases if lease is not None]) == 1

    async def test_grants_never_pass_the_limit_whoever_asks(self, kv: Kv) -> None:
        given = await asyncio.gather(*[kv.grant(A, "q", 3, limit=10) for _ in range(8)])
        assert sorted(grant.amount for grant in given) == [0, 0, 0, 0, 0, 3, 3, 3]
        assert await kv.granted(A, "q") == 9
        assert await kv.granted(B, "q") == 0

    async def test_a_grant_gives_what_is_left_when_that_is_enough(self, kv: Kv) -> None:
        await kv.grant(A, "q", 7, limit=10)
        assert await kv.grant(A, "q", 5, limit=10, at_least=4) == (0, 3)
        assert await kv.grant(A, "q", 5, limit=10, at_least=2) == (3, 0)
        assert await kv.grant(A, "q", 1, limit=10, at_least=0) == (0, 0)

    async def test_units_given_back_are_free_again_and_never_below_nothing(self, kv: Kv) -> None:
        await kv.grant(A, "q", 10, limit=10)
        await kv.give_back(A, "q", 4)
        assert (await kv.grant(A, "q", 4, limit=10)).amount == 4
        await kv.give_back(A, "q", 1_000)
        assert await kv.granted(A, "q") == 0
        await kv.give_back(A, "never granted", 5)
        assert await kv.granted(A, "never granted") == 0

    async def test_a_window_is_the_sum_of_its_slots(self, kv: Kv) -> None:
        for slot in (1, 2, 3):
            assert (await kv.grant(A, "q", 3, limit=9, slot=slot, span=3)).amount == 3
        assert (await kv.grant(A, "q", 1, limit=9, slot=3, span=3)).amount == 0
        assert (await kv.grant(A, "q", 5, limit=9, slot=4, span=3, at_least=1)).amount == 3
        assert await kv.granted(A, "q", slot=4, span=3) == 9
        assert await kv.granted(A, "q", slot=4, span=1) == 3

    async def test_an_expired_slot_counts_no_more(self, kv: Kv) -> None:
        await kv.grant(A, "q", 5, limit=5, ttl_s=0.03)
        await asyncio.sleep(0.1)
        assert await kv.granted(A, "q") == 0
        assert (await kv.grant(A, "q", 5, limit=5, slot=1, span=2)).amount == 5

    async def test_counters_are_listed_by_prefix_for_their_tenant(self, kv: Kv) -> None:
        for name in ("limit:a:1", "limit:a:%", "limit:b:1"):
            await kv.grant(A, name, 1, limit=5)
        await kv.grant(B, "limit:a:other", 1, limit=5)
        await kv.grant(A, "limit:a:gone", 1, limit=5, ttl_s=0.02)
        await asyncio.sleep(0.08)
        assert await kv.counters(A, "limit:a:") == ["limit:a:%", "limit:a:1"]
