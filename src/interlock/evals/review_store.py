"""Tables: review queues, items, labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.errors import Conflict, NotFound
from interlock.core.ids import TenantId
from interlock.evals.review.types import Item, ItemState, Label, QueueSpec, Reviewed
from interlock.stores.sql.base import BigId, Json, UtcDateTime, metadata

__all__ = [
    "GOLD_WANTED",
    "Claimed",
    "add_items",
    "claim",
    "count_items",
    "decide",
    "forget",
    "given_to",
    "insert_queue",
    "items_of",
    "label",
    "mentions",
    "progress",
    "queue_spec",
    "queues_of",
]

GOLD_WANTED = 1_000_000
"""Everybody sees an item whose label is known."""

queues = sa.Table(
    "review_queues",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("spec", Json, nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

items = sa.Table(
    "review_items",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("queue", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("item", Json, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    # One principal a line; empty: for everybody.
    sa.Column("assigned", sa.Text, nullable=False, server_default=""),
    sa.Column("asker", sa.String(200), nullable=False),
    sa.Column("final", sa.String(64), nullable=True),
    sa.Column("decided_by", sa.String(128), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("added_at", UtcDateTime, nullable=False),
)

labels = sa.Table(
    "review_labels",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("queue", sa.String(64), nullable=False),
    sa.Column("item", sa.String(200), nullable=False),
    sa.Column("rater", sa.String(128), nullable=False),
    # Empty while somebody holds the item and has not said anything yet.
    sa.Column("label", sa.String(64), nullable=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float, nullable=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("tenant", "queue", "item", "rater", name="uq_review_labels_tenant_queue_item_rater"),
)


def insert_queue(conn: Connection, tenant: TenantId, spec: QueueSpec, by: str) -> None:
    """Record a queue. Raises: Conflict: its name is taken."""
    if queue_spec(conn, tenant, spec.queue) is not None:
        raise Conflict(f"there is a review queue {spec.queue!r} already", param="queue")
    conn.execute(
        queues.insert().values(
            tenant=tenant, name=spec.queue, spec=spec.model_dump(mode="json"), created_by=by, created_at=now()
        )
    )


def queue_spec(conn: Connection, tenant: TenantId, queue: str) -> QueueSpec | None:
    """One queue."""
    found = conn.execute(
        sa.select(queues.c.spec).where(queues.c.tenant == tenant, queues.c.name == queue)
    ).scalar_one_or_none()
    return None if found is None else QueueSpec.model_validate(found, extra="ignore")


def queues_of(conn: Connection, tenant: TenantId) -> list[QueueSpec]:
    """All queues by name."""
    rows = conn.execute(sa.select(queues.c.spec).where(queues.c.tenant == tenant).order_by(queues.c.name))
    return [QueueSpec.model_validate(row.spec, extra="ignore") for row in rows]


def add_items(conn: Connection, tenant: TenantId, queue: str, given: Sequence[tuple[Item, int]]) -> int:
    """Append items with how many people should see each; those that are there already stay. Gives how many are new."""
    known = set(conn.execute(sa.select(items.c.id).where(items.c.tenant == tenant, items.c.queue == queue)).scalars())
    at, seq, new = now(), len(known), 0
    for item, wanted in given:
        if item.id in known:
            continue
        known.add(item.id)
        conn.execute(
            items.insert().values(
                tenant=tenant,
                queue=queue,
                id=item.id,
                seq=seq + new,
                item=item.model_dump(mode="json"),
                wanted=wanted,
                assigned="\n".join(item.assigned),
                asker=item.asker,
                final=None,
                decided_by="",
                note="",
                added_at=at,
            )
        )
        new += 1
    return new


def count_items(conn: Connection, tenant: TenantId, queue: str) -> int:
    """How many items a queue has."""
    where = (items.c.tenant == tenant, items.c.queue == queue)
    return conn.scalar(sa.select(sa.func.count()).select_from(items).where(*where)) or 0


class Claimed(NamedTuple):
    """What a person gets."""

    item: Item | None
    """None when nothing waits for them."""
    done: int
    left: int


def claim(conn: Connection, tenant: TenantId, queue: str, rater: str, *, held_for: timedelta) -> Claimed:
    """The next item for a person, held for them for a while; how many they have done, and how many wait for them.

    One they hold already comes first. Others' holds that ran out do not count.
    """
    at = now()
    mine, held, waiting = _waiting(conn, tenant, queue, rater, since=at - held_for)
    if not waiting:
        return Claimed(None, len(mine), 0)
    first = waiting[0]
    key = (labels.c.tenant == tenant, labels.c.queue == queue, labels.c.item == first.id, labels.c.rater == rater)
    if held == first.id:
        conn.execute(labels.update().where(*key).values(at=at))
    else:
        if held is not None:
            conn.execute(labels.delete().where(*key[:2], labels.c.item == held, labels.c.rater == rater))
        conn.execute(
            labels.insert().values(
                tenant=tenant, queue=queue, item=first.id, rater=rater, label=None, note="", seconds=None, at=at
            )
        )
    whole = sa.select(items.c.item).where(items.c.tenant == tenant, items.c.queue == queue, items.c.id == first.id)
    return Claimed(Item.model_validate(conn.execute(whole).scalar_one(), extra="ignore"), len(mine), len(waiting))


def progress(
    conn: Connection, tenant: TenantId, spec: QueueSpec, rater: str, *, held_for: timedelta
) -> tuple[dict[ItemState, int], int, int]:
    """Items by state, how many a person has labelled, and how many wait for them."""
    said: dict[str, set[str]] = {}
    count: dict[str, int] = {}
    for row in _labels(conn, tenant, spec.queue):
        if row.label is not None:
            said.setdefault(row.item, set()).add(row.label)
            count[row.item] = count.get(row.item, 0) + 1
    states: dict[ItemState, int] = dict.fromkeys(("open", "agreed", "disputed", "decided"), 0)
    for row in _light(conn, tenant, spec.queue):
        state: ItemState = "open"
        if row.decided_by or row.wanted >= GOLD_WANTED:
            state = "decided"
        elif count.get(row.id, 0) >= row.wanted:
            state = "agreed" if len(said[row.id]) == 1 else "disputed"
        states[state] += 1
    mine, _, waiting = _waiting(conn, tenant, spec.queue, rater, since=now() - held_for)
    return states, len(mine), len(waiting)


def _waiting(
    conn: Connection, tenant: TenantId, queue: str, rater: str, *, since: datetime
) -> tuple[set[str], str | None, list[Any]]:
    """What a person has labelled, what they hold, and what waits for them, best first. Holds before `since` ran out."""
    mine: set[str] = set()
    held: str | None = None
    taken: dict[str, int] = {}
    for row in _labels(conn, tenant, queue):
        if row.rater == rater:
            if row.label is None:
                held = row.item
            else:
                mine.add(row.item)
        elif row.label is not None or row.at > since:
            taken[row.item] = taken.get(row.item, 0) + 1
    rows = _light(conn, tenant, queue)
    open_ones = [row for row in rows if row.id not in mine and row.final is None and _is_for(rater, row.assigned)]
    waiting = [row for row in open_ones if row.id == held or taken.get(row.id, 0) < row.wanted]
    # What somebody else has seen comes first: pairs of labels are complete the sooner.
    waiting.sort(key=lambda row: (row.id != held, -taken.get(row.id, 0), row.seq))
    return mine, held, waiting


def _is_for(rater: str, assigned: str) -> bool:
    return not assigned or rater in assigned.split("\n")


def given_to(conn: Connection, tenant: TenantId, queue: str, item: str, rater: str) -> tuple[Item, Label | None] | None:
    """An item that a person holds or has labelled, and what they said; None where it was not given to them."""
    place = (labels.c.tenant == tenant, labels.c.queue == queue, labels.c.item == item, labels.c.rater == rater)
    row = conn.execute(sa.select(labels).where(*place)).one_or_none()
    if row is None:
        return None
    whole = sa.select(items.c.item).where(items.c.tenant == tenant, items.c.queue == queue, items.c.id == item)
    said = None if row.label is None else Label(row.item, row.rater, row.label, row.note, row.seconds, row.at)
    return Item.model_validate(conn.execute(whole).scalar_one(), extra="ignore"), said


def label(conn: Connection, tenant: TenantId, queue: str, given: Label) -> None:
    """Record what a person says of the item they hold, or say otherwise.

    Raises: NotFound: no such item, or it was not given to them; Conflict: it was decided meanwhile.
    """
    row = conn.execute(
        sa.select(items.c.final, items.c.decided_by).where(
            items.c.tenant == tenant, items.c.queue == queue, items.c.id == given.item
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"no item {given.item[:64]!r} in the review queue {queue!r}", param="item")
    if row.decided_by:
        raise Conflict("somebody has decided on this item meanwhile", param="item", hint="take the next one")
    done = conn.execute(
        labels.update()
        .where(
            labels.c.tenant == tenant,
            labels.c.queue == queue,
            labels.c.item == given.item,
            labels.c.rater == given.rater,
        )
        .values(label=given.label, note=given.note, seconds=given.seconds, at=given.at)
    )
    if done.rowcount != 1:
        raise NotFound("this item was not given to you", param="item", hint="ask for the next one first")


def decide(conn: Connection, tenant: TenantId, queue: str, item: str, *, final: str, by: str, note: str) -> None:
    """An adjudicator's word. Raises: NotFound."""
    done = conn.execute(
        items.update()
        .where(items.c.tenant == tenant, items.c.queue == queue, items.c.id == item)
        .values(final=final, decided_by=by, note=note)
    )
    if done.rowcount != 1:
        raise NotFound(f"no item {item[:64]!r} in the review queue {queue!r}", param="item")


def items_of(conn: Connection, tenant: TenantId, queue: str) -> list[Reviewed]:
    """Everything of a queue, in the order it was added."""
    by_item: dict[str, list[Label]] = {}
    for row in _labels(conn, tenant, queue):
        if row.label is not None:
            said = Label(row.item, row.rater, row.label, row.note, row.seconds, row.at)
            by_item.setdefault(row.item, []).append(said)
    return [_reviewed(row, by_item.get(row.id, [])) for row in _items(conn, tenant, queue)]


def mentions(conn: Connection, tenant: TenantId, documents: Collection[str], asker: str | None) -> int:
    """Items of all queues that hold what was written from these documents, or asked by this person."""
    return len(_concerned(conn, tenant, documents, asker))


def forget(conn: Connection, tenant: TenantId, documents: Collection[str], asker: str | None) -> int:
    """Remove them with their labels; gives how many there were."""
    found = _concerned(conn, tenant, documents, asker)
    for queue, item in found:
        conn.execute(labels.delete().where(labels.c.tenant == tenant, labels.c.queue == queue, labels.c.item == item))
        conn.execute(items.delete().where(items.c.tenant == tenant, items.c.queue == queue, items.c.id == item))
    return len(found)


def _concerned(
    conn: Connection, tenant: TenantId, documents: Collection[str], asker: str | None
) -> list[tuple[str, str]]:
    wanted = set(documents)
    columns = (items.c.queue, items.c.id, items.c.asker, items.c.item)
    rows = conn.execute(sa.select(*columns).where(items.c.tenant == tenant))
    return [
        (row.queue, row.id)
        for row in rows
        if (asker is not None and row.asker == asker) or not wanted.isdisjoint(row.item.get("documents") or ())
    ]


# Any: rows of unlike columns.
def _light(conn: Connection, tenant: TenantId, queue: str) -> Sequence[Any]:
    """Not the items themselves: a queue may hold very many."""
    columns = (items.c.id, items.c.seq, items.c.wanted, items.c.final, items.c.decided_by, items.c.assigned)
    return conn.execute(sa.select(*columns).where(items.c.tenant == tenant, items.c.queue == queue)).all()


def _items(conn: Connection, tenant: TenantId, queue: str) -> Sequence[Any]:
    return conn.execute(
        sa.select(items).where(items.c.tenant == tenant, items.c.queue == queue).order_by(items.c.seq)
    ).all()


def _labels(conn: Connection, tenant: TenantId, queue: str) -> Sequence[Any]:
    return conn.execute(
        sa.select(labels).where(labels.c.tenant == tenant, labels.c.queue == queue).order_by(labels.c.id)
    ).all()


def _reviewed(row: Any, said: Sequence[Label]) -> Reviewed:
    item = Item.model_validate(row.item, extra="ignore")
    if item.gold is not None:
        return Reviewed(item, "decided", item.gold, tuple(said), row.wanted, "gold")
    if row.decided_by:
        return Reviewed(item, "decided", row.final, tuple(said), row.wanted, row.decided_by, row.note)
    if len(said) < row.wanted:
        return Reviewed(item, "open", None, tuple(said), row.wanted)
    if len({each.label for each in said}) == 1:
        return Reviewed(item, "agreed", said[0].label, tuple(said), row.wanted)
    return Reviewed(item, "disputed", None, tuple(said), row.wanted)
