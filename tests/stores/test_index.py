"""The hybrid index in SQLite files and in PostgreSQL with pgvector."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pysqlite3 import dbapi2

from interlock.core.errors import Misconfigured, StorageFull
from interlock.core.ids import DocumentId, PassageId, TenantId
from interlock.stores.index.base import Index, IndexRow, IndexScope
from interlock.stores.index.memory import Place, VectorMemory, Vectors
from interlock.stores.index.postgres import PostgresIndex
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import Sql
from interlock.testing.stores import IndexSuite
from interlock.testing.stores.index import PUBLIC, make_row

QUERY = [1.0, 0.0, 0.0, 0.0]
SCOPE = IndexScope(TenantId("acme"), "docs", "e4")


class TestSqlite(IndexSuite):
    @pytest.fixture
    async def index(self, tmp_path: Path) -> AsyncIterator[Index]:
        index = SqliteIndex(tmp_path / "index", max_open=3)
        yield index
        await index.close()


class _Remembering(SqliteIndex):
    """Reads every collection into memory at its second search, and answers the third from there."""

    def __init__(self, root: Path) -> None:
        self.memory = VectorMemory(1 << 20, least_rows=1)
        super().__init__(root, max_open=3, memory=self.memory)
        self._threads.start = lambda fn: fn()

    async def dense(self, scope, vector, *, readers, k, documents=None):
        for _ in range(2):
            await super().dense(scope, vector, readers=readers, k=k, documents=documents)
        return await super().dense(scope, vector, readers=readers, k=k, documents=documents)


class TestSqliteFromMemory(IndexSuite):
    @pytest.fixture
    async def index(self, tmp_path: Path) -> AsyncIterator[Index]:
        index = _Remembering(tmp_path / "index")
        yield index
        await index.close()


async def test_what_another_process_changes_is_never_answered_from_memory(tmp_path: Path) -> None:
    mine, other = _Remembering(tmp_path), SqliteIndex(tmp_path)
    rows = [make_row(f"p{n}", f"d{n}", angle=n / 10) for n in range(3)]
    await mine.apply(SCOPE, upsert=rows, delete=[])

    async def found() -> list[str]:
        return [hit.passage_id for hit in await mine.dense(SCOPE, QUERY, readers=PUBLIC, k=3)]

    assert await found() == ["p0", "p1", "p2"]
    assert mine.memory.held == 1
    await other.set_readers(SCOPE, DocumentId("d0"), frozenset({"group:x"}))
    assert await found() == ["p1", "p2"]
    await other.apply(SCOPE, upsert=[], delete=[DocumentId("d1")])
    assert await found() == ["p2"]
    await other.drop(SCOPE.tenant)
    assert await found() == []
    # Another file by the same name, with as many changes made to it.
    await other.apply(SCOPE, upsert=[make_row("q", "d9")], delete=[])
    await other.set_readers(SCOPE, DocumentId("d9"), PUBLIC)
    assert await found() == ["q"]
    await mine.close()
    await other.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_of_an_older_release_is_searched_by_what_one_may_read(tmp_path: Path, version: int) -> None:
    words = ["alpha beta", "alpha", "gamma gamma alpha", "beta", "", "delta epsilon zeta alpha"]
    secret = frozenset({"group:x"})
    rows = [make_row(f"p{n}", f"d{n}", text, secret if n % 3 == 2 else PUBLIC) for n, text in enumerate(words)]
    made = SqliteIndex(tmp_path)
    await made.apply(SCOPE, upsert=rows, delete=[])
    expected = await made.lexical(SCOPE, ["alpha", "beta"], readers=PUBLIC, k=9)
    assert len(expected) == 3
    await made.close()
    (file,) = tmp_path.iterdir()
    _make_older(file, version)

    index = SqliteIndex(tmp_path)
    assert await index.lexical(SCOPE, ["alpha", "beta"], readers=PUBLIC, k=9) == expected
    await index.set_readers(SCOPE, DocumentId("d2"), PUBLIC)
    assert len(await index.lexical(SCOPE, ["alpha", "beta"], readers=PUBLIC, k=9)) == 4
    await index.set_readers(SCOPE, DocumentId("d2"), secret)
    # An older release that has the file open still stores rows without their length.
    with closing(dbapi2.connect(str(file))) as connection, connection:
        connection.execute("UPDATE passage SET length = NULL")
        connection.execute("UPDATE state SET revision = revision + 1")
    assert await index.lexical(SCOPE, ["alpha", "beta"], readers=PUBLIC, k=9) == expected
    await index.check(SCOPE.tenant)
    await index.close()


def _make_older(file: Path, version: int) -> None:
    """As releases before this one left it: 1 without a count of changes, both without lengths."""
    with closing(dbapi2.connect(str(file))) as connection, connection:
        connection.execute("DROP INDEX passage_readable")
        connection.execute("ALTER TABLE passage DROP COLUMN length")
        if version == 1:
            connection.execute("DROP TABLE state")
        connection.execute(f"PRAGMA user_version = {version}")


async def test_what_another_process_changes_counts_in_the_next_score(tmp_path: Path) -> None:
    mine, other = SqliteIndex(tmp_path), SqliteIndex(tmp_path)
    rows = [make_row(f"p{n}", f"d{n}", "alpha" if n < 2 else "beta") for n in range(6)]
    await mine.apply(SCOPE, upsert=rows, delete=[])
    (before, _) = await mine.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=9)
    await other.set_readers(SCOPE, DocumentId("d1"), frozenset({"group:x"}))
    (after,) = await mine.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=9)
    assert after.score > before.score
    await other.apply(SCOPE, upsert=[], delete=[DocumentId("d0")])
    assert await mine.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=9) == []
    await mine.close()
    await other.close()


async def test_erased_vectors_leave_the_memory_with_the_erasure(tmp_path: Path) -> None:
    index = _Remembering(tmp_path)
    await index.apply(SCOPE, upsert=[make_row("p", "d")], delete=[])
    await index.dense(SCOPE, QUERY, readers=PUBLIC, k=1)
    assert index.memory.held == 1
    await index.apply(SCOPE, upsert=[], delete=[DocumentId("d")])
    assert index.memory.held == 0
    await index.close()


def test_the_memory_is_bounded_and_gives_up_the_longest_unused(tmp_path: Path) -> None:
    ids = np.arange(4)
    made = Vectors.of(1, ids, ids, np.eye(4, dtype=np.float32))
    memory = VectorMemory(2 * made.matrix.nbytes, least_rows=1)
    places = [Place(tmp_path, number) for number in range(3)]
    for place in places[:2]:
        memory.keep(place, made)
    assert memory.find(places[0], 1) is made
    memory.keep(places[2], made)
    assert [memory.find(place, 1) for place in places] == [made, None, made]
    assert memory.find(places[2], 2) is None
    assert memory.held == 1
    assert not memory.fits(1_000, 4)
    assert not VectorMemory(0).wants(places[0], 1)


@pytest.mark.postgres
class TestPostgres(IndexSuite):
    @pytest.fixture
    def index(self, postgres_sql: Sql) -> Index:
        return PostgresIndex(postgres_sql)


@pytest.mark.postgres
class TestPostgresGraph(IndexSuite):
    """Every search walks the graph first."""

    @pytest.fixture
    def index(self, postgres_sql: Sql) -> Index:
        return PostgresIndex(postgres_sql, exact_rows=0)


@pytest.mark.postgres
async def test_the_graph_finds_most_near_rows_of_few_readable_ones(postgres_sql: Sql) -> None:
    index = PostgresIndex(postgres_sql, exact_rows=0)
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(4000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = [
        IndexRow(PassageId(f"p{i}"), DocumentId(f"d{i}"), "w", frozenset({"public" if i % 25 == 0 else "x"}), b"", v)
        for i, v in enumerate(vectors)
    ]
    await index.apply(SCOPE, upsert=rows, delete=[])
    readable = [i for i in range(4000) if i % 25 == 0]
    query = vectors[0]
    best = {f"p{i}" for i in sorted(readable, key=lambda i: -float(vectors[i] @ query))[:20]}
    found = {hit.passage_id for hit in await index.dense(SCOPE, query, readers=PUBLIC, k=20)}
    assert len(found) == 20
    assert len(found & best) >= 18


@pytest.mark.postgres
async def test_tables_of_an_older_release_get_the_indexes_that_words_are_counted_by(postgres_sql: Sql) -> None:
    rows = [make_row(f"p{n}", f"d{n}", "alpha" if n < 2 else "beta gamma") for n in range(6)]
    await PostgresIndex(postgres_sql).apply(SCOPE, upsert=rows, delete=[])
    await postgres_sql.write(lambda connection: connection.exec_driver_sql(_OLDER_POSTGRES))
    for _ in range(2):
        index = PostgresIndex(postgres_sql)
        found = await index.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=9)
        assert [hit.passage_id for hit in found] == ["p0", "p1"]
        narrowed = await index.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=9, documents=[DocumentId("d1")])
        assert narrowed == found[1:]
        told = await postgres_sql.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT indexrelid::regclass::text, indnatts FROM pg_index"
                " WHERE indrelid IN ('interlock_index.passage'::regclass, 'interlock_index.posting'::regclass)"
            ).all()
        )
        columns = {name: count for name, count in told}  # noqa: C416 - rows are no pairs to the type checker
        assert columns["interlock_index.posting_pkey"] == 4
        assert columns["interlock_index.passage_scored"] == 5
        assert "interlock_index.passage_readable" not in columns
    await index.apply(SCOPE, upsert=[make_row("p0", "d0", "beta")], delete=[])
    assert len(await index.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=9)) == 1


_OLDER_POSTGRES = """
DROP INDEX interlock_index.passage_scored;
CREATE INDEX passage_readable ON interlock_index.passage (collection_id, aclset) INCLUDE (tenant, n_words);
ALTER TABLE interlock_index.posting DROP CONSTRAINT posting_pkey, ADD PRIMARY KEY (collection_id, term, passage);
"""


async def test_the_postgres_index_refuses_another_dialect(sqlite_sql: Sql) -> None:
    with pytest.raises(Misconfigured):
        PostgresIndex(sqlite_sql)


async def test_a_full_disk_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path, max_pages=120)
    await index.apply(SCOPE, upsert=[make_row("p1")], delete=[])
    big = [make_row(f"b{i}", "big", "word " * 1000) for i in range(2000)]
    with pytest.raises(StorageFull):
        await index.apply(SCOPE, upsert=big, delete=[DocumentId("d1")])
    assert [h.passage_id for h in await index.lexical(SCOPE, ["alpha"], readers=PUBLIC, k=5)] == ["p1"]
    await index.apply(SCOPE, upsert=[make_row("p2", "d2")], delete=[])
    assert (await index.stats(SCOPE)).passages == 2
    await index.close()


async def test_a_dropped_tenant_is_gone_from_disk_and_for_other_processes(tmp_path: Path) -> None:
    mine, other = SqliteIndex(tmp_path), SqliteIndex(tmp_path)
    await mine.apply(SCOPE, upsert=[make_row("p1")], delete=[])
    assert len(await other.dense(SCOPE, QUERY, readers=PUBLIC, k=5)) == 1
    await mine.drop(SCOPE.tenant)
    assert _files(tmp_path) == []
    assert await other.dense(SCOPE, QUERY, readers=PUBLIC, k=5) == []
    await other.apply(SCOPE, upsert=[make_row("p2")], delete=[])
    assert [h.passage_id for h in await mine.dense(SCOPE, QUERY, readers=PUBLIC, k=5)] == ["p2"]
    await mine.close()
    await other.close()


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_two_processes_write_one_tenant_and_lose_nothing(tmp_path: Path) -> None:
    both = SqliteIndex(tmp_path), SqliteIndex(tmp_path)
    await asyncio.gather(*[both[i % 2].apply(SCOPE, upsert=[make_row(f"p{i}", f"d{i}")], delete=[]) for i in range(40)])
    assert (await both[0].stats(SCOPE)).passages == 40
    assert len(await both[1].dense(SCOPE, QUERY, readers=PUBLIC, k=99)) == 40
    for index in both:
        await index.close()


async def test_few_files_stay_open_for_many_tenants(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path, max_open=4)
    scopes = [IndexScope(TenantId(f"t{i}"), "docs", "e4") for i in range(20)]
    await asyncio.gather(*[index.apply(s, upsert=[make_row("p", angle=math.pi / 7)], delete=[]) for s in scopes])
    assert len(index._handles._open) <= 4
    for scope in scopes:
        assert len(await index.dense(scope, QUERY, readers=PUBLIC, k=5)) == 1
    await index.close()
