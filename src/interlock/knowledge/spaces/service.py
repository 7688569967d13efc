"""The door of spaces: which one answers, one built beside it, and the switch from one to the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError, Misconfigured, NotFound
from interlock.core.ids import DocumentId, TenantId
from interlock.core.ports import Embedder
from interlock.knowledge.ports import Chunker, ReportProgress
from interlock.knowledge.spaces.opening import Embedders, for_caller
from interlock.knowledge.spaces.store import incomplete
from interlock.knowledge.spaces.types import (
    BuildReport,
    OpenSpace,
    Outstanding,
    Space,
    SpacesStatus,
    Standing,
    place_of,
)
from interlock.knowledge.spaces.writing import Shelf, SpaceWriter, Wrote
from interlock.knowledge.types import Progress
from interlock.stores.index.base import IndexScope

__all__ = ["Beside", "Spaces"]

_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)
_ROUNDS = 3
"""Looks for what changed while it was built. Each takes what the one before it missed, which is little."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The spaces of a collection that do not answer, for whoever changes its documents."""

    writers: Sequence[SpaceWriter]

    async def follow(self, ids: Collection[DocumentId]) -> None:
        """Bring these documents up to date there."""
        for writer in self.writers:
            await writer.follow(ids)


class Spaces:
    """Spaces of all collections. Every method answers for the caller's tenant alone.

    Args:
        shelf: where everything is.
        embedders: opens them.
        chunker: gives that of a collection.
        batch_passages: passages of one transaction.
    """

    def __init__(
        self, shelf: Shelf, embedders: Embedders, chunker: Callable[[str], Chunker], *, batch_passages: int
    ) -> None:
        self._s = shelf
        self._embedders = embedders
        self._chunker = chunker
        self._batch = batch_passages

    # ── which ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def answering(self, ctx: Context, collection: str) -> OpenSpace:
        """The space that answers; of a collection that was never ingested, the one that will."""
        standing = await self._s.spaces.standing(ctx.tenant, collection)
        given = self._embedders.given
        if given is not None and (standing.answers is None or not standing.spaces):
            # Somebody handed in an embedder: whatever was there before is of no use to it.
            return replace(_open(ctx, collection, Space(given.id, collection, None), given), legs=standing.legs)
        if standing.answers is None:
            opening = self._embedders.configured(collection)
            try:
                embedder = self._embedders.open_configured(collection)
                space = Space(embedder.id, collection, opening)
            except InterlockError as error:
                return OpenSpace(Space("", collection, opening), IndexScope(ctx.tenant, collection, ""), None, error)
            return _open(ctx, collection, space, embedder)
        opened = self._opened(ctx, collection, _noted(standing, standing.answers, collection))
        return replace(opened, legs=standing.legs)

    async def find(self, ctx: Context, collection: str, space: str) -> OpenSpace:
        """One space by its id, open where that can be. Raises: NotFound."""
        standing = await self._s.spaces.standing(ctx.tenant, collection)
        if space != standing.answers and space not in {one.id for one in standing.spaces}:
            raise NotFound(f"the collection {collection!r} has no such space", param="space")
        return self._opened(ctx, collection, _noted(standing, space, collection))

    async def beside(self, ctx: Context, collection: str) -> Beside:
        """Those that do not answer."""
        standing = await self._s.spaces.standing(ctx.tenant, collection)
        others = [space for space in standing.spaces if space.id != standing.answers]
        opened = [self._opened(ctx, collection, space) for space in others] if standing.answers else []
        return Beside([self._writer(ctx.tenant, collection, one) for one in opened])

    async def scopes(self, tenant: TenantId, collection: str) -> list[IndexScope]:
        """Every place of the index that holds rows of a collection."""
        standing = await self._s.spaces.standing(tenant, collection)
        found = {space.place: IndexScope(tenant, space.place, space.id) for space in standing.spaces}
        if not found:
            # Rights and words of a first space do not ask which one it is.
            found[collection] = IndexScope(tenant, collection, standing.answers or "")
        return list(found.values())

    async def note(self, ctx: Context, collection: str) -> None:
        """Remember how the embedder of the answering space is opened, for when the settings name another one."""
        if self._embedders.given is not None:
            return
        standing = await self._s.spaces.standing(ctx.tenant, collection)
        if standing.answers is None or any(space.id == standing.answers for space in standing.spaces):
            return
        opening = self._embedders.recognise(standing.answers, collection)
        if opening is not None:
            space = Space(standing.answers, collection, opening, now(), ctx.principal.id)
            await self._s.spaces.note(ctx.tenant, collection, space)

    async def adopt(self, ctx: Context, collection: str) -> None:
        """Let a collection without anything to be found be of the embedder that the settings name."""
        standing = await self._s.spaces.standing(ctx.tenant, collection)
        if standing.answers is None:
            return
        try:
            configured = self._embedders.open_configured(collection)
        except InterlockError:
            return  # the run itself says so, where it needs the embedder
        given = self._embedders.given is not None and not standing.spaces
        if configured.id == standing.answers or (len(standing.spaces) > 1 and not given):
            return
        is_empty = not await self._s.spaces.made_of(ctx.tenant, collection)
        if not is_empty and not given:
            return
        for scope in await self.scopes(ctx.tenant, collection):
            await self._s.index.drop(ctx.tenant, scope.collection)
        await self._s.documents.adopt(ctx.tenant, collection, configured.id)
        for space in standing.spaces:
            await self._s.spaces.forget(ctx.tenant, collection, space.id)

    def _opened(self, ctx: Context, collection: str, space: Space) -> OpenSpace:
        scope = IndexScope(ctx.tenant, space.place, space.id)
        opening = space.opening or self._embedders.recognise(space.id, collection)
        try:
            if opening is None:
                raise Misconfigured(
                    f"nothing here makes vectors of {space.id!r}, which the passages of {collection!r} have",
                    param="knowledge.embedder",
                    code="embedder_unknown",
                    hint=f"name its embedder again, or go over to the one you have: interlock knowledge embedder build "
                    f"{collection}, then switch",
                )
            embedder = self._embedders.open(opening)
            if embedder.id != space.id:
                raise Misconfigured(
                    f"the embedder {opening.name!r} is {embedder.id!r} now, and the passages of {collection!r} have "
                    f"vectors of {space.id!r}",
                    param="knowledge.embedder_model",
                    code="embedder_changed",
                    hint=f"bring its files back, or: interlock knowledge embedder build {collection}, then switch",
                )
        except InterlockError as error:
            return OpenSpace(space, scope, None, error)
        return _open(ctx, collection, space, embedder)

    def _writer(self, tenant: TenantId, collection: str, space: OpenSpace) -> SpaceWriter:
        return SpaceWriter(self._s, tenant, collection, space, self._chunker(collection))

    # ── the change ────────────────────────────────────────────────────────────────────────────────────────────────

    async def status(self, ctx: Context, collection: str) -> SpacesStatus:
        """Where a collection stands. Needs the role developer or operator. Raises: NotFound: never ingested."""
        ctx.require(*_OVERSIGHT)
        tenant = ctx.tenant
        standing = await self._s.spaces.standing(tenant, collection)
        if standing.answers is None:
            raise _never(collection)
        answers = _noted(standing, standing.answers, collection)
        beside = next((space for space in standing.spaces if space.id != standing.answers), None)
        configured, error = "", ""
        try:
            configured = self._embedders.open_configured(collection).id
        except InterlockError as failure:
            error = str(failure)
        documents = [d.info.passages for d in await self._s.documents.documents(tenant, collection) if d.info.passages]
        sizes = {
            space.id: (await self._s.index.stats(IndexScope(tenant, space.place, space.id))).size_bytes
            for space in (answers, beside)
            if space is not None
        }
        lacking = await self._s.spaces.outstanding(tenant, collection, beside.id) if beside else []
        return SpacesStatus(
            collection, answers, configured, error, beside, tuple(lacking), len(documents), sum(documents), sizes
        )

    async def build(self, ctx: Context, collection: str, progress: ReportProgress | None = None) -> BuildReport:
        """Build the space of the embedder that the settings name, beside the one that answers. Needs the role
        developer or operator.

        From kept passages: no file is read, and searches go on. What was embedded by a run that was stopped is not
        embedded again. Must not overlap with another run of the collection.

        Raises: NotFound: never ingested; Conflict: the settings name the space that answers, or a third one; what the
        embedder raises, and `progress`: what was written stays.
        """
        ctx.require(*_OVERSIGHT)
        started = time.monotonic()
        with ctx.span("knowledge.embedder.build", collection=collection) as (span, inner):
            space = await self._begun(inner, collection)
            writer = self._writer(ctx.tenant, collection, space)
            report = await self._build(inner, collection, writer, progress, started)
            span.set(
                space=space.id,
                documents=report.documents,
                passages=report.passages,
                embedded=report.embedded,
                refused=len(report.refused),
                complete=report.complete,
            )
            return report

    async def may_build(self, ctx: Context, collection: str) -> None:
        """Raises: NotFound: never ingested; Conflict: there is nothing to build; Forbidden."""
        status = await self.status(ctx, collection)
        if status.configured == status.answers.id:
            raise _nothing_to_build(collection)

    async def _begun(self, ctx: Context, collection: str) -> OpenSpace:
        tenant = ctx.tenant
        await self.note(ctx, collection)
        standing = await self._s.spaces.standing(tenant, collection)
        if standing.answers is None:
            raise _never(collection)
        opening = self._embedders.configured(collection)
        embedder = self._embedders.open_configured(collection)
        if embedder.id == standing.answers:
            raise _nothing_to_build(collection)
        others = [space for space in standing.spaces if space.id not in {standing.answers, embedder.id}]
        if others:
            raise Conflict(
                f"{collection!r} has a space beside the one that answers already: {others[0].id!r}",
                code="space_in_the_way",
                hint=f"interlock knowledge embedder drop {collection}",
            )
        if not any(space.id == standing.answers for space in standing.spaces):
            # Nobody knows how to open it: it is noted all the same, so that every removal reaches both.
            await self._s.spaces.note(tenant, collection, Space(standing.answers, collection, None, now()))
        space = Space(embedder.id, place_of(collection, embedder.id), opening, now(), ctx.principal.id)
        await self._s.spaces.note(tenant, collection, space)
        await self._s.spaces.change(tenant, collection, space.id, error_code="", error_message="")
        return await self.find(ctx, collection, embedder.id)

    async def _build(
        self,
        ctx: Context,
        collection: str,
        writer: SpaceWriter,
        progress: ReportProgress | None,
        started: float,
    ) -> BuildReport:
        tenant, space = ctx.tenant, writer.space
        total = Wrote()
        await self._mend(tenant, collection, writer)
        try:
            for _ in range(_ROUNDS):
                refused = {one.source for one in total.refused}
                every = await self._s.spaces.outstanding(tenant, collection, space.id)
                lacking = [one for one in every if one.source not in refused]
                if not lacking:
                    break
                await self._round(writer, lacking, total, progress)
        except InterlockError as error:
            if error.code != "cancelled":
                values = {"error_code": error.code, "error_message": error.message[:500]}
                await self._s.spaces.change(tenant, collection, space.id, **values)
            raise
        lacking = await self._s.spaces.outstanding(tenant, collection, space.id)
        if not lacking:
            await self._s.spaces.change(tenant, collection, space.id, built_at=now())
        return BuildReport(
            collection,
            space.id,
            total.documents,
            total.passages,
            total.embedded,
            total.tokens,
            total.cut_again,
            tuple(total.refused),
            not lacking,
            time.monotonic() - started,
        )

    async def _round(
        self, writer: SpaceWriter, lacking: Sequence[Outstanding], total: Wrote, progress: ReportProgress | None
    ) -> None:
        every = sum(one.passages for one in lacking)
        done = 0

        async def tell(message: str) -> None:
            if progress is not None:
                await progress(Progress(done, every, message))

        for batch in _batches(lacking, self._batch):
            await tell(f"{done} of {every} passages")
            _add(total, await writer.write([one.document for one in batch], tell))
            done += sum(one.passages for one in batch)
        await tell(f"{done} of {every} passages")

    async def mend(self, ctx: Context, collection: str) -> None:
        """Note what the index lost of spaces that do not answer, and put it back. No vector is made twice."""
        for writer in (await self.beside(ctx, collection)).writers:
            if await self._mend(ctx.tenant, collection, writer):
                lacking = await self._s.spaces.outstanding(ctx.tenant, collection, writer.space.id)
                await writer.follow([one.document for one in lacking])

    async def _mend(self, tenant: TenantId, collection: str, writer: SpaceWriter) -> bool:
        """True when rows of the space were lost, or too many: all are written again from what was kept."""
        space = writer.space
        known = await self._s.spaces.known(tenant, collection, space.id)
        written = [one for one in known.values() if one.written]
        stats = await self._s.index.stats(space.scope)
        if (stats.documents, stats.passages) == (len(written), sum(one.passages for one in written)):
            return False
        await self._s.spaces.unwrite(tenant, collection, space.id)
        await self._s.index.drop(tenant, space.scope.collection)
        return True

    async def switch(
        self, ctx: Context, collection: str, fingerprints: Mapping[str, Mapping[str, str]]
    ) -> SpacesStatus:
        """Let the other space answer, in one transaction. Needs the role developer or operator.

        The one that answered stays and is kept up, for going back by the same call, until `drop`.

        Args:
            fingerprints: of documents, old to new, by the space that is to answer.

        Raises: NotFound: there is no other space; Conflict: it is incomplete; what opening its embedder raises.
        """
        ctx.require(*_OVERSIGHT)
        other = await self.other(ctx, collection)
        with ctx.span("knowledge.embedder.switch", collection=collection, space=other.id) as (_, inner):
            other.check()
            writer = self._writer(ctx.tenant, collection, other)
            if await self._mend(ctx.tenant, collection, writer):
                lacking = await self._s.spaces.outstanding(ctx.tenant, collection, other.id)
                await writer.write([one.document for one in lacking])
            moved = fingerprints.get(other.id, {})
            unused = await self._s.spaces.switch(
                ctx.tenant, collection, other.id, by=ctx.principal.id, fingerprints=moved
            )
            for digest in unused:
                await self._s.blobs.delete(ctx.tenant, digest)
            return await self.status(inner, collection)

    async def may_switch(self, ctx: Context, collection: str) -> OpenSpace:
        """The space that a switch would let answer. Raises: NotFound, Conflict: it is incomplete; Forbidden."""
        other = await self.other(ctx, collection)
        lacking = await self._s.spaces.outstanding(ctx.tenant, collection, other.id)
        if lacking:
            raise incomplete(collection, len(lacking))
        other.check()
        return other

    async def other(self, ctx: Context, collection: str) -> OpenSpace:
        """The space that does not answer. Needs the role developer or operator. Raises: NotFound."""
        ctx.require(*_OVERSIGHT)
        standing = await self._s.spaces.standing(ctx.tenant, collection)
        for space in standing.spaces:
            if standing.answers is not None and space.id != standing.answers:
                return self._opened(ctx, collection, space)
        raise NotFound(
            f"the collection {collection!r} has one space only",
            param="collection",
            code="no_other_space",
            hint=f"interlock knowledge embedder build {collection}",
        )

    # Any: JSON.
    async def compared(self, ctx: Context, collection: str, space: str, found: Mapping[str, Any]) -> None:
        """Keep the figures of a comparison with the space they are of. Needs the role developer or operator."""
        ctx.require(*_OVERSIGHT)
        await self._s.spaces.change(ctx.tenant, collection, space, comparison=dict(found))

    async def drop(self, ctx: Context, collection: str) -> str:
        """Remove the space that does not answer, with its vectors; gives its id. Needs the role developer or operator.

        Raises: NotFound.
        """
        other = await self.other(ctx, collection)
        with ctx.span("knowledge.embedder.drop", collection=collection, space=other.id):
            await self._s.index.drop(ctx.tenant, other.space.place)
            # Blobs before the rows that name them: whatever stops it, doing it again does the rest.
            await self._s.spaces.unwrite(ctx.tenant, collection, other.id)
            for digest in await self._s.spaces.only_of(ctx.tenant, collection, other.id):
                await self._s.blobs.delete(ctx.tenant, digest)
            await self._s.spaces.forget(ctx.tenant, collection, other.id)
        return other.id


def _open(ctx: Context, collection: str, space: Space, embedder: Embedder) -> OpenSpace:
    return OpenSpace(space, IndexScope(ctx.tenant, space.place, space.id), for_caller(embedder, ctx))


def _noted(standing: Standing, space: str, collection: str) -> Space:
    """As noted; the first space of a collection may not be."""
    return next((one for one in standing.spaces if one.id == space), Space(space, collection, None))


def _batches(lacking: Sequence[Outstanding], passages: int) -> Iterator[list[Outstanding]]:
    """Whole documents, until there are so many passages."""
    batch: list[Outstanding] = []
    for one in lacking:
        batch.append(one)
        if sum(each.passages for each in batch) >= passages:
            yield batch
            batch = []
    if batch:
        yield batch


def _add(total: Wrote, more: Wrote) -> None:
    total.documents += more.documents
    total.passages += more.passages
    total.embedded += more.embedded
    total.tokens += more.tokens
    total.cut_again += more.cut_again
    total.refused += more.refused


def _nothing_to_build(collection: str) -> Conflict:
    return Conflict(
        f"{collection!r} answers from the embedder that the settings name",
        code="nothing_to_build",
        hint="set knowledge.embedder, or knowledge.collections.NAME.embedder, to another one first",
    )


def _never(collection: str) -> NotFound:
    return NotFound(
        f"the collection {collection!r} was never ingested", param="collection", hint=f"interlock ingest {collection}"
    )
