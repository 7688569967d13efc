"""What is made of a collection's texts and kept in memory, as far as the asker may read them.

Each text is read once and what was found in it is kept until the collection changes; what is made of many of them is
kept for each selection of documents, which all callers share who may read the same ones. What only other documents
contain is never in what a caller gets, so nothing made from it can tell of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import anyio
from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.core.ids import TenantId
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo
from interlock.stores.blob.base import Blobs

__all__ = ["Bounds", "ReadableTexts", "Sized"]

_READ_AT_ONCE = 16


class Sized(Protocol):
    """What was found in one text."""

    @property
    def characters(self) -> int:
        """Of the text."""


H = TypeVar("H", bound=Sized)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    collections: int
    selections: int
    """Of documents, of each collection."""
    characters: int
    """Of a collection; of a larger one nothing is made."""


@dataclass(slots=True)
class _Collection(Generic[H, V]):
    texts: dict[str, H] = field(default_factory=dict)
    """By text digest."""
    made: dict[frozenset[frozenset[str]], tuple[list[DocumentInfo], V]] = field(default_factory=dict)
    """By the sets of readers they are open to, with the facts they were made of: newer facts are another list."""
    # Two first searches must not read every text twice.
    reading: anyio.Lock = field(default_factory=anyio.Lock)


class ReadableTexts(Generic[H, V]):
    """See above. `H` is what is found in one text, `V` what is made of many.

    Args:
        documents: says who may read what.
        blobs: the extracted texts.
        find: reads one text; runs in a thread.
        make: of all readable documents; runs in a thread.
        bounds: how much is kept.
    """

    def __init__(
        self,
        documents: DocumentStore,
        blobs: Blobs,
        *,
        find: Callable[[str], H],
        make: Callable[[Sequence[tuple[DocumentInfo, H]]], V],
        bounds: Bounds,
    ) -> None:
        self._documents = documents
        self._blobs = blobs
        self._find = find
        self._make = make
        self._bounds = bounds
        self._kept: dict[tuple[TenantId, str], _Collection[H, V]] = {}

    def forget(self, tenant: TenantId, collection: str) -> None:
        """Drop what is kept of a collection: one of its documents is erased."""
        self._kept.pop((tenant, collection), None)

    def is_too_large(self, tenant: TenantId, collection: str) -> bool:
        """Whether a collection, as far as it was read, has more text than anything is made of."""
        kept = self._kept.get((tenant, collection))
        return kept is not None and _characters(kept) > self._bounds.characters

    async def readable(self, ctx: Context, collection: str, *, within_s: float) -> V | None:
        """What is made of the texts this caller may read. Disk and CPU when the collection is new or changed.

        Args:
            within_s: what is not read by then is read by the next call.

        Returns: None while it is not whole, or when the collection is too large for it.
        """
        facts = await self._documents.facts(ctx.tenant, collection)
        kept = self._collection(ctx.tenant, collection)
        opened = frozenset(each for each in {info.readers for info in facts} if each & ctx.readers)
        known = kept.made.get(opened)
        if known is not None and known[0] is facts:
            return known[1]
        # What is held back until a person looks at it is not answered from, and so not spoken of either.
        wanted = [info for info in facts if info.text_digest and info.readers in opened and not info.cleaning.held]
        with anyio.move_on_after(within_s):
            async with kept.reading:
                current = {info.text_digest for info in facts}
                for gone in kept.texts.keys() - current:
                    del kept.texts[gone]
                for old in [key for key, (of, _) in kept.made.items() if of is not facts]:
                    # Nothing of a document that changed or went may stay.
                    del kept.made[old]
                await self._read(ctx.tenant, kept, [info.text_digest for info in wanted])
        texts = dict(kept.texts)
        if any(info.text_digest not in texts for info in wanted):
            return None
        made = await to_thread.run_sync(self._make, [(info, texts[info.text_digest]) for info in wanted])
        while len(kept.made) >= self._bounds.selections:
            kept.made.pop(next(iter(kept.made)))
        kept.made[opened] = (facts, made)
        return made

    def _collection(self, tenant: TenantId, collection: str) -> _Collection[H, V]:
        key = (tenant, collection)
        kept = self._kept.pop(key, None) or _Collection[H, V]()
        while len(self._kept) >= self._bounds.collections:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = kept
        return kept

    async def _read(self, tenant: TenantId, kept: _Collection[H, V], wanted: Sequence[str]) -> None:
        missing = [digest for digest in dict.fromkeys(wanted) if digest not in kept.texts]
        characters = _characters(kept)
        for start in range(0, len(missing), _READ_AT_ONCE):
            if characters > self._bounds.characters:
                return
            digests = missing[start : start + _READ_AT_ONCE]
            texts: list[str] = []
            for digest in digests:
                try:
                    texts.append((await self._blobs.get(tenant, digest)).decode())
                except NotFound:
                    # Erased since the facts were read: it says nothing any more.
                    texts.append("")
            found = await to_thread.run_sync(lambda given: [self._find(text) for text in given], texts)
            kept.texts.update(zip(digests, found, strict=True))
            characters += sum(one.characters for one in found)


def _characters(kept: _Collection[H, V]) -> int:
    return sum(one.characters for one in kept.texts.values())
