# ruff: noqa: D102 - a test name is a sentence
"""What every `Sql` must do."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.errors import Conflict, InvalidInput
from interlock.stores.sql import Sql
from interlock.stores.sql.schema import newest_revision

__all__ = ["SqlSuite"]

_counters = sa.Table(
    "suite_counters", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True), sa.Column("n", sa.Integer)
)


def _put(connection: Connection, name: str, n: int) -> None:
    connection.execute(sa.insert(_counters).values(id=name, n=n))


def _value(connection: Connection, name: str) -> int | None:
    return connection.execute(sa.select(_counters.c.n).where(_counters.c.id == name)).scalar()


def _increment(connection: Connection) -> int:
    n = (_value(connection, "c") or 0) + 1
    connection.execute(sa.update(_counters).where(_counters.c.id == "c").values(n=n))
    return n


class SqlSuite:
    """Needs a fixture ``sql``: an empty database, not migrated, closed afterwards."""

    @pytest.fixture
    async def table(self, sql: Sql) -> None:
        """A table of one counter."""
        await sql.write(_counters.create)
        await sql.write(lambda connection: _put(connection, "c", 0))

    async def test_hundred_concurrent_read_modify_writes_lose_nothing(self, sql: Sql, table: None) -> None:
        results = await asyncio.gather(*[sql.write(_increment) for _ in range(100)])
        assert sorted(results) == list(range(1, 101))
        assert await sql.read(lambda connection: _value(connection, "c")) == 100

    async def test_an_exception_rolls_back_its_own_work_alone(self, sql: Sql, table: None) -> None:
        def failing(connection: Connection) -> None:
            _put(connection, "bad", 1)
            raise Conflict("no")

        writes = [sql.write(lambda c, i=i: _put(c, f"good{i}", i) if i % 2 else failing(c)) for i in range(20)]  # type: ignore[misc]  # the default argument hides the lambda's type
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert [isinstance(o, Conflict) for o in outcomes] == [i % 2 == 0 for i in range(20)]
        names = await sql.read(lambda connection: set(connection.scalars(sa.select(_counters.c.id))))
        assert names == {"c", *(f"good{i}" for i in range(1, 20, 2))}

    async def test_a_broken_constraint_reaches_its_caller_only(self, sql: Sql, table: None) -> None:
        outcomes = await asyncio.gather(
            sql.write(lambda connection: _put(connection, "c", 1)),
            sql.write(lambda connection: _put(connection, "d", 1)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], sa.exc.IntegrityError)
        assert outcomes[1] is None

    async def test_a_write_that_returned_is_seen_by_the_next_read(self, sql: Sql, table: None) -> None:
        for i in range(20):
            await sql.write(lambda connection, i=i: _put(connection, f"k{i}", i))  # type: ignore[misc]  # as above
            assert await sql.read(lambda connection, i=i: _value(connection, f"k{i}")) == i  # type: ignore[misc]  # as above

    async def test_a_character_that_no_database_holds_is_a_mistake_of_whoever_sent_it(
        self, sql: Sql, table: None
    ) -> None:
        writing = sql.write(lambda connection: _put(connection, "a\x00b", 1))
        [written] = await asyncio.gather(writing, return_exceptions=True)
        reading = sql.read(lambda connection: _value(connection, "a\x00b"))
        [read] = await asyncio.gather(reading, return_exceptions=True)
        if written is None:  # this one keeps it
            assert read == 1
        else:
            assert isinstance(written, InvalidInput)
            assert isinstance(read, InvalidInput)
            assert "a\x00b" not in f"{written}{read}"
        assert await sql.read(lambda connection: _value(connection, "c")) == 0

    async def test_a_read_cannot_write(self, sql: Sql, table: None) -> None:
        with pytest.raises(sa.exc.DBAPIError):
            await sql.read(lambda connection: _put(connection, "sneaky", 1))

    async def test_cancelling_waiting_callers_does_not_harm_the_others(self, sql: Sql, table: None) -> None:
        tasks = [asyncio.create_task(sql.write(_increment)) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [o for o in outcomes if isinstance(o, int)]
        assert len(kept) >= 20
        total = await sql.write(_increment)
        assert total > max(kept)
        assert len(set(kept)) == len(kept)

    async def test_migrate_brings_an_empty_database_to_the_newest_revision_once(self, sql: Sql) -> None:
        assert await sql.revision() is None
        applied = await sql.migrate()
        assert applied[-1] == newest_revision()
        assert await sql.revision() == newest_revision()
        assert await sql.migrate() == []

    async def test_concurrent_migrations_apply_each_revision_once(self, sql: Sql) -> None:
        applied = await asyncio.gather(*[sql.migrate() for _ in range(4)])
        assert len([a for a in applied if a]) == 1

    async def test_ping_answers(self, sql: Sql) -> None:
        await sql.ping()
