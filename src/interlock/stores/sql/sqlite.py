"""SQLite: WAL, one writer thread a process with group commit, readers on a small pool of threads.

Only `pysqlite3` is used, for every file: Python's own library may be old enough to carry the WAL-reset corruption
(3.7.0 to 3.51.2), and two libraries on one file in one process break each other's locks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from pysqlite3 import dbapi2
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool, QueuePool

from interlock.core.errors import InterlockError, Misconfigured, StorageFull, Unavailable
from interlock.stores._threads import Threads
from interlock.stores.sql import schema

__all__ = ["SqliteSql"]

T = TypeVar("T")

_GROUP = 128
"""Most write functions in one commit: bounds how long the first of them waits for the last."""


_UNUSABLE = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY")


@dataclass(eq=False, slots=True)
class _Job:
    # Any: each job has its own result type; `write` gives it back to the caller who knows it.
    fn: Callable[[Connection], Any]
    future: Future[Any] = field(default_factory=Future)


_WRITER = ("PRAGMA cache_size=-8000", "PRAGMA wal_autocheckpoint=2000", "PRAGMA secure_delete=ON")
"""For the one connection that writes: 8 MB of pages, and 8 MB of log before it is copied into the database, so that a
page that many commits touch is written once. What is removed is written over."""


class SqliteSql:
    """One SQLite file as a `Sql`.

    Args:
        url: ``sqlite:///path``; the folder is created. In-memory databases are refused: they have no WAL.
        synchronous: ``normal`` (an acknowledged write survives the process) or ``full`` (also a loss of power).
        readers: read transactions at a time.
        busy_timeout_s: how long to wait for another process's write before Unavailable.
        max_pages: upper bound of the file in pages of 4,096 bytes; past it writes raise StorageFull.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: Literal["normal", "full"] = "normal",
        readers: int = 4,
        busy_timeout_s: float = 15.0,
        max_pages: int | None = None,
    ) -> None:
        parsed = make_url(url)
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise Misconfigured(
                "the embedded database needs a plain file", hint="use sqlite:///path/to/file.db", param="stores.sql"
            )
        self.path = Path(parsed.database)
        self._busy_timeout_s = busy_timeout_s
        self._pragmas = [
            f"PRAGMA synchronous={'FULL' if synchronous == 'full' else 'NORMAL'}",
            "PRAGMA foreign_keys=ON",
            "PRAGMA temp_store=MEMORY",
        ]
        if max_pages is not None:
            self._pragmas.append(f"PRAGMA max_page_count={int(max_pages)}")
        self._readers = Threads(readers, "interlock-sqlite-read")
        self._read_engine = self._engine("BEGIN", [*self._pragmas, "PRAGMA query_only=ON"], pool_size=readers)
        self._write_engine = self._engine("BEGIN IMMEDIATE", [*self._pragmas, *_WRITER], pool_size=1)
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        # Guards the start of the writer thread and the closed flag against callers on several event loops.
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._closed = False

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Always ``sqlite``."""
        return "sqlite"

    def _engine(self, begin: str, pragmas: list[str], *, pool_size: int) -> Engine:
        url = URL.create("sqlite", database=str(self.path))
        options: dict[str, Any] = (  # Any: keyword arguments of two pool classes
            {"poolclass": QueuePool, "pool_size": pool_size, "max_overflow": 0}
            if pool_size
            else {"poolclass": NullPool}
        )
        engine = sa.create_engine(url, module=dbapi2, connect_args={"check_same_thread": False}, **options)

        # Any: the DBAPI connection and SQLAlchemy's record of it have no types.
        def set_up(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver must not begin or commit on its own
            connection.execute(f"PRAGMA busy_timeout={int(self._busy_timeout_s * 1000)}")
            self._use_wal(connection)
            for pragma in pragmas:
                connection.execute(pragma)

        event.listen(engine, "connect", set_up)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    def _use_wal(self, connection: Any) -> None:  # Any: the DBAPI connection
        # Two first connections to a new file that both switch it to the log would each wait for the other's lock.
        # SQLite refuses one of them at once instead, busy timeout or not, so that one asks again.
        until = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except dbapi2.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != dbapi2.SQLITE_BUSY or time.monotonic() >= until:
                    raise
            time.sleep(0.005)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """See `Sql.read`. The whole function sees one snapshot."""

        def run() -> T:
            self._ready()
            with _converted(self.path, reading=True), self._read_engine.connect() as connection, connection.begin():
                return fn(connection)

        return await self._readers.run(run)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """See `Sql.write`. A caller that is cancelled before its turn is skipped; later, its work still commits."""
        job = _Job(fn)
        with self._lock:
            self._start_writer()
            self._queue.put(job)
        result: T = await asyncio.wrap_future(job.future)
        return result

    async def migrate(self, revision: str = "head") -> list[str]:
        """See `Sql.migrate`."""
        return await self._readers.run(lambda: self._migrate(revision))

    async def revision(self) -> str | None:
        """See `Sql.revision`."""
        return await self.read(schema.current_revision)

    async def ping(self) -> None:
        """See `Sql.ping`."""
        await self.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one())

    async def scrub(self) -> bool:
        """See `Sql.scrub`. Empties the log: the pages it held are in the database, and what they replaced is gone."""
        return await self._readers.run(self._empty_log)

    def _empty_log(self) -> bool:
        connection = dbapi2.connect(str(self.path), isolation_level=None)
        try:
            connection.execute(f"PRAGMA busy_timeout={int(self._busy_timeout_s * 1000)}")
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.close()

    async def close(self) -> None:
        """See `Sql.close`."""
        with self._lock:
            self._closed = True
            writer, self._writer = self._writer, None
            if writer is not None:
                self._queue.put(None)
        if writer is not None:
            await asyncio.to_thread(writer.join)
        await self._readers.close()
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _ready(self) -> None:
        if self._closed:
            raise Unavailable("the database is closed", retryable=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def _migrate(self, revision: str) -> list[str]:
        self._ready()
        # Foreign keys are off while tables are rebuilt (a batch migration drops and recreates them, and ON DELETE
        # would fire) and checked as a whole before the commit. The pragma only works outside a transaction.
        pragmas = [p for p in self._pragmas if "foreign_keys" not in p]
        engine = self._engine("BEGIN IMMEDIATE", [*pragmas, "PRAGMA foreign_keys=OFF"], pool_size=0)
        with _converted(self.path), engine.connect() as connection, connection.begin():
            applied = schema.upgrade(connection, revision)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first() if applied else None
            if broken is not None:
                raise Misconfigured(f"a migration left a row of {broken[0]!r} without its parent")
            return applied

    def _start_writer(self) -> None:
        if self._closed:
            raise Unavailable("the database is closed", retryable=False)
        if self._writer is None:
            self._writer = threading.Thread(target=self._drain, name="interlock-sqlite-write", daemon=True)
            self._writer.start()

    def _drain(self) -> None:
        more = True
        while more:
            jobs: list[_Job] = []
            first = self._queue.get()
            more = first is not None
            if first is not None:
                jobs.append(first)
            while more and len(jobs) < _GROUP:
                try:
                    job = self._queue.get_nowait()
                except Empty:
                    break
                if job is None:
                    more = False
                else:
                    jobs.append(job)
            # A job whose caller has gone is dropped here; from now on its future cannot be cancelled.
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        """Run `jobs` in one transaction; alone when the group as a whole cannot be committed."""
        outcomes: list[tuple[_Job, Any, BaseException | None]] = []  # Any: results of unlike jobs
        try:
            with _converted(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self._write_engine.connect() as connection, connection.begin():
                    for job in jobs:
                        outcomes.append((job, *_run(job, connection)))
        except BaseException as error:  # noqa: BLE001 - border: every waiting caller must hear of it
            if len(jobs) == 1:
                jobs[0].future.set_exception(_own_error(outcomes) or error)
                return
            # SQLite rolls the whole transaction back when the disk is full, and a commit can fail as a whole:
            # nothing of the group is stored, so each job gets its own transaction and its own outcome.
            for job in jobs:
                self._commit([job])
            return
        for job, result, failure in outcomes:
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)


def _own_error(outcomes: list[tuple[_Job, Any, BaseException | None]]) -> BaseException | None:
    return next((failure for _, _, failure in outcomes if failure is not None), None)


# Any: the result of whatever the caller's function returns.
def _run(job: _Job, connection: Connection) -> tuple[Any, BaseException | None]:
    """Run one job in its savepoint: (result, None) or (None, its error) with its work rolled back.

    Raises: the error itself when SQLite has rolled back the whole transaction under the savepoint.
    """
    savepoint = connection.begin_nested()
    try:
        with _converted(None):
            result = job.fn(connection)
            savepoint.commit()
    except BaseException as error:
        # Border: the error belongs to the caller, not to the writer.
        if not _in_transaction(connection):
            raise
        savepoint.rollback()
        return None, error
    return result, None


def _in_transaction(connection: Connection) -> bool:
    driver = connection.connection.dbapi_connection
    return driver is not None and bool(driver.in_transaction)


@contextmanager
def _converted(path: Path | None, *, reading: bool = False) -> Iterator[None]:
    """Turn the driver's operational errors into ours; everything else passes."""
    try:
        yield
    except InterlockError:
        raise
    except (sa.exc.DatabaseError, sa.exc.TimeoutError, OSError) as error:
        name = getattr(getattr(error, "orig", None), "sqlite_errorname", "") or ""
        where = "" if path is None else f" {path.name!r}"
        if name == "SQLITE_FULL" or getattr(error, "errno", None) in {28, 122}:
            raise StorageFull(
                f"no room for the database{where}", hint="free disk space, then try again; nothing was half-written"
            ) from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or isinstance(error, sa.exc.TimeoutError):
            raise Unavailable(
                f"the database{where} is busy", code="database_busy", hint="another process holds a long write"
            ) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise Unavailable(
                f"the database{where} is damaged",
                code="corrupt_database",
                retryable=False,
                hint="stop writing to it and restore a backup",
            ) from error
        # A read function that writes is a mistake of ours, not of the disk: it keeps its own error.
        unusable = ("SQLITE_CANTOPEN", "SQLITE_IOERR") if reading else _UNUSABLE
        if name.startswith(unusable) or isinstance(error, OSError):
            raise Unavailable(
                f"the database{where} cannot be opened or written ({name or error.__class__.__name__})",
                hint="check the folder's permissions and the disk",
            ) from error
        raise
