"""The relational store on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from interlock.core.errors import Misconfigured, StorageFull, Unavailable
from interlock.stores.sql import Sql, metadata, open_sql
from interlock.stores.sql.schema import register_tables
from interlock.stores.sql.sqlite import SqliteSql
from interlock.testing.stores import SqlSuite


class TestSqlite(SqlSuite):
    @pytest.fixture
    def sql(self, sqlite_sql: Sql) -> Sql:
        return sqlite_sql


@pytest.mark.postgres
class TestPostgres(SqlSuite):
    @pytest.fixture
    def sql(self, postgres_sql: Sql) -> Sql:
        return postgres_sql


async def test_migrations_make_exactly_the_tables_the_code_declares(any_sql: Sql) -> None:
    assert "interlock.stores.jobs.sql" in register_tables()
    difference = await any_sql.read(lambda c: compare_metadata(MigrationContext.configure(c), metadata))
    assert difference == []


async def test_a_full_disk_fails_its_write_alone_and_leaves_the_rest_usable(tmp_path: Path) -> None:
    sql = SqliteSql(f"sqlite:///{tmp_path / 'small.db'}", max_pages=40)
    await sql.write(lambda c: c.exec_driver_sql("CREATE TABLE t (x BLOB)"))

    def put(size: int) -> object:
        return sql.write(lambda c: c.execute(sa.text("INSERT INTO t VALUES (zeroblob(:n))"), {"n": size}).rowcount)

    outcomes = await asyncio.gather(*[put(10), put(10_000_000), put(10), put(10)], return_exceptions=True)
    assert [type(o) for o in outcomes] == [int, StorageFull, int, int]
    assert await sql.read(lambda c: c.scalar(sa.text("SELECT count(*) FROM t"))) == 3
    assert await put(10) == 1
    await sql.close()


async def test_a_group_commits_once(tmp_path: Path) -> None:
    sql = SqliteSql(f"sqlite:///{tmp_path / 'g.db'}")
    await sql.write(lambda c: c.exec_driver_sql("CREATE TABLE t (x INTEGER)"))
    commits = 0

    def count(*_: object) -> None:
        nonlocal commits
        commits += 1

    sa.event.listen(sql._write_engine, "commit", count)
    await asyncio.gather(*[sql.write(lambda c: c.exec_driver_sql("INSERT INTO t VALUES (1)")) for _ in range(200)])
    assert commits < 100
    await sql.close()


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    sql = open_sql(f"sqlite:///{tmp_path / 'c.db'}")
    await sql.migrate()
    last = asyncio.create_task(sql.write(lambda c: c.exec_driver_sql("CREATE TABLE t (x)").rowcount))
    await asyncio.sleep(0)
    await sql.close()
    await last  # what was queued is finished
    with pytest.raises(Unavailable):
        await sql.write(lambda c: None)
    with pytest.raises(Unavailable):
        await sql.ping()
    await sql.close()


async def test_an_unreachable_server_is_unavailable_and_keeps_the_password() -> None:
    sql = open_sql("postgresql://me:hunter2@127.0.0.1:1/nothing")
    with pytest.raises(Unavailable) as caught:
        await sql.ping()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)
    await sql.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense"])
def test_other_addresses_are_refused_with_the_setting_named(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        open_sql(url)
    assert caught.value.param == "stores.sql"


async def test_two_processes_of_one_file_do_not_lose_updates(tmp_path: Path) -> None:
    first, second = (SqliteSql(f"sqlite:///{tmp_path / 's.db'}") for _ in range(2))
    await first.write(lambda c: c.exec_driver_sql("CREATE TABLE t (n INTEGER)"))
    await first.write(lambda c: c.exec_driver_sql("INSERT INTO t VALUES (0)"))

    def bump(c: sa.Connection) -> None:
        n = c.exec_driver_sql("SELECT n FROM t").scalar_one()
        c.execute(sa.text("UPDATE t SET n = :n"), {"n": n + 1})

    await asyncio.gather(*[(first, second)[i % 2].write(bump) for i in range(100)])
    assert await second.read(lambda c: c.exec_driver_sql("SELECT n FROM t").scalar_one()) == 100
    await first.close()
    await second.close()


async def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"this is no database at all" * 1000)
    sql = open_sql(f"sqlite:///{tmp_path / 'bad.db'}")
    for call in (sql.ping(), sql.write(lambda c: c.exec_driver_sql("CREATE TABLE t (x)").rowcount)):
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.code == "corrupt_database"
    await sql.close()


async def test_a_database_of_a_newer_version_is_told_as_such(any_sql: Sql) -> None:
    await any_sql.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999_future'")))
    with pytest.raises(Misconfigured, match="'9999_future'") as caught:
        await any_sql.migrate()
    assert caught.value.code == "newer_database"
    assert await any_sql.revision() == "9999_future"
