from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pysqlite3
import pytest
import sqlalchemy as sa
from tests.knowledge.connectors.conformance import (
    ConnectorConformance,
    IncrementalConformance,
    ReadersConformance,
    World,
    desk,
)

import interlock.testing.postgres
from interlock.core.errors import InterlockError, InvalidInput
from interlock.testing.postgres import fresh_database

__all__ = ["desk"]

postgres_server = interlock.testing.postgres.postgres_server

TABLE = "CREATE TABLE notes (name TEXT PRIMARY KEY, body TEXT, changed INTEGER, circle TEXT)"
FIELDS = {
    "kind": "sql",
    "query": "SELECT name, body, changed, circle FROM notes",
    "id": "name",
    "text": ["body"],
    "metadata": ["circle"],
    "changed": "changed",
}


@dataclass
class Table(World):
    """A SQLite file, or a PostgreSQL database."""

    file: Path | None = None
    engine: sa.Engine | None = None
    clock: int = 0

    def run(self, statement, *values):
        if self.file is not None:
            connection = pysqlite3.connect(self.file)
            connection.execute(statement, values)
            connection.commit()
            connection.close()
        else:
            with self.engine.begin() as connection:
                connection.exec_driver_sql(statement.replace("?", "%s"), values)

    async def put(self, name, text):
        self.clock += 1
        self.run("DELETE FROM notes WHERE name = ?", name)
        self.run("INSERT INTO notes VALUES (?, ?, ?, '')", name, text, self.clock)

    async def remove(self, name):
        self.run("DELETE FROM notes WHERE name = ?", name)

    async def share(self, name, circle):
        self.clock += 1
        self.run("UPDATE notes SET circle = ?, changed = ? WHERE name = ?", circle, self.clock, name)

    def path(self, name):
        return f"{name}.md"

    async def go_away(self):
        self.run("ALTER TABLE notes RENAME TO elsewhere")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def world(request, tmp_path):
    more = {}
    if request.cls is TestSqlReaders:
        more = {"readers": "circle", "readers_from": "source", "readers_map": {"staff": ["group:staff"]}}
    if request.param == "sqlite":
        (tmp_path / "world").mkdir()
        world = Table({**FIELDS, **more, "database": "world/notes.db"}, {}, file=tmp_path / "world" / "notes.db")
    else:
        dsn = fresh_database(request.getfixturevalue("postgres_server"))
        engine = sa.create_engine(sa.make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=sa.pool.NullPool)
        plain = sa.make_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)
        world = Table({**FIELDS, **more, "dsn_env": "DSN"}, {"DSN": plain}, engine=engine)
    world.run(TABLE)
    yield world
    if world.engine is not None:
        world.engine.dispose()


class TestSql(ConnectorConformance, IncrementalConformance):
    async def test_a_query_may_not_write_and_its_words_are_kept_from_messages(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        for query in ("DELETE FROM notes", "SELECT * FROM nothing_of_this_name", "SELECT 'private-value' FROM ("):
            with pytest.raises(InterlockError) as caught:
                await desk.ingest(query=query)
            assert "private-value" not in str(caught.value)
        assert (await desk.ingest()).added == 1

    async def test_a_row_of_the_same_moment_as_the_cursor_is_not_lost(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        world.clock -= 1
        await world.put("n1", "The otter swims at night.")
        assert (await desk.ingest()).added == 1

    async def test_colons_percents_and_several_columns(self, desk, world):
        await world.put("n0", "The heron: 100% grey.")
        query = "SELECT name, body, 'at 10:30, 5%' AS hour, changed FROM notes WHERE body LIKE '%heron:%'"
        await desk.ingest(query=query, text=["body", "hour"], metadata=[])
        await world.put("n1", "Another heron: white.")
        await desk.ingest(query=query, text=["body", "hour"], metadata=[])
        assert await desk.found("10:30") == {"n0.md", "n1.md"}

    @pytest.mark.parametrize(
        ("more", "param"),
        [
            ({"id": "no_such"}, "sources.query"),
            ({"id": "circle"}, "sources.id"),
            ({"text": ["name", "nothing"]}, "sources.query"),
        ],
    )
    async def test_a_query_that_does_not_fit_is_said(self, desk, world, more, param):
        await world.put("n0", "The heron.")
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest(**more)
        assert caught.value.param == param


class TestSqlReaders(ReadersConformance):
    pass


@pytest.mark.parametrize(
    "more", [{}, {"database": "x.db", "dsn_env": "DSN"}, {"database": "x.db", "readers": "circle"}]
)
def test_fields_that_do_not_go_together_are_named(tmp_path, more):
    from interlock.knowledge import parse_spec

    with pytest.raises(InvalidInput) as caught:
        parse_spec({"collection": "docs", "sources": [{**FIELDS, **more}]}, base=tmp_path, name="x")
    assert caught.value.param == "sources.0"
