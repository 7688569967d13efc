"""Hybrid index in PostgreSQL: pgvector for vectors, a table of postings for words.

The tables live in a schema of their own, made when first needed and outside the migration history: the index is
derived data and can be rebuilt. Every statement names the tenant. Reader sets are interned per tenant as integers.

The dense leg is exact while few enough rows are readable. Past that it walks an HNSW graph, which is approximate and
filters while it walks (`hnsw.iterative_scan = strict_order` walks on until k readable rows are found); when the walk
ends early, the exact scan answers. The lexical leg is BM25 with FTS5's formula and constants, over the rows
that the caller may read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.ids import DocumentId, PassageId, TenantId
from interlock.stores.index import _postgres_statements as _statements
from interlock.stores.index import _rows
from interlock.stores.index.base import Hit, IndexRow, IndexScope, IndexStats
from interlock.stores.sql import Sql, read_committed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PostgresIndex"]

_SETUP_LOCK = 0x1E7_10C5
_HNSW_MOST_DIMS = 2000


class _Collection(NamedTuple):
    id: int
    embedder: str
    dims: int
    rows: int


class PostgresIndex:
    """An `Index` in the database of a `Sql` whose dialect is ``postgresql`` and whose server has pgvector.

    Args:
        sql: belongs to its owner and is not closed here.
        exact_rows: readable rows up to which the dense leg compares all of them.
    """

    def __init__(self, sql: Sql, *, exact_rows: int = 10_000) -> None:
        if sql.dialect != "postgresql":
            raise Misconfigured("this index needs PostgreSQL", hint="use the embedded index", param="stores.index")
        self._sql = sql
        self._exact_rows = exact_rows
        self._ready = False

    async def apply(self, scope: IndexScope, *, upsert: Sequence[IndexRow], delete: Collection[DocumentId]) -> None:
        """See `Index.apply`. Writers of one collection take turns.

        Raises: InvalidInput: a row has the wrong dimensions or repeats a passage id, or the collection holds another
            embedder's vectors.
        """
        _rows.check_rows(upsert)
        dims = len(upsert[0].vector) if upsert else None
        vectors = [_literal(_rows.unit_vector(row.vector, dims)) for row in upsert]

        def write(connection: Connection) -> None:
            read_committed(connection)
            found = _bind(connection, scope, dims)
            if found is None:
                return
            _delete_documents(connection, scope, found, {*delete, *(row.document_id for row in upsert)})
            if upsert:
                _insert(connection, scope, found, upsert, vectors)

        await self._set_up()
        await self._sql.write(write)

    async def set_readers(self, scope: IndexScope, document: DocumentId, readers: frozenset[str]) -> None:
        """See `Index.set_readers`. Nothing happens when the document is unknown."""

        def write(connection: Connection) -> None:
            read_committed(connection)
            found = _collection(connection, scope, lock=True)
            if found is None:
                return
            aclset = _intern(connection, scope.tenant, readers)
            where = {"tenant": scope.tenant, "collection": found.id, "document": document, "aclset": aclset}
            changed = connection.execute(_statements.SET_READERS, where).scalars().all()
            _execute(
                connection,
                f"UPDATE {_vectors(found.dims)} SET aclset = :aclset"  # noqa: S608 - our own number
                " WHERE tenant = :tenant AND passage = ANY(:changed)",
                {"tenant": scope.tenant, "aclset": aclset, "changed": list(changed)},
            )

        await self._set_up()
        await self._sql.write(write)

    async def dense(
        self,
        scope: IndexScope,
        vector: Sequence[float] | NDArray[np.float32],
        *,
        readers: frozenset[str],
        k: int,
        documents: Collection[DocumentId] | None = None,
    ) -> list[Hit]:
        """See `Index.dense`, and this module for when it is exact."""
        _rows.check_k(k)

        def search(connection: Connection, found: _Collection, allowed: list[int]) -> list[Hit]:
            if found.embedder != scope.embedder:
                return []
            query = _literal(_rows.unit_vector(vector, found.dims))
            where = {"tenant": scope.tenant, "collection": found.id, "allowed": allowed, "query": query, "k": k}
            where["documents"] = None if documents is None else list(documents)
            return self._nearest(connection, found.dims, where)

        return await self._read(scope, readers, search)

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
        _rows.check_k(k)
        words = _rows.query_words(terms)
        if not words:
            return []

        def search(connection: Connection, found: _Collection, allowed: list[int]) -> list[Hit]:
            where: dict[str, Any] = {  # Any: statement parameters
                "tenant": scope.tenant,
                "collection": found.id,
                "terms": words,
                "allowed": allowed,
                "k": k,
            }
            if documents is None:
                return _hits(connection.execute(_statements.LEXICAL, where))
            return _hits(connection.execute(_statements.LEXICAL_WITHIN, {**where, "documents": list(documents)}))

        return await self._read(scope, readers, search)

    async def get(self, scope: IndexScope, passages: Collection[PassageId], *, readers: frozenset[str]) -> list[Hit]:
        """See `Index.get`."""

        def search(connection: Connection, found: _Collection, allowed: list[int]) -> list[Hit]:
            where = {"tenant": scope.tenant, "collection": found.id, "allowed": allowed, "wanted": list(passages)}
            return _hits(connection.execute(_statements.GET, where))

        return await self._read(scope, readers, search)

    async def document_passages(self, scope: IndexScope, document: DocumentId, *, readers: frozenset[str]) -> list[Hit]:
        """See `Index.document_passages`."""

        def search(connection: Connection, found: _Collection, allowed: list[int]) -> list[Hit]:
            where = {"tenant": scope.tenant, "collection": found.id, "allowed": allowed, "document": document}
            return _hits(connection.execute(_statements.DOCUMENT, where))

        return await self._read(scope, readers, search)

    async def stats(self, scope: IndexScope) -> IndexStats:
        """See `Index.stats`. The size counts payloads, vectors and words, not the tables' overhead."""

        def read(connection: Connection) -> IndexStats:
            found = _collection(connection, scope)
            if found is None:
                return IndexStats(0, 0, 0)
            row = connection.execute(_statements.STATS, {"tenant": scope.tenant, "collection": found.id}).one()
            return IndexStats(row[0], row[1], int(row[2]) + row[0] * found.dims * 4)

        await self._set_up()
        return await self._sql.read(read)

    async def check(self, tenant: TenantId) -> None:
        """See `Index.check`. The server looks after its own pages."""

    async def scrub(self, tenant: TenantId) -> bool:
        """See `Index.scrub`. The server writes over removed rows at a vacuum, when it likes."""
        return False

    async def drop(self, tenant: TenantId, collection: str | None = None) -> None:
        """See `Index.drop`."""

        def write(connection: Connection) -> None:
            read_committed(connection)
            connection.execute(_statements.DROP, {"tenant": tenant, "name": collection})
            if collection is None:
                connection.execute(_statements.DROP_READERS, {"tenant": tenant})

        await self._set_up()
        await self._sql.write(write)

    async def close(self) -> None:
        """Nothing to let go of: the database belongs to its owner."""

    async def _set_up(self) -> None:
        if self._ready:
            return

        def write(connection: Connection) -> None:
            read_committed(connection)
            _execute(connection, "SELECT pg_advisory_xact_lock(:key)", {"key": _SETUP_LOCK})
            try:
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
            except sa.exc.DBAPIError as error:
                raise Misconfigured(
                    "the PostgreSQL server has no pgvector that this user may create",
                    hint="install pgvector and run CREATE EXTENSION vector as a superuser",
                    param="stores.index",
                ) from error
            connection.exec_driver_sql(_statements.SCHEMA)

        await self._sql.write(write)
        self._ready = True

    async def _read(
        self,
        scope: IndexScope,
        readers: frozenset[str],
        search: Callable[[Connection, _Collection, list[int]], list[Hit]],
    ) -> list[Hit]:
        """Run `search` with the collection and the numbers of the reader sets these readers are in."""

        def read(connection: Connection) -> list[Hit]:
            found = _collection(connection, scope)
            if found is None or found.rows == 0:
                return []
            allowed = (
                connection.execute(_statements.ALLOWED, {"tenant": scope.tenant, "readers": list(readers)})
                .scalars()
                .all()
            )
            return search(connection, found, list(allowed)) if allowed else []

        await self._set_up()
        return await self._sql.read(read)

    # Any: statement parameters of unlike types.
    def _nearest(self, connection: Connection, dims: int, where: dict[str, Any]) -> list[Hit]:
        table = _vectors(dims)
        of_reader = "tenant = :tenant AND collection_id = :collection AND aclset = ANY(:allowed)"
        if where["documents"] is not None:
            of_reader += f" AND passage IN ({_statements.OF_DOCUMENTS})"
        readable = _execute(
            connection,
            f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {of_reader} LIMIT :most) readable",  # noqa: S608 - constants
            {**where, "most": self._exact_rows + 1},
        ).scalar_one()
        if readable > self._exact_rows and dims <= _HNSW_MOST_DIMS:
            wider = min(1000, max(100, 2 * where["k"]))
            connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
            connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {int(wider)}")
            connection.exec_driver_sql("SET LOCAL hnsw.max_scan_tuples = 1000000")
            near = f"SELECT passage, embedding <=> CAST(:query AS vector) AS distance FROM {table} WHERE {of_reader}"  # noqa: S608 - constants
            walked = _hits(_execute(connection, _statements.NEAREST.format(near=near, order="distance"), where))
            if len(walked) == where["k"]:
                return walked
        # MATERIALIZED: the filter runs first and no graph is walked.
        near = (
            f"WITH mine AS MATERIALIZED (SELECT passage, embedding FROM {table} WHERE {of_reader}) "  # noqa: S608 - constants
            "SELECT passage, embedding <=> CAST(:query AS vector) AS distance FROM mine"
        )
        return _hits(_execute(connection, _statements.NEAREST.format(near=near, order="distance, passage"), where))


# Any: statement parameters and rows of unlike types.
def _execute(connection: Connection, statement: str, values: dict[str, Any]) -> sa.CursorResult[*tuple[Any, ...]]:
    return connection.execute(sa.text(statement), values)


# Any: rows of unlike types.
def _hits(rows: sa.Result[*tuple[Any, ...]]) -> list[Hit]:
    return [Hit(row[0], row[1], float(row[2]), bytes(row[3])) for row in rows]


def _vectors(dims: int) -> str:
    return f"interlock_index.vector_{int(dims)}"


def _literal(vector: NDArray[np.float32]) -> str:
    # numpy's repr of a float32 is the shortest text that reads back as the same value.
    return "[" + ",".join(str(value) for value in vector.tolist()) + "]"


def _collection(connection: Connection, scope: IndexScope, *, lock: bool = False) -> _Collection | None:
    values = {"tenant": scope.tenant, "name": scope.collection}
    row = connection.execute(_statements.LOCK_COLLECTION if lock else _statements.COLLECTION, values).first()
    return None if row is None else _Collection._make(row)


def _bind(connection: Connection, scope: IndexScope, dims: int | None) -> _Collection | None:
    """The collection, locked; made when new. One collection holds the vectors of one embedder."""
    found = _collection(connection, scope, lock=True)
    if dims is None or (found is not None and (found.embedder, found.dims) == (scope.embedder, dims)):
        return found
    if found is not None and found.embedder == scope.embedder:
        raise InvalidInput(f"a vector has {dims} dimensions, expected {found.dims}", param="vector")
    if found is not None and found.rows:
        raise InvalidInput(
            f"the collection {scope.collection!r} holds vectors of another embedder",
            hint="drop the collection and ingest it again with the new embedder",
            param="embedder",
        )
    values = {"tenant": scope.tenant, "name": scope.collection, "embedder": scope.embedder, "dims": dims}
    if found is None:
        _execute(
            connection,
            "INSERT INTO interlock_index.collection (tenant, name, embedder, dims)"
            " VALUES (:tenant, :name, :embedder, :dims) ON CONFLICT DO NOTHING",
            values,
        )
        _make_vectors(connection, dims)
        # Somebody may have made it at the same moment, for another embedder: look again.
        return _bind(connection, scope, dims)
    _execute(
        connection,
        "UPDATE interlock_index.collection SET embedder = :embedder, dims = :dims"
        " WHERE tenant = :tenant AND name = :name",
        values,
    )
    _make_vectors(connection, dims)
    return found._replace(embedder=scope.embedder, dims=dims)


def _make_vectors(connection: Connection, dims: int) -> None:
    table = _vectors(dims)
    if _execute(connection, "SELECT to_regclass(:table)", {"table": table}).scalar() is not None:
        return
    _execute(connection, "SELECT pg_advisory_xact_lock(:key)", {"key": _SETUP_LOCK})
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS {table} ("
        "passage bigint PRIMARY KEY REFERENCES interlock_index.passage ON DELETE CASCADE, tenant text NOT NULL,"
        f" collection_id bigint NOT NULL, aclset bigint NOT NULL, embedding vector({int(dims)}) NOT NULL)"
    )
    connection.exec_driver_sql(
        f"CREATE INDEX IF NOT EXISTS vector_{int(dims)}_readable ON {table} (collection_id, aclset)"
    )
    if dims <= _HNSW_MOST_DIMS:
        connection.exec_driver_sql(
            f"CREATE INDEX IF NOT EXISTS vector_{int(dims)}_graph ON {table} USING hnsw (embedding vector_cosine_ops)"
        )


def _delete_documents(
    connection: Connection, scope: IndexScope, found: _Collection, documents: set[DocumentId]
) -> None:
    gone = _execute(
        connection,
        "WITH gone AS (DELETE FROM interlock_index.passage WHERE tenant = :tenant AND collection_id = :collection"
        " AND document_id = ANY(CAST(:documents AS text[])) RETURNING n_words)"
        " SELECT count(*), coalesce(sum(n_words), 0) FROM gone",
        {"tenant": scope.tenant, "collection": found.id, "documents": list(documents)},
    ).one()
    _count(connection, scope, found, -gone[0], -int(gone[1]))


def _insert(
    connection: Connection, scope: IndexScope, found: _Collection, rows: Sequence[IndexRow], vectors: list[str]
) -> None:
    words = [_rows.words(row.terms) for row in rows]
    sets = {readers: _intern(connection, scope.tenant, readers) for readers in {row.readers for row in rows}}
    made = _execute(
        connection,
        """
        INSERT INTO interlock_index.passage
          (tenant, collection_id, passage_id, document_id, aclset, n_words, terms_bytes, payload)
        SELECT :tenant, :collection, passage_id, document_id, aclset, n_words, terms_bytes, payload FROM unnest(
          CAST(:passages AS text[]), CAST(:documents AS text[]), CAST(:aclsets AS bigint[]), CAST(:counts AS integer[]),
          CAST(:sizes AS integer[]), CAST(:payloads AS bytea[]))
          WITH ORDINALITY AS r(passage_id, document_id, aclset, n_words, terms_bytes, payload, place)
        ORDER BY place ON CONFLICT DO NOTHING RETURNING passage_id, id
        """,
        {
            "tenant": scope.tenant,
            "collection": found.id,
            "passages": [row.passage_id for row in rows],
            "documents": [row.document_id for row in rows],
            "aclsets": [sets[row.readers] for row in rows],
            "counts": [len(of_row) for of_row in words],
            "sizes": [len(" ".join(of_row).encode()) for of_row in words],
            "payloads": [row.payload for row in rows],
        },
    ).all()
    ids = {row[0]: row[1] for row in made}
    for row in rows:
        if row.passage_id not in ids:
            raise InvalidInput(f"the passage {row.passage_id!r} belongs to another document", param="upsert")
    _execute(
        connection,
        f"INSERT INTO {_vectors(found.dims)} (passage, tenant, collection_id, aclset, embedding)"  # noqa: S608 - our own number
        " SELECT id, :tenant, :collection, aclset, CAST(embedding AS vector) FROM"
        " unnest(CAST(:ids AS bigint[]), CAST(:aclsets AS bigint[]), CAST(:vectors AS text[]))"
        " AS r(id, aclset, embedding)",
        {
            "tenant": scope.tenant,
            "collection": found.id,
            "ids": [ids[row.passage_id] for row in rows],
            "aclsets": [sets[row.readers] for row in rows],
            "vectors": vectors,
        },
    )
    postings = [
        (term, ids[row.passage_id], n)
        for row, of_row in zip(rows, words, strict=True)
        for term, n in Counter(of_row).items()
    ]
    _execute(
        connection,
        "INSERT INTO interlock_index.posting (collection_id, term, passage, n)"
        " SELECT :collection, term, passage, n FROM"
        " unnest(CAST(:terms AS text[]), CAST(:passages AS bigint[]), CAST(:counts AS integer[]))"
        " AS r(term, passage, n)",
        {
            "collection": found.id,
            "terms": [posting[0] for posting in postings],
            "passages": [posting[1] for posting in postings],
            "counts": [posting[2] for posting in postings],
        },
    )
    _count(connection, scope, found, len(rows), sum(len(of_row) for of_row in words))


def _count(connection: Connection, scope: IndexScope, found: _Collection, rows: int, words: int) -> None:
    # `n_words` is for workers of an older release beside this one: they score with it.
    _execute(
        connection,
        "UPDATE interlock_index.collection SET n_rows = n_rows + :rows, n_words = n_words + :words"
        " WHERE tenant = :tenant AND id = :collection",
        {"tenant": scope.tenant, "collection": found.id, "rows": rows, "words": words},
    )


def _intern(connection: Connection, tenant: TenantId, readers: frozenset[str]) -> int:
    """The number of a set of readers; 0 for nobody."""
    if not readers:
        return 0
    values = {"tenant": tenant, "digest": hashlib.sha256(_rows.reader_set(readers).encode()).hexdigest()}
    made = _execute(
        connection,
        "INSERT INTO interlock_index.reader_set (tenant, digest) VALUES (:tenant, :digest)"
        " ON CONFLICT DO NOTHING RETURNING id",
        values,
    ).scalar()
    if made is None:
        find = "SELECT id FROM interlock_index.reader_set WHERE tenant = :tenant AND digest = :digest"
        return int(_execute(connection, find, values).scalar_one())
    _execute(
        connection,
        "INSERT INTO interlock_index.reader_member (tenant, reader, set_id)"
        " SELECT :tenant, reader, :id FROM unnest(CAST(:readers AS text[])) AS r(reader)",
        {"tenant": tenant, "id": made, "readers": sorted(readers)},
    )
    return int(made)
