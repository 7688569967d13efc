"""Rows of a database as documents: SQLite and PostgreSQL, read only."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast
from urllib.parse import quote

import sqlalchemy as sa
from anyio import to_thread
from pydantic import Field, model_validator

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput, Misconfigured, Unavailable
from interlock.knowledge.connectors._markdown import document, path_part
from interlock.knowledge.connectors._sites import EnvName, secret
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["SqlSource", "plugin"]

_ROWS = 200
# Numbers of SQLite's C interface, which its Python module does not name in full.
_SQLITE_OK, _SQLITE_DENY = 0, 1
_SQLITE_PRAGMA, _SQLITE_FUNCTION = 19, 31
_READS = frozenset({20, 21, 33, _SQLITE_FUNCTION})
"""READ, SELECT, RECURSIVE and FUNCTION."""
_NOT_CALLED = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
_ASKED_BY_INDEXES = frozenset({"data_version"})
"""Full-text tables ask it when they are read."""


class SqlSource(Source):
    """One document a row of a query."""

    kind: Literal["sql"] = "sql"
    database: str | None = None
    """File of a SQLite database"""
    dsn_env: EnvName | None = None
    """Environment variable with the address of a PostgreSQL database, `postgresql://user:password@host/name`"""
    query: str = Field(min_length=1, max_length=20_000)
    """One SELECT statement"""
    id: str = Field(min_length=1)
    """Column that names a row for ever"""
    title: str | None = None
    """Column with the title"""
    text: tuple[str, ...] = Field(min_length=1)
    """Columns with text; of several, each is put under its name"""
    metadata: tuple[str, ...] = ()
    """Columns that become metadata"""
    changed: str | None = None
    """Column with a time or number that grows with every change: later runs ask only for rows from there on"""
    readers: str | None = None
    """Column with names for `readers_map`, parted by commas or as a JSON list; with `readers_from: source`"""
    timeout_s: float = Field(default=300.0, gt=0, le=7200)
    """Time for the query, in seconds"""

    states_readers: ClassVar[bool] = True

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if (self.database is None) == (self.dsn_env is None):
            raise ValueError("name either database (SQLite) or dsn_env (PostgreSQL)")
        if (self.readers is None) != (self.readers_from == "rules"):
            raise ValueError("readers and readers_from: source go together")
        return self

    def place(self) -> str:
        """Database and query."""
        return f"{self.database or self.dsn_env}: {self.query}"

    def based(self, base: Path) -> Self:
        """The same with the file made absolute."""
        return self if self.database is None else self.model_copy(update={"database": absolute(self.database, base)})


class _Rows:
    def __init__(self, source: SqlSource, surroundings: Surroundings) -> None:
        self._source = source
        self._dsn = secret(surroundings.environ, source.dsn_env, "sql") if source.dsn_env else None
        self._engine: sa.Engine | None = None
        self._content: dict[str, bytes] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """All rows, or those whose `changed` is not before the cursor's.

        Rows of the cursor's own moment come again: others may have been written in it after they were read.
        """
        rows = await to_thread.run_sync(self._begin, cursor)
        newest = None if cursor is None else _decoded(cursor)
        seen: set[str] = set()
        try:
            while part := await to_thread.run_sync(self._next, rows):
                items: list[SourceItem] = []
                self._content.clear()
                for row in part:
                    item = self._item(row)
                    if item.source in seen:
                        raise InvalidInput(
                            f"two rows of the query have the same {self._source.id!r}", param="sources.id"
                        )
                    seen.add(item.source)
                    items.append(item)
                    newest = self._newer(newest, row)
                yield SourcePage(items)
        finally:
            await to_thread.run_sync(rows.close)
        yield SourcePage(cursor=_encoded(newest), complete=cursor is None)

    def _newer(self, newest: object, row: Mapping[str, Any]) -> object:
        if self._source.changed is None:
            return None
        value = row[self._source.changed]
        if value is None:
            return newest
        # Any: two values of one column compare, or the database would not order them either.
        return value if newest is None or cast(Any, value) > newest else newest

    # Any: rows have whatever columns the query gives.
    def _begin(self, cursor: str | None) -> _Reading:
        statement, values = _one_query(self._source.query), {}
        if cursor is not None and self._source.changed is not None:
            column = sa.quoted_name(self._source.changed, quote=True)
            quoted = self._opened().dialect.identifier_preparer.quote(column)
            statement = f"SELECT * FROM ({statement}) AS rows_of_source WHERE {quoted} >= :since"  # noqa: S608 - operator's own query
            values = {"since": _decoded(cursor)}
        try:
            connection = self._opened().connect()
            try:
                if connection.dialect.name == "postgresql":
                    # Also of the transactions that a query might begin.
                    connection.execute(sa.text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
                    connection.execute(sa.text("SET TRANSACTION READ ONLY"))
                    milliseconds = int(self._source.timeout_s * 1000)
                    connection.execute(sa.text(f"SET LOCAL statement_timeout = {milliseconds}"))
                else:
                    until = time.monotonic() + self._source.timeout_s
                    raw = cast(Any, connection.connection.driver_connection)
                    raw.set_progress_handler(lambda: time.monotonic() > until, 100_000)
                    # A database that is open for reading can still write others: ATTACH, VACUUM INTO.
                    raw.execute("PRAGMA query_only = ON")
                    raw.set_authorizer(_may_read)
                escaped = statement if values else statement.replace(":", "\\:")
                if values:
                    head, _, tail = statement.rpartition(":since")
                    escaped = head.replace(":", "\\:") + ":since" + tail
                result = connection.execution_options(stream_results=True).execute(sa.text(escaped), values)
                return _Reading(connection, result)
            except BaseException:
                connection.close()
                raise
        except sa.exc.SQLAlchemyError as error:
            raise _said(error) from error
        # Any: the driver's module. It does not call this an error.
        except cast(Any, self._opened().dialect).loaded_dbapi.Warning as error:
            raise InvalidInput("the query is more than one statement", param="sources.query") from error

    def _next(self, rows: _Reading) -> list[Mapping[str, Any]]:
        try:
            return [dict(row) for row in rows.result.mappings().fetchmany(_ROWS)]
        except sa.exc.SQLAlchemyError as error:
            raise _said(error) from error

    def _opened(self) -> sa.Engine:
        if self._engine is not None:
            return self._engine
        if self._dsn is not None:
            with needs_extra("PostgreSQL"):
                import psycopg  # noqa: F401 - asked for, so that its absence is told
            try:
                address = sa.make_url(self._dsn).set(drivername="postgresql+psycopg")
            except sa.exc.ArgumentError as error:
                raise Misconfigured(
                    f"{self._source.dsn_env!r} holds no address of a database", param=self._source.dsn_env
                ) from error
            options: dict[str, Any] = {"connect_args": {"connect_timeout": 10}}
        else:
            path = Path(self._source.database or "")
            if not path.is_file():
                raise InvalidInput(f"the database {str(path)!r} does not exist", param="sources.database")
            import pysqlite3

            # Read only, and it stays so whatever the query says.
            address = sa.make_url(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true")
            options = {"module": pysqlite3.dbapi2, "connect_args": {"check_same_thread": False, "timeout": 10}}
        self._engine = sa.create_engine(address, poolclass=sa.pool.NullPool, hide_parameters=True, **options)
        return self._engine

    def _item(self, row: Mapping[str, Any]) -> SourceItem:
        source = self._source
        missing = [name for name in self._columns() if name not in row]
        if missing:
            raise InvalidInput(f"the query gives no column {missing[0]!r}", param="sources.query")
        name = row[source.id]
        if name is None or str(name) == "":
            raise InvalidInput(f"a row of the query has no {source.id!r}", param="sources.id")
        path = f"{path_part(str(name))}.md"
        title = str(row[source.title] or name) if source.title else str(name)
        if len(source.text) == 1:
            body = _text(row[source.text[0]])
        else:
            body = "\n\n".join(f"## {column}\n\n{_text(row[column])}" for column in source.text if row[column])
        data = document(title, body)
        self._content[path] = data
        metadata = {column: _text(row[column]) for column in source.metadata if row[column] is not None}
        readers = source.readers_for(_names(row[source.readers])) if source.readers else None
        return SourceItem(path, digest_bytes(data), readers, metadata)

    def _columns(self) -> list[str]:
        source = self._source
        return [
            name
            for name in (source.id, source.title, source.changed, source.readers, *source.text, *source.metadata)
            if name is not None
        ]

    async def fetch(self, item: SourceItem) -> bytes:
        """The row as Markdown."""
        return self._content[item.source]

    async def aclose(self) -> None:
        """Close the database."""
        if self._engine is not None:
            await to_thread.run_sync(self._engine.dispose)


class _Reading:
    """A query under way."""

    def __init__(self, connection: sa.Connection, result: sa.CursorResult[Any]) -> None:
        self._connection = connection
        self.result = result

    def close(self) -> None:
        """End it; nothing was written."""
        self.result.close()
        self._connection.close()


def _one_query(query: str) -> str:
    """The query without what follows it. Raises: InvalidInput: it is none."""
    statement = query.strip().rstrip("; \t\r\n")
    bare = re.sub(r"\A(?:\s|\(|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", "", statement, flags=re.DOTALL)
    if re.match(r"(?:SELECT|WITH|VALUES)\b", bare, re.IGNORECASE) is None:
        raise InvalidInput(
            "the query is no SELECT, WITH or VALUES", param="sources.query", hint="a source reads, and writes nothing"
        )
    return statement


def _may_read(action: int, first: str | None, second: str | None, *_: object) -> int:
    """SQLite asks this for everything that a statement would do."""
    if action == _SQLITE_FUNCTION and (second or "").lower() in _NOT_CALLED:
        return _SQLITE_DENY
    if action == _SQLITE_PRAGMA:
        return _SQLITE_OK if (first or "").lower() in _ASKED_BY_INDEXES and second is None else _SQLITE_DENY
    return _SQLITE_OK if action in _READS else _SQLITE_DENY


def _said(error: sa.exc.SQLAlchemyError) -> Unavailable:
    # The database's own words may hold its address or values of rows.
    original = getattr(error, "orig", None)
    return Unavailable(
        f"the database refused the query or cannot be reached: {type(original or error).__name__}",
        code="source_unreachable",
        hint="try the query with the database's own client, as the same user",
    )


def _text(value: object) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _names(value: object) -> Sequence[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    text = str(value or "").strip()
    if text.startswith("["):
        try:
            return [str(one) for one in json.loads(text)]
        except (ValueError, TypeError):
            return []
    return [one.strip() for one in text.split(",") if one.strip()]


def _encoded(value: object) -> str | None:
    """A cursor that keeps the type of a column's value."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return json.dumps(["datetime", value.isoformat()])
    if isinstance(value, date):
        return json.dumps(["date", value.isoformat()])
    if isinstance(value, Decimal):
        return json.dumps(["decimal", str(value)])
    if isinstance(value, (int, float, str)):
        return json.dumps(["plain", value])
    raise InvalidInput("the column named by changed is no time, number or text", param="sources.changed")


def _decoded(cursor: str) -> object:
    kind, value = json.loads(cursor)
    readers: dict[str, Callable[[str], object]] = {
        "datetime": datetime.fromisoformat,
        "date": date.fromisoformat,
        "decimal": Decimal,
    }
    return readers[kind](value) if kind in readers else value


class _Plugin:
    model = SqlSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Rows(cast(SqlSource, source), surroundings)


plugin = _Plugin()
