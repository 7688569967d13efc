"""PostgreSQL: pooled connections in threads, serialisable writes that are run again when they collide."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url

from interlock.core.errors import InvalidInput, MissingExtra, StorageFull, Unavailable
from interlock.stores._threads import Threads
from interlock.stores.sql import schema

__all__ = ["PostgresSql"]

T = TypeVar("T")

_COLLISIONS = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_GONE = ("08", "57P01", "57P02", "57P03", "53300")  # connection errors, shutdowns, too many connections
_UNFIT = {"22021", "22P05"}  # character_not_in_repertoire, untranslatable_character
_MIGRATION_LOCK = 0x1E7_10C4


class PostgresSql:
    """One PostgreSQL database as a `Sql`.

    Args:
        url: ``postgresql://user:password@host:port/name``; libpq's query parameters are passed on.
        pool_size: connections, and so reads and writes at a time.
        connect_timeout_s: seconds to wait for a connection to be made, and for a free one.
        retry_for_s: how long a write that collides with others is run again before Unavailable.
    """

    def __init__(
        self, url: str, *, pool_size: int = 8, connect_timeout_s: float = 10.0, retry_for_s: float = 20.0
    ) -> None:
        self.url: URL = make_url(url).set(drivername="postgresql+psycopg")
        self._where = f"{self.url.host or self.url.query.get('host', 'localhost')}/{self.url.database}"
        self._retry_for_s = retry_for_s
        self._threads = Threads(pool_size, "interlock-postgres")
        try:
            self._engine = sa.create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=0,
                pool_pre_ping=True,
                pool_timeout=connect_timeout_s,
                hide_parameters=True,
                connect_args={"connect_timeout": max(1, int(connect_timeout_s)), "application_name": "interlock"},
            )
        except ModuleNotFoundError as error:
            raise MissingExtra("PostgreSQL needs psycopg", hint="pip install 'interlock[postgres]'") from error

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Always ``postgresql``."""
        return "postgresql"

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """See `Sql.read`. The whole function sees one snapshot."""

        def run() -> T:
            with self._transaction("REPEATABLE READ", read_only=True) as connection:
                return fn(connection)

        return await self._threads.run(run)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """See `Sql.write`. Serialisable, so that a read-modify-write in Python loses nothing.

        Raises: Unavailable with code ``contention`` when it kept colliding with other writers.
        """
        return await self._threads.run(lambda: self._write(fn))

    def _write(self, fn: Callable[[Connection], T]) -> T:
        give_up = time.monotonic() + self._retry_for_s
        pause_s = 0.002
        twin_seen = False
        while True:
            try:
                with self._transaction("SERIALIZABLE", read_only=False) as connection:
                    return fn(connection)
            except sa.exc.DBAPIError as error:
                # A serialisable "look, then insert" may end in a unique violation instead of a collision: a second
                # run sees the other's row. When the conflict is real, it says so again.
                twin = _state(error) == "23505" and not twin_seen
                twin_seen = twin_seen or twin
                if not twin and _state(error) not in _COLLISIONS:
                    raise
                if time.monotonic() > give_up:
                    raise Unavailable(
                        "this write kept colliding with others", code="contention", hint="try again"
                    ) from error
            # Jitter: those that collided must not come back together.
            time.sleep(random.uniform(0, pause_s))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, 0.25)

    async def migrate(self, revision: str = "head") -> list[str]:
        """See `Sql.migrate`."""

        def run() -> list[str]:
            with self._transaction("READ COMMITTED", read_only=False) as connection:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                return schema.upgrade(connection, revision)

        return await self._threads.run(run)

    async def revision(self) -> str | None:
        """See `Sql.revision`."""
        return await self.read(schema.current_revision)

    async def ping(self) -> None:
        """See `Sql.ping`."""
        await self.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one())

    async def scrub(self) -> bool:
        """See `Sql.scrub`. The server writes over removed rows at a vacuum, when it likes."""
        return False

    async def close(self) -> None:
        """See `Sql.close`."""
        await self._threads.close()
        self._engine.dispose()

    @contextmanager
    def _transaction(self, isolation: Any, *, read_only: bool) -> Iterator[Connection]:
        # Any: SQLAlchemy's literal of isolation levels is private.
        engine = self._engine.execution_options(isolation_level=isolation, postgresql_readonly=read_only)
        with self._converted(), engine.begin() as connection:
            yield connection

    @contextmanager
    def _converted(self) -> Iterator[None]:
        """Turn a full disk, a lost server and a character no text may hold into our errors; everything else passes."""
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise Unavailable(
                f"no free connection to the database {self._where!r}", code="database_busy", hint="raise the pool size"
            ) from error
        except sa.exc.DBAPIError as error:
            state = _state(error)
            if state == "53100":
                raise StorageFull(
                    f"the disk of the database {self._where!r} is full", hint="free disk space"
                ) from error
            if state in _UNFIT or (state is None and isinstance(error.orig, _data_error())):
                raise InvalidInput(
                    "a text holds a character that the database cannot keep (NUL)", hint="send it without"
                ) from error
            if error.connection_invalidated or (state or "08000").startswith(_GONE):
                # The driver's text may repeat the address: only our own words go out.
                raise Unavailable(
                    f"the database {self._where!r} cannot be reached",
                    hint="is the server up? stores.sql in interlock.yaml names it",
                    param="stores.sql",
                ) from error
            raise


def _data_error() -> type[Exception]:
    """What the driver raises of a value before it asks the server."""
    from psycopg import DataError

    return DataError


def _state(error: sa.exc.DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state
