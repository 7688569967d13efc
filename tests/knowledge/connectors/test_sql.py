from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pysqlite3
import pytest
import sqlalchemy as sa

import interlock.testing.postgres
from interlock.core.errors import InterlockError, InvalidInput
from interlock.testing.connectors import (
    ConnectorConformance,
    IncrementalConformance,
    ReadersConformance,
    World,
    desk,
)
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

    @pytest.mark.parametrize(
        "query",
        [
            "ATTACH '{file}' AS evil",
            "VACUUM INTO '{file}'",
            "SELECT name, body, changed, circle FROM notes; VACUUM INTO '{file}'",
            "SELECT name, body, changed, circle FROM notes; ATTACH '{file}' AS evil",
            "SELECT name, body, changed, circle, load_extension('{file}') FROM notes",
            "SELECT name, body, changed, circle, writefile('{file}', body) FROM notes",
            "PRAGMA journal_mode = DELETE",
            "COPY notes TO PROGRAM 'touch {file}'",
            "COPY notes TO '{file}'",
            "SELECT name, body, changed, circle FROM notes; COMMIT; COPY notes TO '{file}'",
            "SELECT 1; COMMIT; DELETE FROM notes",
            "SELECT 1; COMMIT; SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; DELETE FROM notes",
            "WITH gone AS (DELETE FROM notes RETURNING *) SELECT name, body, changed, circle FROM gone",
            "/* SELECT */ DELETE FROM notes",
            "SELECT name, body, changed, circle FROM notes FOR UPDATE",
            "SELECT name, body, nextval('counted') AS changed, circle FROM notes",
        ],
    )
    async def test_nothing_is_written_whatever_the_query_says(self, desk, world, tmp_path, query):
        await world.put("n0", "The heron stands by the river.")
        file = tmp_path / "written"
        with pytest.raises(InterlockError) as caught:
            await desk.ingest(query=query.format(file=file))
        assert caught.value.code in {"invalid_request", "source_unreachable"}
        assert not file.exists()
        assert (await desk.ingest()).added == 1

    @pytest.mark.parametrize(
        "query",
        [
            "  ( SELECT name, body, changed, circle FROM notes ) ;  ",
            "-- all of them\n/* and\nmore */ WITH every AS (SELECT * FROM notes) SELECT * FROM every;",
            "VALUES ('n0', 'The heron stands.', 1, '')",
        ],
    )
    async def test_queries_may_begin_as_they_like(self, desk, world, query):
        await world.put("n0", "The heron stands by the river.")
        names = {"id": "column1", "text": ["column2"], "changed": None, "metadata": []} if "VALUES" in query else {}
        if query.startswith("  (") and world.file is not None:
            pytest.skip("SQLite takes no query in brackets")
        assert (await desk.ingest(query=query, **names)).added == 1

    async def test_full_text_tables_and_json_can_be_read(self, desk, world):
        if world.file is None:
            pytest.skip("of SQLite")
        world.run("CREATE VIRTUAL TABLE found USING fts5(name, body)")
        world.run("INSERT INTO found VALUES ('n0', 'The heron stands by the river.')")
        query = (
            "SELECT name, body, 1 AS changed, value AS circle FROM found, json_each('[\"a\"]')"
            " WHERE found MATCH 'heron' ORDER BY lower(name)"
        )
        for _ in range(2):
            assert (await desk.ingest(query=query)).failed == ()
        assert await desk.found("heron") == {"n0.md"}

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
