"""Relational store. See `base.py` for what it promises; `open_sql` opens one by its address."""

from __future__ import annotations

from typing import Literal

from interlock.core.errors import Misconfigured
from interlock.stores.sql.base import BigId, Json, Sql, UtcDateTime, metadata, read_committed

__all__ = ["BigId", "Json", "Sql", "UtcDateTime", "metadata", "open_sql", "read_committed"]


def open_sql(url: str, *, synchronous: Literal["normal", "full"] = "normal", pool_size: int | None = None) -> Sql:
    """Open the database at `url`; nothing is read, created or connected to before the first call on it.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://user:password@host/name``.
        synchronous: SQLite only. ``normal`` survives the death of the process, ``full`` also the loss of power at
            the price of one fsync a group commit. PostgreSQL follows its server's own setting.
        pool_size: concurrent readers (SQLite, 4 by default) or connections (PostgreSQL, 8 by default).

    Raises: Misconfigured: the address is of neither kind; MissingExtra: psycopg is not installed.
    """
    scheme = url.split(":", 1)[0].split("+", 1)[0]
    if scheme == "sqlite":
        from interlock.stores.sql.sqlite import SqliteSql

        return SqliteSql(url, synchronous=synchronous, readers=pool_size or 4)
    if scheme in {"postgresql", "postgres"}:
        from interlock.stores.sql.postgres import PostgresSql

        return PostgresSql(url, pool_size=pool_size or 8)
    raise Misconfigured(
        f"the database address starts with {scheme!r}", hint="use sqlite:///… or postgresql://…", param="stores.sql"
    )
