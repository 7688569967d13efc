"""Stores under test: every back end, with a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import interlock.testing.postgres
import interlock.testing.s3
import interlock.testing.valkey
from interlock.stores.sql import Sql, open_sql
from interlock.testing.postgres import fresh_database

postgres_server = interlock.testing.postgres.postgres_server
s3_server = interlock.testing.s3.s3_server
valkey_server = interlock.testing.valkey.valkey_server


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sqlite_sql(tmp_path: Path) -> AsyncIterator[Sql]:
    sql = open_sql(f"sqlite:///{tmp_path / 'db' / 'interlock.db'}")
    yield sql
    await sql.close()


@pytest.fixture
async def postgres_sql(postgres_server: str) -> AsyncIterator[Sql]:
    sql = open_sql(fresh_database(postgres_server))
    yield sql
    await sql.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def any_sql(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sql]:
    """A migrated database of each dialect."""
    url = f"sqlite:///{tmp_path / 'interlock.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    await sql.migrate()
    yield sql
    await sql.close()
