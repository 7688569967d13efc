"""Alembic's entry: migrates the connection it is handed, in the transaction that connection is in."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from interlock.stores.sql.base import metadata


def run() -> None:
    """Run the migrations that `interlock.stores.sql.schema` asked for."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run()
