"""Hybrid index in one SQLite file a tenant: sqlite-vec for vectors, FTS5 for words.

A file a tenant keeps word statistics apart, makes erasure the removal of a file, and answers in about a millisecond.
Each distinct set of readers is interned as an integer, and both legs take ``aclset IN (the sets this reader is in)``
before the top k; set 0 is the set of nobody, so it is in no list. Vectors are compared exhaustively: the dense leg is
exact. What a word weighs is counted over the rows that the caller may read, and over no others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pysqlite3 import dbapi2

from interlock.core.errors import InvalidInput, Unavailable
from interlock.core.ids import DocumentId, PassageId, TenantId
from interlock.stores._folders import tenant_folder
from interlock.stores._threads import Threads
from interlock.stores.index import _rows
from interlock.stores.index._handles import Connection, Handles, damaged
from interlock.stores.index._sqlite_words import RowMemory, Rows, best_rows, read_rows
from interlock.stores.index.base import Hit, IndexRow, IndexScope, IndexStats
from interlock.stores.index.memory import Near, Place, VectorMemory, Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SqliteIndex"]

T = TypeVar("T")

_MEMORY_BYTES = 256 << 20
_ROW_MEMORY_BYTES = 64 << 20
_PUNCTUATION = "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum())


def _tokenizer() -> str:
    # FTS5's `ascii` with every printable sign a token character: it splits at spaces and changes nothing else.
    # Quoted twice: once as the tokenizer's argument, once as the table's.
    argument = "'" + _PUNCTUATION.replace("'", "''") + "'"
    return '"ascii tokenchars ' + argument.replace('"', '""') + '"'


class _Collection(NamedTuple):
    id: int
    embedder: str
    dims: int


class SqliteIndex:
    """An `Index` in a folder; several processes may share it.

    Args:
        root: the folder; one file a tenant in it.
        max_open: tenants' files kept open.
        threads: searches and writes at a time.
        synchronous: ``normal`` or ``full``, as for `open_sql`. The index can be rebuilt, so ``normal`` is enough.
        max_pages: bound of each file in pages of 4,096 bytes, None for no bound.
        memory: vectors kept in memory, of all tenants together; None for 256 MB.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_open: int = 64,
        threads: int = 4,
        synchronous: Literal["normal", "full"] = "normal",
        max_pages: int | None = None,
        memory: VectorMemory | None = None,
    ) -> None:
        self._root = root
        self._memory = memory or VectorMemory(_MEMORY_BYTES)
        self._row_memory = RowMemory(_ROW_MEMORY_BYTES)
        self._handles = Handles(max_open, synchronous=synchronous.upper(), max_pages=max_pages)
        self._threads = Threads(threads, "interlock-index")

    async def apply(self, scope: IndexScope, *, upsert: Sequence[IndexRow], delete: Collection[DocumentId]) -> None:
        """See `Index.apply`.

        Raises: InvalidInput: a row has the wrong dimensions or repeats a passage id, or the collection holds another
            embedder's vectors.
        """
        await self._threads.run(lambda: self._apply(scope, upsert, delete))

    async def set_readers(self, scope: IndexScope, document: DocumentId, readers: frozenset[str]) -> None:
        """See `Index.set_readers`. Nothing happens when the document is unknown."""

        def write() -> None:
            with self._handles.use(self._path(scope.tenant), create=False) as handle:
                if handle is None:
                    return
                with handle.write() as connection:
                    found = _collection(connection, scope.collection)
                    if found is None:
                        return
                    aclset = _intern(connection, readers)
                    where = "collection_id = ? AND document_id = ?"
                    ids = connection.execute(f"SELECT id FROM passage WHERE {where}", (found.id, document)).fetchall()  # noqa: S608 - constant
                    connection.execute(
                        f"UPDATE passage SET aclset = ? WHERE {where}",  # noqa: S608 - constant
                        (aclset, found.id, document),
                    )
                    connection.executemany(
                        f"UPDATE vector_{found.id} SET aclset = ? WHERE rowid = ?",  # noqa: S608 - our own number
                        [(aclset, row[0]) for row in ids],
                    )
            self._memory.forget(self._path(scope.tenant))

        await self._threads.run(write)

    async def dense(
        self,
        scope: IndexScope,
        vector: Sequence[float] | NDArray[np.float32],
        *,
        readers: frozenset[str],
        k: int,
        documents: Collection[DocumentId] | None = None,
    ) -> list[Hit]:
        """See `Index.dense`. Exact; time grows with the rows of the collection."""
        _rows.check_k(k)

        def search(connection: Connection, found: _Collection, allowed: str) -> list[Hit]:
            if found.embedder != scope.embedder:
                return []
            unit = _rows.unit_vector(vector, found.dims)
            if documents is None:
                place, revision = Place(self._path(scope.tenant), found.id), _revision(connection)
                kept = self._memory.find(place, revision)
                if kept is not None:
                    near = kept.nearest(unit, json.loads(allowed), k)
                    return _hits(connection, [one._replace(score=_cosine(one.score)) for one in near])
                if self._memory.wants(place, revision):
                    self._threads.start(lambda: self._remember(place, found))
            query = unit.tobytes()
            narrowed, values = _within(found, documents, "rowid")
            rows = connection.execute(
                f"""
                WITH near AS MATERIALIZED (
                  SELECT rowid AS id, distance FROM vector_{found.id}
                  WHERE embedding MATCH ? AND k = ? AND aclset IN (SELECT value FROM json_each(?)){narrowed})
                SELECT p.passage_id, p.document_id, 1.0 - near.distance, p.payload
                FROM near JOIN passage p ON p.id = near.id ORDER BY near.distance, p.id
                """,  # noqa: S608 - our own number
                (query, k, allowed, *values),
            )
            return [Hit(row[0], row[1], _cosine(row[2]), row[3]) for row in rows]

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
        """See `Index.lexical`. No sign in `terms` has a meaning."""
        _rows.check_k(k)
        words = _rows.query_words(terms)
        if not words:
            return []

        def search(connection: Connection, found: _Collection, allowed: str) -> list[Hit]:
            known = self._rows_of(connection, Place(self._path(scope.tenant), found.id))
            sets = json.loads(allowed)
            best = best_rows(connection, found.id, known, words, allowed=sets, k=k, documents=documents)
            return _hits(connection, best)

        return await self._read(scope, readers, search)

    async def get(self, scope: IndexScope, passages: Collection[PassageId], *, readers: frozenset[str]) -> list[Hit]:
        """See `Index.get`."""

        def search(connection: Connection, found: _Collection, allowed: str) -> list[Hit]:
            wanted = json.dumps(list(passages))
            rows = connection.execute(
                """
                SELECT passage_id, document_id, 0.0, payload FROM passage
                WHERE collection_id = ? AND passage_id IN (SELECT value FROM json_each(?))
                  AND aclset IN (SELECT value FROM json_each(?))
                """,
                (found.id, wanted, allowed),
            )
            return [Hit(*row) for row in rows]

        return await self._read(scope, readers, search)

    async def document_passages(self, scope: IndexScope, document: DocumentId, *, readers: frozenset[str]) -> list[Hit]:
        """See `Index.document_passages`."""

        def search(connection: Connection, found: _Collection, allowed: str) -> list[Hit]:
            rows = connection.execute(
                """
                SELECT passage_id, document_id, 0.0, payload FROM passage
                WHERE collection_id = ? AND document_id = ? AND aclset IN (SELECT value FROM json_each(?)) ORDER BY id
                """,
                (found.id, document, allowed),
            )
            return [Hit(*row) for row in rows]

        return await self._read(scope, readers, search)

    async def stats(self, scope: IndexScope) -> IndexStats:
        """See `Index.stats`. The size counts payloads, vectors and words, not the file's overhead."""

        def read() -> IndexStats:
            with self._handles.use(self._path(scope.tenant), create=False) as handle:
                if handle is None:
                    return IndexStats(0, 0, 0)
                with handle.read() as connection:
                    found = _collection(connection, scope.collection)
                    if found is None:
                        return IndexStats(0, 0, 0)
                    counted = connection.execute(
                        "SELECT count(*), count(DISTINCT document_id), coalesce(sum(length(payload) + terms_bytes), 0)"
                        " FROM passage WHERE collection_id = ?",
                        (found.id,),
                    ).fetchone()
                    return IndexStats(counted[0], counted[1], counted[2] + counted[0] * found.dims * 4)

        return await self._threads.run(read)

    async def check(self, tenant: TenantId) -> None:
        """See `Index.check`. Reads the whole file: its time grows with the size."""

        def read() -> None:
            with self._handles.use(self._path(tenant), create=False) as handle:
                if handle is None:
                    return
                with handle.fresh() as connection:
                    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise damaged()

        await self._threads.run(read)

    async def scrub(self, tenant: TenantId) -> bool:
        """See `Index.scrub`."""

        def write() -> bool:
            with self._handles.use(self._path(tenant), create=False) as handle:
                return handle is None or handle.scrub()

        return await self._threads.run(write)

    async def drop(self, tenant: TenantId, collection: str | None = None) -> None:
        """See `Index.drop`. Without `collection` the tenant's file is removed."""

        def empty(path: Path) -> None:
            with self._handles.use(path, create=False) as handle:
                if handle is None:
                    return
                with handle.write() as connection:
                    # Emptied even when the file goes: another process may still hold it open for a moment.
                    for (name,) in connection.execute("SELECT name FROM collection").fetchall():
                        if collection in (None, name):
                            _drop(connection, name)

        def write() -> None:
            path = self._path(tenant)
            try:
                empty(path)
            except Unavailable as error:
                # A damaged file cannot be emptied, but it can go.
                if error.code != "corrupt_index" or collection is not None:
                    raise
            except dbapi2.DatabaseError:
                # Nor can one whose tables contradict one another; SQLite calls that an error of logic.
                if collection is not None:
                    raise
            if collection is None:
                self._handles.forget(path)
            self._memory.forget(path)

        await self._threads.run(write)

    async def close(self) -> None:
        """See `Index.close`."""
        await self._threads.close()
        self._handles.close()

    def _path(self, tenant: TenantId) -> Path:
        return self._root / f"{tenant_folder(tenant)}.sqlite"

    async def _read(
        self,
        scope: IndexScope,
        readers: frozenset[str],
        search: Callable[[Connection, _Collection, str], list[Hit]],
    ) -> list[Hit]:
        """Run `search` with the collection and the JSON list of reader sets these readers are in."""

        def read() -> list[Hit]:
            with self._handles.use(self._path(scope.tenant), create=False) as handle:
                if handle is None:
                    return []
                with handle.read() as connection:
                    found = _collection(connection, scope.collection)
                    allowed = _allowed(connection, readers)
                    return search(connection, found, json.dumps(allowed)) if found is not None and allowed else []

        return await self._threads.run(read)

    def _rows_of(self, connection: Connection, place: Place) -> Rows:
        """The rows of a collection in this snapshot."""
        revision = _revision(connection)
        known = self._row_memory.find(place, revision)
        if known is None:
            known = read_rows(connection, place.collection, revision)
            self._row_memory.keep(place, known)
        return known

    def _remember(self, place: Place, found: _Collection) -> None:
        """Read the vectors of a collection into memory, as they are now."""
        import numpy as np

        with self._handles.use(place.path, create=False) as handle:
            if handle is None:
                return
            with handle.read() as connection:
                rows = connection.execute(
                    "SELECT count(*) FROM passage WHERE collection_id = ?", (found.id,)
                ).fetchone()[0]
                if not self._memory.fits(rows, found.dims):
                    return
                revision = _revision(connection)
                read = connection.execute(f"SELECT rowid, aclset, embedding FROM vector_{found.id}")  # noqa: S608 - our own number
                numbers = np.empty((rows, 2), dtype=np.int64)
                matrix = np.empty((rows, found.dims), dtype=np.float32)
                for at, (row, aclset, vector) in enumerate(read):
                    numbers[at] = row, aclset
                    matrix[at] = np.frombuffer(vector, dtype=np.float32)
        self._memory.keep(place, Vectors.of(revision, numbers[:, 0], numbers[:, 1], matrix))

    def _apply(self, scope: IndexScope, upsert: Sequence[IndexRow], delete: Collection[DocumentId]) -> None:
        _rows.check_rows(upsert)
        path = self._path(scope.tenant)
        with self._handles.use(path, create=bool(upsert)) as handle:
            if handle is None:
                return
            with handle.write() as connection:
                found = _collection(connection, scope.collection)
                if found is not None:
                    for document in {*delete, *(row.document_id for row in upsert)}:
                        _delete_document(connection, found, document)
                if upsert:
                    found = _bind(connection, scope, found, len(upsert[0].vector))
                    _insert(connection, found, upsert)
        self._memory.forget(path)


def _within(found: _Collection, documents: Collection[DocumentId] | None, row: str) -> tuple[str, tuple[object, ...]]:
    """The condition that keeps rows of `documents`, and its values; nothing without them."""
    if documents is None:
        return "", ()
    of_documents = "SELECT id FROM passage WHERE collection_id = ? AND document_id IN (SELECT value FROM json_each(?))"
    return f" AND {row} IN ({of_documents})", (found.id, json.dumps(list(documents)))


def _hits(connection: Connection, near: Sequence[Near]) -> list[Hit]:
    """The rows of `near`, in its order."""
    rows = connection.execute(
        "SELECT id, passage_id, document_id, payload FROM passage WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([one.row for one in near]),),
    )
    told = {row[0]: row[1:] for row in rows}
    return [Hit(told[row][0], told[row][1], score, told[row][2]) for row, score in near]


def _cosine(score: float) -> float:
    """Float32 sums differ in their last digits by the order of adding: equal rows should be told as equal."""
    return max(-1.0, min(1.0, round(score, 6)))


def _revision(connection: Connection) -> int:
    """Changes with every write, whichever process does it."""
    return int(connection.execute("SELECT revision FROM state").fetchone()[0])


def _collection(connection: Connection, name: str) -> _Collection | None:
    row = connection.execute("SELECT id, embedder, dims FROM collection WHERE name = ?", (name,)).fetchone()
    return None if row is None else _Collection(*row)


def _bind(connection: Connection, scope: IndexScope, found: _Collection | None, dims: int) -> _Collection:
    """The collection, made when new or empty; one collection holds the vectors of one embedder."""
    if found is not None and found.embedder != scope.embedder:
        used = connection.execute("SELECT 1 FROM passage WHERE collection_id = ? LIMIT 1", (found.id,)).fetchone()
        if used is not None:
            raise InvalidInput(
                f"the collection {scope.collection!r} holds vectors of another embedder",
                hint="drop the collection and ingest it again with the new embedder",
                param="embedder",
            )
        _drop(connection, scope.collection)
        found = None
    if found is not None:
        return found
    made = connection.execute(
        "INSERT INTO collection (name, embedder, dims) VALUES (?, ?, ?)", (scope.collection, scope.embedder, dims)
    )
    number = int(made.lastrowid)
    # chunk_size 8: vectors are stored in chunks of that many rows, and most collections are small.
    connection.execute(
        f"CREATE VIRTUAL TABLE vector_{number} USING vec0("
        f"aclset INTEGER, embedding FLOAT[{int(dims)}] distance_metric=cosine, chunk_size=8)"
    )
    connection.execute(
        # With its own copy of the terms: a contentless table goes on counting deleted rows' words in its mean length.
        f"CREATE VIRTUAL TABLE words_{number} USING fts5(terms, tokenize={_tokenizer()})"
    )
    return _Collection(number, scope.embedder, dims)


def _insert(connection: Connection, found: _Collection, rows: Sequence[IndexRow]) -> None:
    sets = {readers: _intern(connection, readers) for readers in {row.readers for row in rows}}
    for row in rows:
        vector = _rows.unit_vector(row.vector, found.dims).tobytes()
        words = _rows.words(row.terms)
        terms = " ".join(words)
        aclset = sets[row.readers]
        taken = "SELECT 1 FROM passage WHERE collection_id = ? AND passage_id = ?"
        if connection.execute(taken, (found.id, row.passage_id)).fetchone() is not None:
            raise InvalidInput(f"the passage {row.passage_id!r} belongs to another document", param="upsert")
        made = connection.execute(
            "INSERT INTO passage (collection_id, passage_id, document_id, aclset, terms_bytes, payload, length)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (found.id, row.passage_id, row.document_id, aclset, len(terms.encode()), row.payload, len(words)),
        ).lastrowid
        connection.execute(
            f"INSERT INTO vector_{found.id} (rowid, aclset, embedding) VALUES (?, ?, ?)",  # noqa: S608 - our own number
            (made, aclset, vector),
        )
        connection.execute(f"INSERT INTO words_{found.id} (rowid, terms) VALUES (?, ?)", (made, terms))  # noqa: S608 - our own number


def _delete_document(connection: Connection, found: _Collection, document: str) -> None:
    where = (found.id, document)
    ids = connection.execute("SELECT id FROM passage WHERE collection_id = ? AND document_id = ?", where).fetchall()
    if ids:
        _write_over_words(connection, found)
    connection.executemany(f"DELETE FROM vector_{found.id} WHERE rowid = ?", ids)  # noqa: S608 - our own number
    connection.executemany(f"DELETE FROM words_{found.id} WHERE rowid = ?", ids)  # noqa: S608 - our own number
    connection.execute("DELETE FROM passage WHERE collection_id = ? AND document_id = ?", where)


def _write_over_words(connection: Connection, found: _Collection) -> None:
    """Words of deleted rows leave the file with them: FTS5 keeps them until a merge unless it is told once."""
    told = f"SELECT 1 FROM words_{found.id}_config WHERE k = 'secure-delete' AND v = 1"  # noqa: S608 - our own number
    if connection.execute(told).fetchone() is None:
        connection.execute(f"INSERT INTO words_{found.id} (words_{found.id}, rank) VALUES ('secure-delete', 1)")  # noqa: S608 - our own number


def _drop(connection: Connection, name: str) -> None:
    found = _collection(connection, name)
    assert found is not None, "only known collections are dropped"
    connection.execute(f"DROP TABLE vector_{found.id}")
    connection.execute(f"DROP TABLE words_{found.id}")
    connection.execute("DELETE FROM passage WHERE collection_id = ?", (found.id,))
    connection.execute("DELETE FROM collection WHERE id = ?", (found.id,))


def _intern(connection: Connection, readers: frozenset[str]) -> int:
    """The number of a set of readers; 0 for nobody."""
    members = _rows.reader_set(readers)
    row = connection.execute("SELECT id FROM reader_set WHERE members = ?", (members,)).fetchone()
    if row is not None:
        return int(row[0])
    number = int(connection.execute("INSERT INTO reader_set (members) VALUES (?)", (members,)).lastrowid)
    connection.executemany("INSERT INTO reader_member (reader, set_id) VALUES (?, ?)", [(r, number) for r in readers])
    return number


def _allowed(connection: Connection, readers: frozenset[str]) -> list[int]:
    """Numbers of the sets that hold one of `readers`."""
    rows: list[tuple[Any, ...]] = connection.execute(  # Any: untyped driver rows
        "SELECT DISTINCT set_id FROM reader_member WHERE reader IN (SELECT value FROM json_each(?))",
        (json.dumps(list(readers)),),
    ).fetchall()
    return [int(row[0]) for row in rows]
