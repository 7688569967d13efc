"""The door of human review: queues, the next item for a person, what they say, who decides, how far they agree."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from interlock.evals import review_store as store
from interlock.evals.review.agreement import Agreement, agreement_of
from interlock.evals.review.types import Item, Label, Progress, QueueSpec, Reviewed, Task
from interlock.stores.sql.base import Sql

__all__ = ["Reviews"]

_HELD = timedelta(minutes=30)
_MOST_ITEMS = 100_000
_OVERSEE = (Role.DEVELOPER, Role.OPERATOR, Role.RISK)


class Reviews:
    """All queues of the installation."""

    def __init__(self, sql: Sql, audit: AuditLog) -> None:
        self._sql = sql
        self._audit = audit

    async def create(self, ctx: Context, spec: QueueSpec) -> None:
        """Open a queue. Raises: Forbidden, Conflict."""
        ctx.require(*_OVERSEE)
        await self._sql.write(lambda conn: store.insert_queue(conn, ctx.tenant, spec, ctx.principal.id))
        await self._told(ctx, "review.create", spec.queue, {})

    async def queues(self, ctx: Context) -> Sequence[QueueSpec]:
        """All queues by name. Raises: Forbidden."""
        ctx.require(Role.REVIEWER, *_OVERSEE)
        return await self._sql.read(lambda conn: store.queues_of(conn, ctx.tenant))

    async def progress(self, ctx: Context) -> Sequence[Progress]:
        """All queues that the caller may see, by name: those whose people they are of, for overseers every one.

        Raises: Forbidden.
        """
        rater = ctx.principal.id
        found: list[Progress] = []
        for spec in await self.queues(ctx):
            if spec.reviewers and rater not in spec.reviewers and not ctx.principal.has(*_OVERSEE):
                continue
            states, done, left = await self._sql.read(
                partial(store.progress, tenant=ctx.tenant, spec=spec, rater=rater, held_for=_HELD)
            )
            found.append(Progress(spec, states, done, left if self._may_review(ctx, spec) else 0))
        return found

    async def add(self, ctx: Context, queue: str, given: Sequence[Item]) -> int:
        """Add items; those whose id is there already stay as they are. Gives how many are new.

        Raises: Forbidden, NotFound; InvalidInput: an item that does not fit the queue; Conflict: the queue is full.
        """
        ctx.require(*_OVERSEE)
        spec = await self._spec(ctx, queue)
        for item in given:
            _check(spec, item)
        have = await self._sql.read(lambda conn: store.count_items(conn, ctx.tenant, queue))
        if have + len(given) > _MOST_ITEMS:
            raise Conflict(f"a review queue holds {_MOST_ITEMS:,} items at most", param="queue", hint="open another")
        wanted = [(item, _wanted(spec, item)) for item in given]
        new = await self._sql.write(lambda conn: store.add_items(conn, ctx.tenant, queue, wanted))
        await self._told(ctx, "review.add", queue, {"items": new})
        return new

    async def next(self, ctx: Context, queue: str) -> Task | None:
        """The next item for the caller, held for half an hour; None when nothing waits for them.

        Blind: nothing of what others said, and not the label that is known. Raises: Forbidden, NotFound.
        """
        spec, rater = await self._reviewing(ctx, queue)
        got = await self._sql.write(lambda conn: store.claim(conn, ctx.tenant, queue, rater, held_for=_HELD))
        return None if got.item is None else Task(_blind(spec, got.item, rater), spec, got.done, got.left)

    async def again(self, ctx: Context, queue: str, item: str) -> Task:
        """An item that the caller holds or has labelled, as `next` gave it, with what they said.

        Raises: Forbidden; NotFound: it was not given to them.
        """
        spec, rater = await self._reviewing(ctx, queue)
        got = await self._sql.read(lambda conn: store.given_to(conn, ctx.tenant, queue, item, rater))
        if got is None:
            raise NotFound("this item was not given to you", param="item", hint="ask for the next one first")
        held, said = got
        if said is not None:
            said = replace(said, label=_turned(spec, held, rater, said.label))
        return Task(_blind(spec, held, rater), spec, 0, 0, said)

    async def say(
        self, ctx: Context, queue: str, item: str, label: str, *, note: str = "", seconds: float | None = None
    ) -> None:
        """What the caller says of the item they hold; saying it again replaces it, until somebody has decided.

        Raises: Forbidden; NotFound: it was not given to them; InvalidInput: no such label; Conflict: it is decided.
        """
        spec, rater = await self._reviewing(ctx, queue)
        _check_label(spec, label)
        if len(note) > 10_000:
            raise InvalidInput("a note has 10,000 characters at most", param="note")
        got = await self._sql.read(lambda conn: store.given_to(conn, ctx.tenant, queue, item, rater))
        meant = label if got is None else _turned(spec, got[0], rater, label)
        said = Label(item, rater, meant, note, seconds, now())
        await self._sql.write(lambda conn: store.label(conn, ctx.tenant, queue, said))

    async def _reviewing(self, ctx: Context, queue: str) -> tuple[QueueSpec, str]:
        """The queue and who reviews. Raises: Forbidden, NotFound."""
        ctx.require(Role.REVIEWER)
        spec = await self._spec(ctx, queue)
        if not self._may_review(ctx, spec):
            raise Forbidden(f"the review queue {queue!r} is for certain people", param="queue")
        return spec, ctx.principal.id

    async def items(self, ctx: Context, queue: str, *, state: str | None = None) -> Sequence[Reviewed]:
        """Everything of a queue, for who oversees it. Raises: Forbidden, NotFound."""
        ctx.require(*_OVERSEE)
        await self._spec(ctx, queue)
        found = await self._sql.read(lambda conn: store.items_of(conn, ctx.tenant, queue))
        return [each for each in found if state is None or each.state == state]

    async def decide(self, ctx: Context, queue: str, item: str, label: str, *, note: str = "") -> None:
        """An adjudicator's word on an item, whatever was said of it. Raises: as `say`."""
        ctx.require(*_OVERSEE)
        _check_label(await self._spec(ctx, queue), label)
        by = ctx.principal.id
        await self._sql.write(
            lambda conn: store.decide(conn, ctx.tenant, queue, item, final=label, by=by, note=note[:10_000])
        )
        await self._told(ctx, "review.decide", queue, {"item": item, "label": label})

    async def agreement(self, ctx: Context, queue: str) -> Agreement:
        """How far people agree. Raises: Forbidden, NotFound."""
        spec = await self._spec(ctx, queue)
        return agreement_of(spec, await self.items(ctx, queue))

    async def labels(self, ctx: Context, queue: str) -> list[dict[str, Any]]:  # Any: JSON values
        """Lines for `interlock judge calibrate`: every item on which people have settled, with what each said.

        Raises: Forbidden, NotFound.
        """
        spec = await self._spec(ctx, queue)
        return list(_lines(spec, await self.items(ctx, queue)))

    async def forget(self, ctx: Context, documents: Collection[str], asker: str | None = None) -> int:
        """Remove what was written from these documents, or asked by this person; gives how many items it was."""
        return await self._sql.write(lambda conn: store.forget(conn, ctx.tenant, documents, asker))

    async def mentions(self, ctx: Context, documents: Collection[str], asker: str | None = None) -> int:
        """How many are still there."""
        return await self._sql.read(lambda conn: store.mentions(conn, ctx.tenant, documents, asker))

    @staticmethod
    def _may_review(ctx: Context, spec: QueueSpec) -> bool:
        return ctx.principal.has(Role.REVIEWER) and (not spec.reviewers or ctx.principal.id in spec.reviewers)

    async def _spec(self, ctx: Context, queue: str) -> QueueSpec:
        found = await self._sql.read(lambda conn: store.queue_spec(conn, ctx.tenant, queue))
        if found is None:
            raise NotFound(f"no review queue {queue[:64]!r}", param="queue", hint="interlock review queues")
        return found

    async def _told(self, ctx: Context, action: str, queue: str, details: dict[str, str | int | bool]) -> None:
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, action, queue, "ok", details))


def _wanted(spec: QueueSpec, item: Item) -> int:
    """How many people should see an item: drawn by its id, so that adding it twice draws the same."""
    if item.gold is not None:
        return store.GOLD_WANTED
    if item.assigned:
        return len(set(item.assigned))
    drawn = int.from_bytes(hashlib.sha256(f"{spec.queue}\0{item.id}".encode()).digest()[:6]) / (1 << 48)
    return spec.raters if drawn < spec.overlap else 1


def _is_turned(spec: QueueSpec, item: Item, rater: str) -> bool:
    """Half of the people see the second answer first: where an answer stands says nothing of it then."""
    return spec.pairwise and bool(hashlib.sha256(f"{spec.queue}\0{item.id}\0{rater}".encode()).digest()[0] & 1)


def _turned(spec: QueueSpec, item: Item, rater: str, label: str) -> str:
    """A label of the answers as a person saw them as one of the item, and the other way round."""
    return {"a": "b", "b": "a"}.get(label, label) if _is_turned(spec, item, rater) else label


def _blind(spec: QueueSpec, item: Item, rater: str) -> Item:
    told: dict[str, object] = {"gold": None, "asker": "", "documents": [], "assigned": [], "case": None}
    if _is_turned(spec, item, rater):
        told |= {"answer": item.other or "", "other": item.answer}
    return item.model_copy(update=told)


def _check(spec: QueueSpec, item: Item) -> None:
    if spec.pairwise != (item.other is not None):
        wanted = "two answers: `answer` and `other`" if spec.pairwise else "one answer"
        raise InvalidInput(f"items of {spec.queue!r} have {wanted}", param=f"items.{item.id}.other")
    if item.gold is not None and item.gold not in spec.choices:
        raise InvalidInput(
            f"{item.gold!r} is no label of {spec.queue!r}", param=f"items.{item.id}.gold", hint=", ".join(spec.choices)
        )


def _check_label(spec: QueueSpec, label: str) -> None:
    if label not in spec.choices:
        raise InvalidInput(f"{label[:64]!r} is no label of this queue", param="label", hint=", ".join(spec.choices))


def _lines(spec: QueueSpec, items: Sequence[Reviewed]) -> Iterator[dict[str, Any]]:
    steps = len(spec.choices) - 1
    for each in items:
        if each.final is None:
            continue
        said = [label.label for label in each.labels] if each.state == "agreed" else [each.final]
        line: dict[str, Any] = {"id": each.item.id, "input": each.item.question, "group": each.item.group}
        if spec.pairwise:
            yield {**line, "a": each.item.answer, "b": each.item.other, "raters": said}
            continue
        points = [spec.choices.index(label) / steps for label in said]
        more = {"expected": each.item.reference} if each.item.reference is not None else {}
        yield {**line, "output": each.item.answer, "raters": points, "context": each.item.context, **more}
