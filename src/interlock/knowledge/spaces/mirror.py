"""An index whose every removal reaches all spaces of a collection.

Whoever writes to the space that answers writes through this: what is deleted, hidden, replaced or closed there is so in
the other space in the same call, and first where it would be found next. What the other space then lacks is put back by
`writing.SpaceWriter`; nobody needs to remember it for taking away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.core.ids import DocumentId, PassageId, TenantId
from interlock.knowledge.spaces.store import SpaceStore
from interlock.knowledge.spaces.types import collection_of
from interlock.stores.index.base import Hit, Index, IndexRow, IndexScope, IndexStats

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MirroredIndex"]


@dataclass(frozen=True, slots=True)
class MirroredIndex:
    """An `Index` over another one. Scopes name places of the index, as the spaces' own scopes do.

    Args:
        inner: holds the rows of all spaces.
        store: knows which spaces a collection has.
    """

    inner: Index
    store: SpaceStore

    async def _others(self, scope: IndexScope) -> list[IndexScope]:
        collection = collection_of(scope.collection)
        standing = await self.store.standing(scope.tenant, collection)
        return [
            IndexScope(scope.tenant, space.place, space.id)
            for space in standing.spaces
            if space.place != scope.collection
        ]

    async def apply(self, scope: IndexScope, *, upsert: Sequence[IndexRow], delete: Collection[DocumentId]) -> None:
        """See `Index.apply`. Documents that are replaced here leave the other space, until they are written there."""
        gone = {*delete, *(row.document_id for row in upsert)}
        for other in await self._others(scope) if gone else ():
            await self.store.unwrite(scope.tenant, collection_of(scope.collection), other.embedder, gone)
            await self.inner.apply(other, upsert=(), delete=gone)
        await self.inner.apply(scope, upsert=upsert, delete=delete)

    async def set_readers(self, scope: IndexScope, document: DocumentId, readers: frozenset[str]) -> None:
        """See `Index.set_readers`."""
        for other in await self._others(scope):
            await self.inner.set_readers(other, document, readers)
        await self.inner.set_readers(scope, document, readers)

    async def drop(self, tenant: TenantId, collection: str | None = None) -> None:
        """See `Index.drop`. A collection goes with all its spaces."""
        if collection is None:
            await self.store.unwrite_all(tenant)
            await self.inner.drop(tenant)
            return
        for space in (await self.store.standing(tenant, collection)).spaces:
            await self.store.unwrite(tenant, collection, space.id)
            await self.inner.drop(tenant, space.place)
        await self.inner.drop(tenant, collection)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def dense(
        self,
        scope: IndexScope,
        vector: Sequence[float] | NDArray[np.float32],
        *,
        readers: frozenset[str],
        k: int,
        documents: Collection[DocumentId] | None = None,
    ) -> list[Hit]:
        """See `Index.dense`."""
        return await self.inner.dense(scope, vector, readers=readers, k=k, documents=documents)

    async def lexical(
        self,
        scope: IndexScope,
        terms: Sequence[str],
        *,
        readers: frozenset[str],
        k: int,
        documents: Collection[DocumentId] | None = None,
    ) -> list[Hit]:
        """See `Index.lexical`."""
        return await self.inner.lexical(scope, terms, readers=readers, k=k, documents=documents)

    async def get(self, scope: IndexScope, passages: Collection[PassageId], *, readers: frozenset[str]) -> list[Hit]:
        """See `Index.get`."""
        return await self.inner.get(scope, passages, readers=readers)

    async def document_passages(self, scope: IndexScope, document: DocumentId, *, readers: frozenset[str]) -> list[Hit]:
        """See `Index.document_passages`."""
        return await self.inner.document_passages(scope, document, readers=readers)

    async def stats(self, scope: IndexScope) -> IndexStats:
        """See `Index.stats`."""
        return await self.inner.stats(scope)

    async def check(self, tenant: TenantId) -> None:
        """See `Index.check`."""
        await self.inner.check(tenant)

    async def scrub(self, tenant: TenantId) -> bool:
        """See `Index.scrub`."""
        return await self.inner.scrub(tenant)

    async def close(self) -> None:
        """See `Index.close`."""
        await self.inner.close()
