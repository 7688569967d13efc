# ruff: noqa: D102 - a test name is a sentence
"""What every `Blobs` must do."""

from __future__ import annotations

import asyncio

import pytest

from interlock.core.canonical import digest_bytes
from interlock.core.errors import NotFound
from interlock.core.ids import TenantId
from interlock.stores.blob.base import Blobs

__all__ = ["BlobsSuite"]

TENANTS = [
    TenantId(t) for t in ("A", "a", "../x", "x", "a/b", "a_2fb", "", ".", "..", "_", "ä" * 300, "ä" * 301, "a\x00b")
]


class BlobsSuite:
    """Needs a fixture ``blobs``: an empty store."""

    @pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 4000])
    async def test_what_is_put_is_got(self, blobs: Blobs, data: bytes) -> None:
        digest = await blobs.put(TENANTS[0], data)
        assert digest == digest_bytes(data)
        assert await blobs.get(TENANTS[0], digest) == data
        assert await blobs.exists(TENANTS[0], digest)

    async def test_the_same_bytes_are_one_object(self, blobs: Blobs) -> None:
        digests = await asyncio.gather(*[blobs.put(TENANTS[0], b"same") for _ in range(20)])
        assert len(set(digests)) == 1
        assert [d async for d in blobs.list(TENANTS[0])] == [digests[0]]

    async def test_unknown_and_malformed_digests_are_not_found(self, blobs: Blobs) -> None:
        await blobs.put(TENANTS[0], b"x")
        for digest in (
            digest_bytes(b"never"),
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "md5:00",
            "SHA256:" + "0" * 64,
        ):
            assert not await blobs.exists(TENANTS[0], digest)
            await blobs.delete(TENANTS[0], digest)
            with pytest.raises(NotFound):
                await blobs.get(TENANTS[0], digest)

    async def test_a_tenant_never_sees_anothers_objects(self, blobs: Blobs) -> None:
        digests = {tenant: await blobs.put(tenant, b"secret of " + tenant.encode()) for tenant in TENANTS}
        for tenant in TENANTS:
            assert [d async for d in blobs.list(tenant)] == [digests[tenant]]
            for other in TENANTS:
                assert await blobs.exists(tenant, digests[other]) is (other == tenant)
        await blobs.delete(TENANTS[0], digests[TENANTS[0]])
        assert await blobs.exists(TENANTS[1], digests[TENANTS[1]])

    async def test_delete_removes_for_good(self, blobs: Blobs) -> None:
        digest = await blobs.put(TENANTS[0], b"x")
        await blobs.delete(TENANTS[0], digest)
        await blobs.delete(TENANTS[0], digest)
        assert not await blobs.exists(TENANTS[0], digest)
        assert [d async for d in blobs.list(TENANTS[0])] == []
        assert await blobs.put(TENANTS[0], b"x") == digest
        assert await blobs.get(TENANTS[0], digest) == b"x"
