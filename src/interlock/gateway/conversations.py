"""Conversations that callers keep here: items in order, sealed, each conversation its owner's alone.

As OpenAI's conversations: a response that names one reads all its items before its own input, and adds both to it.
An item that was made from a document which its owner may not read any more is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import ulid
from interlock.gateway.kept import Kept, KeptItem, run
from interlock.gateway.store import conversation_items, conversations

__all__ = ["MAX_ITEMS", "Conversation", "Conversations"]

# Any in this module: JSON objects of the API.
MAX_ITEMS = 4_000


@dataclass(frozen=True, slots=True)
class Conversation:
    """One, without its items."""

    id: str
    metadata: Mapping[str, str]
    created_at: datetime


class Conversations:
    """Of all tenants, in the same store as everything else that callers keep."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._sql = kept.sql

    async def create(
        self, ctx: Context, items: Sequence[Mapping[str, Any]], metadata: Mapping[str, str]
    ) -> Conversation:
        """A new one with these items. Raises: StorageFull."""
        made = Conversation(f"conv_{ulid()}", dict(metadata), now())
        row = {
            "tenant": ctx.tenant,
            "id": made.id,
            "owner": self._kept.owner(ctx),
            "principal": ctx.principal.id,
            "created_at": made.created_at,
            "expires_at": made.created_at + self._kept.response_life,
            "sealed": await self._kept.seal(made.metadata, f"conversation:{ctx.tenant}:{made.id}"),
        }
        await self._sql.write(lambda conn: run(conn, sa.insert(conversations).values(row)))
        if items:
            await self.add(ctx, made.id, items)
        return made

    async def get(self, ctx: Context, identity: str, *, param: str | None = None) -> Conversation:
        """Raises: NotFound."""
        query = sa.select(conversations).where(self._kept.mine(conversations, ctx, identity))
        row = await self._sql.read(lambda conn: conn.execute(query).mappings().one_or_none())
        if row is None:
            raise _none(identity, param)
        said = await self._kept.unseal(row["sealed"], f"conversation:{ctx.tenant}:{identity}")
        return Conversation(identity, said, row["created_at"])

    async def update(self, ctx: Context, identity: str, metadata: Mapping[str, str]) -> Conversation:
        """Other metadata. Raises: NotFound."""
        sealed = await self._kept.seal(dict(metadata), f"conversation:{ctx.tenant}:{identity[:64]}")
        which = self._kept.mine(conversations, ctx, identity)
        if not await self._sql.write(
            lambda conn: run(conn, sa.update(conversations).where(which).values(sealed=sealed))
        ):
            raise _none(identity)
        return await self.get(ctx, identity)

    async def delete(self, ctx: Context, identity: str) -> None:
        """Remove it and its items. Raises: NotFound."""
        which = self._kept.mine(conversations, ctx, identity)

        def write(conn: sa.Connection) -> int:
            gone = run(conn, sa.delete(conversations).where(which))
            if gone:
                conn.execute(sa.delete(conversation_items).where(*_in(ctx, identity)))
            return gone

        if not await self._sql.write(write):
            raise _none(identity)

    async def add(
        self,
        ctx: Context,
        identity: str,
        items: Sequence[Mapping[str, Any]],
        *,
        rest_on: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Put items at its end; one that is in it already stays where it is.

        Args:
            rest_on: documents that items were made from, by the item's id.

        Raises: NotFound. InvalidInput: it would grow past `MAX_ITEMS`.
        """
        sealed = [
            (
                str(item["id"]),
                await self._kept.seal(
                    {"item": dict(item), "documents": sorted(rest_on.get(str(item["id"]), ()))},
                    _purpose(ctx, identity, str(item["id"])),
                ),
            )
            for item in items
        ]
        which = self._kept.mine(conversations, ctx, identity)
        until = now() + self._kept.response_life

        def write(conn: sa.Connection) -> bool:
            # The row is changed first, so that two writers of one conversation take turns.
            if not run(conn, sa.update(conversations).where(which).values(expires_at=until)):
                return False
            there = conn.execute(
                sa.select(conversation_items.c.id, conversation_items.c.place).where(*_in(ctx, identity))
            ).all()
            known = {row.id for row in there}
            new = {item: text for item, text in sealed if item not in known}
            if len(there) + len(new) > MAX_ITEMS:
                raise InvalidInput(
                    f"the conversation would have more than {MAX_ITEMS:,} items",
                    param="conversation",
                    hint="begin anew",
                )
            last = max((row.place for row in there), default=-1)
            rows = [
                {"tenant": ctx.tenant, "conversation": identity, "id": item, "place": last + place, "sealed": text}
                for place, (item, text) in enumerate(new.items(), 1)
            ]
            if rows:
                conn.execute(sa.insert(conversation_items), rows)
            return True

        if not await self._sql.write(write):
            raise _none(identity)

    async def items(self, ctx: Context, identity: str, *, param: str | None = None) -> list[KeptItem]:
        """All that the caller may read, oldest first. Raises: NotFound."""
        await self.get(ctx, identity, param=param)
        return await self._items(ctx, identity)

    async def page(
        self, ctx: Context, identity: str, *, after: str | None, limit: int, newest_first: bool
    ) -> list[dict[str, Any]]:
        """At most `limit` of those the caller may read. Raises: NotFound: no such conversation. InvalidInput: no such
        item `after`.
        """
        await self.get(ctx, identity)
        place = conversation_items.c.place
        where: list[sa.ColumnElement[bool]] = []
        if after is not None:
            query = sa.select(place).where(*_in(ctx, identity), conversation_items.c.id == after[:256])
            at = await self._sql.read(lambda conn: conn.execute(query).scalar_one_or_none())
            if at is None:
                raise InvalidInput("after is the id of an item", param="after")
            where.append(place < at if newest_first else place > at)
        order = place.desc() if newest_first else place
        return [kept.item for kept in await self._items(ctx, identity, *where, order=order, limit=limit)]

    async def item(self, ctx: Context, identity: str, item: str) -> dict[str, Any]:
        """One of them. Raises: NotFound."""
        await self.get(ctx, identity)
        found = await self._items(ctx, identity, conversation_items.c.id == item[:256])
        if not found:
            raise NotFound(f"no item {item[:64]!r} in the conversation", code="item_not_found")
        return found[0].item

    async def delete_item(self, ctx: Context, identity: str, item: str) -> None:
        """Take one out. Raises: NotFound."""
        await self.item(ctx, identity, item)
        which = (*_in(ctx, identity), conversation_items.c.id == item[:256])
        await self._sql.write(lambda conn: run(conn, sa.delete(conversation_items).where(*which)))

    async def found(self, ctx: Context, identities: Collection[str]) -> dict[str, KeptItem]:
        """Items by their ids, from any conversation of this owner, as far as the caller may read them."""
        together = sa.and_(
            conversations.c.tenant == conversation_items.c.tenant,
            conversations.c.id == conversation_items.c.conversation,
        )
        query = (
            sa.select(conversation_items.c.id, conversation_items.c.conversation, conversation_items.c.sealed)
            .select_from(conversation_items.join(conversations, together))
            .where(
                conversation_items.c.tenant == ctx.tenant,
                conversation_items.c.id.in_(list(identities)),
                conversations.c.owner == self._kept.owner(ctx),
                conversations.c.expires_at > now(),
            )
        )
        rows = await self._sql.read(lambda conn: conn.execute(query).mappings().all())
        return {kept.item["id"]: kept for kept in await self._readable(ctx, rows)}

    async def _items(
        self,
        ctx: Context,
        identity: str,
        *where: sa.ColumnElement[bool],
        order: Any = conversation_items.c.place,
        limit: int | None = None,
    ) -> list[KeptItem]:
        """At most `limit` items the caller may read; those between that may not be read are passed over."""
        found: list[KeptItem] = []
        query = sa.select(conversation_items).where(*_in(ctx, identity), *where).order_by(order).limit(limit)
        passed = 0
        while True:
            part = query.offset(passed)
            rows = await self._sql.read(lambda conn, part=part: conn.execute(part).mappings().all())  # type: ignore[misc]  # a bound default hides the lambda's type
            found += await self._readable(ctx, rows)
            passed += len(rows)
            if limit is None or len(rows) < limit or len(found) >= limit:
                return found[:limit]

    async def _readable(self, ctx: Context, rows: Sequence[Mapping[Any, Any]]) -> list[KeptItem]:
        said = [await self._kept.unseal(row["sealed"], _purpose(ctx, row["conversation"], row["id"])) for row in rows]
        # Releases before this one sealed the item alone: it rests on what the response rests on that brought it.
        alone = [row["id"] for row, one in zip(rows, said, strict=True) if "item" not in one]
        brought = await self._kept.documents_of_items(ctx, alone) if alone else {}
        kept = [
            KeptItem(one["item"], one["documents"]) if "item" in one else KeptItem(one, brought.get(row["id"], ()))
            for row, one in zip(rows, said, strict=True)
        ]
        # Most items of a conversation rest on the same few documents.
        may: dict[frozenset[str], bool] = {frozenset(): True}
        for documents in {frozenset(one.documents) for one in kept} - may.keys():
            may[documents] = await self._kept.rights.may_read(ctx, documents)
        return [one for one in kept if may[frozenset(one.documents)]]


def _in(ctx: Context, identity: str) -> tuple[sa.ColumnElement[bool], ...]:
    return conversation_items.c.tenant == ctx.tenant, conversation_items.c.conversation == identity


def _purpose(ctx: Context, identity: str, item: str) -> str:
    return f"item:{ctx.tenant}:{identity}:{item}"


def _none(identity: str, param: str | None = None) -> NotFound:
    return NotFound(f"no conversation {identity[:64]!r}", param=param, code="conversation_not_found")
