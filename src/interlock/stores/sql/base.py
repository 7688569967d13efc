"""Relational store: the control plane, the ledger, the audit log.

A part writes plain SQLAlchemy Core in short synchronous functions and hands them over. On SQLite one writer thread a
process runs them (BEGIN IMMEDIATE, several queued functions in one group commit, each in its own savepoint); on
PostgreSQL they run on pooled connections. Either way a returned `write` is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, MetaData
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["BigId", "Json", "Sql", "UtcDateTime", "insert_rows", "metadata", "read_committed"]

T = TypeVar("T")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every part's tables register here, so that one migration history covers them."""


class Json(TypeDecorator[object]):
    """JSON column. Filter on it in Python or on a column of its own: JSON operators differ between dialects."""

    impl = sa.JSON
    cache_ok = True

    # Any: the value's own type is nobody's business here.
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``jsonb`` on PostgreSQL. Its dialect is a twelfth of all start-up work, so it is not imported before."""
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB

            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(sa.JSON())


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Autoincrementing key: SQLite only counts up INTEGER keys."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes. SQLite drops offsets, so a naive value is refused instead of misread."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store as UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored; use interlock.core.clock.now()")
        return value.astimezone(UTC)

    # Any: SQLAlchemy's own signature; drivers give datetime or None.
    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Give back an aware UTC value."""
        if value is None:
            return None
        assert isinstance(value, datetime)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Sql(Protocol):
    """One relational database."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """For the few statements that differ (`insert … on conflict`)."""

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a read transaction, off the event loop, and give back what it returns.

        Raises: Unavailable: the database cannot be reached.
        """

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a write transaction; returns only after the commit.

        An exception in `fn` rolls back its work alone.

        `fn` may run again when PostgreSQL reports a serialisation failure, so it must not touch anything but the
        connection. Raises: StorageFull, Unavailable, and whatever `fn` raises.
        """

    async def migrate(self, revision: str = "head") -> list[str]:
        """Bring the schema up to `revision`; give the revisions applied, oldest first. Safe to call from several
        processes at once.
        """

    async def revision(self) -> str | None:
        """The schema revision of this database, None when it is empty."""

    async def ping(self) -> None:
        """Raise Unavailable when the database does not answer."""

    async def scrub(self) -> bool:
        """Leave nothing in the database's files of rows that were removed, as far as this program can see to it.

        Gives False where bytes of them may stay for a while: another process reads an older state, or the files are a
        server's.
        """

    async def close(self) -> None:
        """Finish queued writes, then close."""


def read_committed(connection: Connection) -> None:
    """Let this write take row locks instead of being serialisable; does nothing on SQLite.

    Call it first in a write function that locks the rows it changes (counters, leases, queues): waiting for a lock is
    cheaper there than running again.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")


_AT_ONCE = (256, 64, 16, 4, 1)


def insert_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]], *, also: str = ""
) -> None:
    """Add many rows on SQLite, past SQLAlchemy's compiler and many in one statement.

    A statement a row would let go of the interpreter and wait for it again with each: more than storing it takes.

    Args:
        rows: values as the driver takes them, in the order of `columns`.
        also: what follows the values, such as ``ON CONFLICT …``.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    one = f"({', '.join('?' * len(columns))})"
    at = 0
    for size in _AT_ONCE:
        statement = f'INSERT INTO "{table}" ({names}) VALUES {", ".join([one] * size)} {also}'  # noqa: S608 - our names
        while len(rows) - at >= size:
            values = tuple(value for row in rows[at : at + size] for value in row)
            connection.exec_driver_sql(statement, values)
            at += size
