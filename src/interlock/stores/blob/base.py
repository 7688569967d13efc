"""Objects addressed by their content: written once, never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from interlock.core.ids import TenantId

__all__ = ["Blobs"]


class Blobs(Protocol):
    """One object store. Digests are ``sha256:<hex>``; the same bytes in two tenants are two objects."""

    async def put(self, tenant: TenantId, data: bytes) -> str:
        """Store and give the digest; storing the same bytes again does no work. Durable when it returns.

        Raises: StorageFull.
        """

    async def get(self, tenant: TenantId, digest: str) -> bytes:
        """The bytes, checked against the digest.

        Raises: NotFound; Unavailable with code ``corrupt_object`` when the bytes do not match.
        """

    async def exists(self, tenant: TenantId, digest: str) -> bool:
        """True when `get` would find it."""

    async def delete(self, tenant: TenantId, digest: str) -> None:
        """Remove; nothing happens when absent."""

    def list(self, tenant: TenantId) -> AsyncIterator[str]:
        """All digests of the tenant, in no order."""

    async def close(self) -> None:
        """Let go of resources."""
