"""Reads and writes the tables of spaces; every method takes the tenant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.clock import now
from interlock.core.errors import Conflict, NotFound
from interlock.core.ids import DocumentId, TenantId
from interlock.knowledge.cleaning.store import knowledge_cleaned
from interlock.knowledge.spaces.tables import forget_known, knowledge_space_documents, knowledge_spaces
from interlock.knowledge.spaces.types import Known, Opening, Outstanding, Space, Standing
from interlock.knowledge.store import (
    blobs_nobody_uses,
    knowledge_collections,
    knowledge_documents,
    knowledge_versions,
)
from interlock.stores.sql.base import Sql

__all__ = ["SpaceStore", "incomplete", "is_current"]

_SPACES, _KNOWN = knowledge_spaces, knowledge_space_documents
_DOCS, _VERSIONS, _COLLECTIONS, _CLEANED = (
    knowledge_documents,
    knowledge_versions,
    knowledge_collections,
    knowledge_cleaned,
)
# Made once: every search asks them.
_ANSWERS = sa.select(_COLLECTIONS.c.embedder, _COLLECTIONS.c.legs).where(
    _COLLECTIONS.c.tenant == sa.bindparam("tenant"), _COLLECTIONS.c.collection == sa.bindparam("collection")
)
_NOTED = (
    sa.select(_SPACES)
    .where(_SPACES.c.tenant == sa.bindparam("tenant"), _SPACES.c.collection == sa.bindparam("collection"))
    .order_by(_SPACES.c.created_at, _SPACES.c.id)
)
_IN_LIST = 500
"""Ids a statement may list: SQLite bounds its parameters."""


class Confirmed(NamedTuple):
    """What became of documents while they were written."""

    changed: frozenset[DocumentId]
    unused: tuple[str, ...]
    """Digests of blobs that nothing refers to any more."""


class SpaceStore:
    """See the tables."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def standing(self, tenant: TenantId, collection: str) -> Standing:
        """Which space answers, and those that are noted."""

        def read(connection: Connection) -> Standing:
            row = connection.execute(_ANSWERS, {"tenant": tenant, "collection": collection}).first()
            spaces = _spaces(connection, tenant, collection)
            return Standing(None, spaces) if row is None else Standing(row.embedder, spaces, row.legs)

        return await self._sql.read(read)

    async def note(self, tenant: TenantId, collection: str, space: Space) -> None:
        """Remember a space, unless it is known."""

        def write(connection: Connection) -> None:
            where = _of_space(tenant, collection, space.id)
            if connection.execute(sa.select(_SPACES.c.id).where(*where)).first() is None:
                connection.execute(sa.insert(_SPACES).values(tenant=tenant, collection=collection, **_row(space)))

        await self._sql.write(write)

    # Any: columns of several types.
    async def change(self, tenant: TenantId, collection: str, space: str, **values: Any) -> None:
        """Change what is noted of a space."""

        def write(connection: Connection) -> None:
            connection.execute(sa.update(_SPACES).where(*_of_space(tenant, collection, space)).values(**values))

        await self._sql.write(write)

    async def add_costs(self, tenant: TenantId, collection: str, space: str, *, seconds: float, tokens: int) -> None:
        """Count what writing it took."""

        def write(connection: Connection) -> None:
            values = {"seconds": _SPACES.c.seconds + seconds, "tokens": _SPACES.c.tokens + tokens}
            connection.execute(sa.update(_SPACES).where(*_of_space(tenant, collection, space)).values(**values))

        await self._sql.write(write)

    async def only_of(self, tenant: TenantId, collection: str, space: str) -> list[str]:
        """Digests of blobs that a space refers to, and nothing else of the tenant."""

        def read(connection: Connection) -> list[str]:
            of_space = sa.and_(_KNOWN.c.collection == collection, _KNOWN.c.space == space)
            mine = connection.execute(sa.select(_KNOWN.c.kept_digest).where(_KNOWN.c.tenant == tenant, of_space))
            named = set(mine.scalars()) - {""}
            others = sa.select(_KNOWN.c.kept_digest).where(_KNOWN.c.tenant == tenant, sa.not_(of_space))
            versions = sa.select(_VERSIONS.c.kept_digest).where(_VERSIONS.c.tenant == tenant)
            used = {digest for query in (others, versions) for digest in connection.execute(query).scalars()}
            return sorted(named - used)

        return await self._sql.read(read)

    async def forget(self, tenant: TenantId, collection: str, space: str) -> None:
        """Remove a space and all that is known of it. Raises: Conflict: it answers."""

        def write(connection: Connection) -> None:
            where = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
            if connection.execute(sa.select(_COLLECTIONS.c.embedder).where(*where)).scalar() == space:
                raise Conflict("this space answers now", hint="switch to the other one first")
            of_space = (_KNOWN.c.tenant == tenant, _KNOWN.c.collection == collection, _KNOWN.c.space == space)
            connection.execute(sa.delete(_KNOWN).where(*of_space))
            connection.execute(sa.delete(_SPACES).where(*_of_space(tenant, collection, space)))

        await self._sql.write(write)

    # ── documents of a space ──────────────────────────────────────────────────────────────────────────────────────

    async def known(
        self, tenant: TenantId, collection: str, space: str, ids: Collection[DocumentId] | None = None
    ) -> dict[DocumentId, Known]:
        """What a space holds of these documents, or of all."""

        def read(connection: Connection) -> dict[DocumentId, Known]:
            query = sa.select(_KNOWN).where(
                _KNOWN.c.tenant == tenant, _KNOWN.c.collection == collection, _KNOWN.c.space == space
            )
            found: dict[DocumentId, Known] = {}
            for part in _parts(ids):
                narrowed = query if part is None else query.where(_KNOWN.c.document_id.in_(part))
                for row in connection.execute(narrowed):
                    known = _known(row)
                    found[known.document] = known
            return found

        return await self._sql.read(read)

    async def made_of(
        self, tenant: TenantId, collection: str, ids: Collection[DocumentId] | None = None
    ) -> dict[DocumentId, str]:
        """Digest of the kept passages of the space that answers, by document; empty where none are kept. Documents
        that are found by nobody are absent.
        """

        def read(connection: Connection) -> dict[DocumentId, str]:
            found: dict[DocumentId, str] = {}
            for part in _parts(ids):
                found |= _made_of(connection, tenant, collection, part)
            return found

        return await self._sql.read(read)

    async def save(self, tenant: TenantId, collection: str, space: str, rows: Sequence[Known]) -> list[str]:
        """Insert or replace; gives the digests that were replaced and that nothing refers to any more."""

        def write(connection: Connection) -> list[str]:
            replaced: set[str] = set()
            for row in rows:
                where = (_KNOWN.c.tenant == tenant, _KNOWN.c.document_id == row.document, _KNOWN.c.space == space)
                old = connection.execute(sa.select(_KNOWN.c.kept_digest).where(*where)).scalar()
                values = {
                    "collection": collection,
                    "text_digest": row.text_digest,
                    "made_of": row.made_of,
                    "kept_digest": row.kept_digest,
                    "passages": row.passages,
                    "passages_digest": row.passages_digest,
                    "written": row.written,
                }
                if old is None:
                    key = {"tenant": tenant, "document_id": row.document, "space": space}
                    connection.execute(sa.insert(_KNOWN).values(**key, **values))
                else:
                    connection.execute(sa.update(_KNOWN).where(*where).values(**values))
                    replaced.add(old)
            return blobs_nobody_uses(connection, tenant, replaced - {"", *(row.kept_digest for row in rows)})

        return await self._sql.write(write) if rows else []

    async def confirm(
        self, tenant: TenantId, space: str, written: Mapping[DocumentId, tuple[str, frozenset[str]]]
    ) -> Confirmed:
        """Note that the index holds these, where the registry still says what they were written from.

        Args:
            written: digest of the kept passages, and the readers that were written.

        Gives those of which it says something else by now: they must go from the index again. Of what was erased
        nothing stays here either.
        """

        def write(connection: Connection) -> Confirmed:
            other: set[DocumentId] = set()
            erased: set[str] = set()
            for document, (kept, readers) in written.items():
                of_document = (_DOCS.c.tenant == tenant, _DOCS.c.id == document)
                row = connection.execute(sa.select(_DOCS).where(*of_document)).mappings().first()
                where = (
                    _KNOWN.c.tenant == tenant,
                    _KNOWN.c.document_id == document,
                    _KNOWN.c.space == space,
                    _KNOWN.c.kept_digest == kept,
                )
                is_so = row is not None and row["passages"] > 0 and frozenset(row["readers"]) == readers
                if is_so:
                    same = connection.execute(sa.select(_KNOWN.c.text_digest).where(*where)).scalar()
                    is_so = row is not None and same == row["text_digest"]
                if is_so:
                    connection.execute(sa.update(_KNOWN).where(*where).values(written=True))
                    continue
                other.add(document)
                if row is None:
                    erased |= forget_known(connection, tenant, document)
            return Confirmed(frozenset(other), tuple(blobs_nobody_uses(connection, tenant, erased)))

        return await self._sql.write(write) if written else Confirmed(frozenset(), ())

    async def unwrite(
        self, tenant: TenantId, collection: str, space: str, ids: Collection[DocumentId] | None = None
    ) -> None:
        """The index holds these documents of a space no more, or none of them; what was kept of them stays."""

        def write(connection: Connection) -> None:
            of_space = (_KNOWN.c.tenant == tenant, _KNOWN.c.collection == collection, _KNOWN.c.space == space)
            for part in _parts(ids):
                where = of_space if part is None else (*of_space, _KNOWN.c.document_id.in_(part))
                connection.execute(sa.update(_KNOWN).where(*where).values(written=False))

        if ids is None or ids:
            await self._sql.write(write)

    async def unwrite_all(self, tenant: TenantId) -> None:
        """The tenant's index is empty."""

        def write(connection: Connection) -> None:
            connection.execute(sa.update(_KNOWN).where(_KNOWN.c.tenant == tenant).values(written=False))

        await self._sql.write(write)

    async def outstanding(self, tenant: TenantId, collection: str, space: str) -> list[Outstanding]:
        """Documents that can be found and that the space does not hold as they are, by source path."""

        def read(connection: Connection) -> list[Outstanding]:
            return _outstanding(connection, tenant, collection, space)

        return await self._sql.read(read)

    # ── switching ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def switch(
        self, tenant: TenantId, collection: str, space: str, *, by: str, fingerprints: Mapping[str, str]
    ) -> list[str]:
        """Let another space answer, in one transaction; gives digests of blobs that nothing refers to any more.

        What the registry says of documents' passages becomes that of the new space, and what it said stays as that of
        the old one, so that going back is the same step.

        Args:
            by: who asked for it.
            fingerprints: of documents, old to new: a run must not take them for read by another pipeline.

        Raises: NotFound: no such space; Conflict: it is incomplete, or answers already.
        """

        def write(connection: Connection) -> list[str]:
            of_collection = (_COLLECTIONS.c.tenant == tenant, _COLLECTIONS.c.collection == collection)
            before = connection.execute(sa.select(_COLLECTIONS.c.embedder).where(*of_collection)).scalar()
            if before == space:
                raise Conflict("this space answers already", code="answers_already")
            where = _of_space(tenant, collection, space)
            if before is None or connection.execute(sa.select(_SPACES.c.id).where(*where)).first() is None:
                raise NotFound(f"the collection {collection!r} has no such space", param="space")
            lacking = _outstanding(connection, tenant, collection, space)
            if lacking:
                raise incomplete(collection, len(lacking))
            replaced = _swap(connection, tenant, collection, before, space)
            for old, new in fingerprints.items():
                of_old = (_DOCS.c.tenant == tenant, _DOCS.c.collection == collection, _DOCS.c.fingerprint == old)
                connection.execute(sa.update(_DOCS).where(*of_old).values(fingerprint=new))
            changed = sa.update(_COLLECTIONS).where(*of_collection, _COLLECTIONS.c.embedder == before)
            connection.execute(changed.values(embedder=space, revision=_COLLECTIONS.c.revision + 1))
            connection.execute(sa.update(_SPACES).where(*where).values(switched_at=now(), switched_by=by))
            return blobs_nobody_uses(connection, tenant, replaced)

        return await self._sql.write(write)


def incomplete(collection: str, lacking: int) -> Conflict:
    """A space that cannot answer yet."""
    return Conflict(
        f"{lacking} documents of {collection!r} are not in this space yet",
        code="space_incomplete",
        hint=f"interlock knowledge embedder build {collection}",
    )


def _swap(connection: Connection, tenant: TenantId, collection: str, before: str, space: str) -> set[str]:
    """Registry and known documents change places. Gives the digests of what was replaced.

    What is known of documents that can be found by nobody now stays where it is, until they come back or are removed.
    """
    made_of = _made_of(connection, tenant, collection, None)
    of_space = (_KNOWN.c.tenant == tenant, _KNOWN.c.collection == collection, _KNOWN.c.space == space)
    rows = {known.document: known for known in map(_known, connection.execute(sa.select(_KNOWN).where(*of_space)))}
    replaced: set[str] = set()
    for document, kept in made_of.items():
        new = rows[document]
        stale = (_KNOWN.c.tenant == tenant, _KNOWN.c.document_id == document, _KNOWN.c.space.in_([before, space]))
        replaced |= set(connection.execute(sa.select(_KNOWN.c.kept_digest).where(*stale)).scalars())
        connection.execute(sa.delete(_KNOWN).where(*stale))
        of_document = (_DOCS.c.tenant == tenant, _DOCS.c.id == document)
        of_shape = (_CLEANED.c.tenant == tenant, _CLEANED.c.document_id == document)
        old_passages = connection.execute(sa.select(_DOCS.c.passages).where(*of_document)).scalar_one()
        old_digest = connection.execute(sa.select(_CLEANED.c.passages_digest).where(*of_shape)).scalar()
        connection.execute(sa.update(_DOCS).where(*of_document).values(passages=new.passages))
        connection.execute(sa.update(_CLEANED).where(*of_shape).values(passages_digest=new.passages_digest))
        of_version = (
            _VERSIONS.c.tenant == tenant,
            _VERSIONS.c.document_id == document,
            _VERSIONS.c.text_digest == new.text_digest,
            _VERSIONS.c.kept_digest == kept,
        )
        connection.execute(sa.update(_VERSIONS).where(*of_version).values(kept_digest=new.kept_digest))
        connection.execute(
            sa.insert(_KNOWN).values(
                tenant=tenant,
                document_id=document,
                space=before,
                collection=collection,
                text_digest=new.text_digest,
                made_of=new.kept_digest,
                kept_digest=kept,
                passages=old_passages,
                passages_digest=old_digest or "",
                written=True,
            )
        )
    return replaced - {""}


def _made_of(
    connection: Connection, tenant: TenantId, collection: str, ids: Sequence[DocumentId] | None
) -> dict[DocumentId, str]:
    query = (
        sa.select(_DOCS.c.id, _VERSIONS.c.kept_digest)
        .join(
            _VERSIONS,
            sa.and_(
                _VERSIONS.c.tenant == _DOCS.c.tenant,
                _VERSIONS.c.document_id == _DOCS.c.id,
                _VERSIONS.c.text_digest == _DOCS.c.text_digest,
            ),
        )
        .where(_DOCS.c.tenant == tenant, _DOCS.c.collection == collection, _DOCS.c.passages > 0)
        # Of several versions with one text the newest that has passages counts, as of `DocumentStore.kept_digest`.
        .order_by(sa.case((_VERSIONS.c.kept_digest == "", 0), else_=1), _VERSIONS.c.ingested_at)
    )
    if ids is not None:
        query = query.where(_DOCS.c.id.in_(ids))
    return {DocumentId(row.id): row.kept_digest for row in connection.execute(query)}


def _outstanding(connection: Connection, tenant: TenantId, collection: str, space: str) -> list[Outstanding]:
    of_space = (_KNOWN.c.tenant == tenant, _KNOWN.c.collection == collection, _KNOWN.c.space == space)
    held = {known.document: known for known in map(_known, connection.execute(sa.select(_KNOWN).where(*of_space)))}
    made_of = _made_of(connection, tenant, collection, None)
    columns = (_DOCS.c.id, _DOCS.c.source, _DOCS.c.text_digest, _DOCS.c.passages)
    query = sa.select(*columns).where(_DOCS.c.tenant == tenant, _DOCS.c.collection == collection, _DOCS.c.passages > 0)
    found = []
    for row in connection.execute(query.order_by(_DOCS.c.source)):
        known = held.get(row.id)
        if known is None or not is_current(known, row.text_digest, made_of.get(row.id, "")) or not known.written:
            found.append(Outstanding(DocumentId(row.id), row.source, row.passages))
    return found


def is_current(known: Known, text_digest: str, made_of: str) -> bool:
    """Whether a space's passages are those of the document as it is now."""
    return known.text_digest == text_digest and known.made_of == made_of


def _of_space(tenant: TenantId, collection: str, space: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_SPACES.c.tenant == tenant, _SPACES.c.collection == collection, _SPACES.c.id == space)


def _parts(ids: Collection[DocumentId] | None) -> list[list[DocumentId] | None]:
    if ids is None:
        return [None]
    wanted = sorted(ids)
    return [wanted[start : start + _IN_LIST] for start in range(0, len(wanted), _IN_LIST)]


def _spaces(connection: Connection, tenant: TenantId, collection: str) -> tuple[Space, ...]:
    return tuple(_space(row) for row in connection.execute(_NOTED, {"tenant": tenant, "collection": collection}))


# Any: SQLAlchemy's rows carry no column types.
def _space(row: Any) -> Space:
    opening = row.opening
    return Space(
        id=row.id,
        place=row.place,
        opening=None if opening is None else Opening(opening["name"], opening["model"], opening["facts"]),
        created_at=row.created_at,
        created_by=row.created_by,
        built_at=row.built_at,
        seconds=row.seconds,
        tokens=row.tokens,
        error_code=row.error_code,
        error_message=row.error_message,
        comparison=row.comparison,
        switched_at=row.switched_at,
        switched_by=row.switched_by,
    )


def _row(space: Space) -> dict[str, object]:
    opening = space.opening
    return {
        "id": space.id,
        "place": space.place,
        "opening": None
        if opening is None
        else {"name": opening.name, "model": opening.model, "facts": dict(opening.facts)},
        "created_at": space.created_at or now(),
        "created_by": space.created_by,
        "built_at": space.built_at,
        "seconds": space.seconds,
        "tokens": space.tokens,
        "error_code": space.error_code,
        "error_message": space.error_message,
        "comparison": space.comparison,
        "switched_at": space.switched_at,
        "switched_by": space.switched_by,
    }


# Any: as above.
def _known(row: Any) -> Known:
    return Known(
        DocumentId(row.document_id),
        row.text_digest,
        row.made_of,
        row.kept_digest,
        row.passages,
        row.passages_digest,
        row.written,
    )
