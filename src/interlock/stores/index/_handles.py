"""Open index files: a bounded number of tenants at a time, each with one writer and a few readers."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from interlock.core.errors import MissingExtra, StorageFull, Unavailable
from interlock.stores.index._sqlite_words import WORDS_OF_ROW

__all__ = ["Connection", "Handles", "damaged"]

_MAPPED_BYTES = 1 << 30
"""Of each file, for reading: comparing a question with every vector is mostly reading, and a mapped page is not copied.
Address space only; what lies behind is the system's page cache."""

Connection = Any
"""A pysqlite3 connection. Any: the library has no types."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collection (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, embedder TEXT NOT NULL, dims INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reader_set (id INTEGER PRIMARY KEY, members TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS reader_member (
  reader TEXT NOT NULL, set_id INTEGER NOT NULL, PRIMARY KEY (reader, set_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passage (
  id INTEGER PRIMARY KEY AUTOINCREMENT, collection_id INTEGER NOT NULL, passage_id TEXT NOT NULL,
  document_id TEXT NOT NULL, aclset INTEGER NOT NULL, terms_bytes INTEGER NOT NULL, payload BLOB NOT NULL,
  length INTEGER, UNIQUE (collection_id, passage_id));
CREATE INDEX IF NOT EXISTS passage_document ON passage (collection_id, document_id, id);
INSERT OR IGNORE INTO reader_set (id, members) VALUES (0, '[]');
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
INSERT OR IGNORE INTO state (id, revision) VALUES (1, abs(random() / 2));
"""
_VERSION = 3


class Handle:
    """The connections of one tenant's file."""

    def __init__(self, path: Path, *, synchronous: str, max_pages: int | None) -> None:
        self.path = path
        self._pragmas = f"PRAGMA busy_timeout=15000; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};"
        if max_pages is not None:
            self._pragmas += f" PRAGMA max_page_count={int(max_pages)};"
        self.users = 0
        # One writer at a time in this process; other processes wait at BEGIN IMMEDIATE.
        self.writing = threading.Lock()
        # Most files are only read, and opening one costs about as much as a search of a small one.
        self._writer: Connection | None = None
        first = self._connect()
        if _version(first) != _VERSION:
            _upgrade(first)
        self._idle: list[Connection] = [_mapped(first)]
        self.inode = os.stat(path).st_ino

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction, committed at the end, and another revision of the file."""
        with self.writing:
            writer = self._writing()
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield writer
                writer.execute("UPDATE state SET revision = revision + 1")
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _mapped(self._connect())
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.append(connection)

    def scrub(self) -> bool:
        """Empty the log; False while somebody reads an older state."""
        with self.writing:
            return not self._writing().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def _writing(self) -> Connection:
        if self._writer is None:
            self._writer = self._connect()
            # What is removed is written over.
            self._writer.execute("PRAGMA secure_delete=ON")
        return self._writer

    @contextmanager
    def fresh(self) -> Iterator[Connection]:
        """One snapshot by a connection that never read before.

        FTS5 checks its tables against what the connection remembers of them: one that checked before somebody else's
        write takes a sound table for a damaged one.
        """
        connection = self._connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close every connection; nobody may be using one."""
        for connection in self._idle:
            connection.close()
        if self._writer is not None:
            self._writer.close()

    def _connect(self) -> Connection:
        try:
            import sqlite_vec
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "the embedded index needs sqlite-vec", hint="pip install 'interlock[knowledge]'"
            ) from error

        connection = dbapi2.connect(str(self.path), isolation_level=None, check_same_thread=False)
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        connection.enable_load_extension(False)
        connection.executescript(self._pragmas)
        return connection


def _version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(connection: Connection) -> None:
    """Make the tables, or bring those of an older release up to this one."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited.
        if _version(connection) != _VERSION:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            columns = {row[1] for row in connection.execute("PRAGMA table_info(passage)")}
            if "length" not in columns:
                connection.execute("ALTER TABLE passage ADD COLUMN length INTEGER")
            for (number,) in connection.execute("SELECT id FROM collection").fetchall():
                connection.execute(
                    f"UPDATE passage SET length = {WORDS_OF_ROW.format(collection=number)}"  # noqa: S608 - our own number
                    " WHERE collection_id = ? AND length IS NULL",
                    (number,),
                )
            connection.execute("CREATE INDEX IF NOT EXISTS passage_readable ON passage (collection_id, aclset, length)")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _mapped(connection: Connection) -> Connection:
    connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
    return connection


class Handles:
    """The open files, the longest unused closed first.

    Args:
        most: files kept open at a time; more are open only while that many are in use at once.
        synchronous: SQLite's setting.
        max_pages: bound of each file, None for no bound.
    """

    def __init__(self, most: int, *, synchronous: str = "NORMAL", max_pages: int | None = None) -> None:
        self._most = most
        self._synchronous = synchronous
        self._max_pages = max_pages
        self._open: OrderedDict[Path, Handle] = OrderedDict()
        # Guards `_open` and the users counts; held for no SQL but the opening of a file.
        self._lock = threading.Lock()

    @contextmanager
    def use(self, path: Path, *, create: bool) -> Iterator[Handle | None]:
        """The handle of `path`, kept open meanwhile; None when there is no such file and `create` is false."""
        with converted():
            handle = self._take(path, create=create)
            try:
                yield handle
            finally:
                if handle is not None:
                    with self._lock:
                        handle.users -= 1
                        if handle.users == 0 and self._open.get(path) is not handle:
                            handle.close()  # dropped while it was in use
                        self._trim()

    def forget(self, path: Path) -> None:
        """Close `path` and remove it with what SQLite keeps beside it; who still reads it reads on from no name."""
        with self._lock:
            handle = self._open.pop(path, None)
            if handle is not None and handle.users == 0:
                handle.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for handle in self._open.values():
                handle.close()
            self._open.clear()

    def _take(self, path: Path, *, create: bool) -> Handle | None:
        with self._lock:
            handle = self._open.get(path)
            inode = None
            with suppress(FileNotFoundError):
                inode = os.stat(path).st_ino
            if handle is not None and handle.inode != inode:
                # Another process dropped the tenant: what we have open is a file without a name.
                del self._open[path]
                if handle.users == 0:
                    handle.close()
                handle = None
            if handle is None:
                if inode is None and not create:
                    return None
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = Handle(path, synchronous=self._synchronous, max_pages=self._max_pages)
                self._open[path] = handle
            handle.users += 1
            self._open.move_to_end(path)
            return handle

    def _trim(self) -> None:
        for path, handle in list(self._open.items()):
            if len(self._open) <= self._most:
                return
            if handle.users == 0:
                del self._open[path]
                handle.close()


@contextmanager
def converted() -> Iterator[None]:
    """Turn SQLite's operational errors into ours."""
    try:
        yield
    except (dbapi2.OperationalError, dbapi2.DatabaseError, OSError) as error:
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        if name == "SQLITE_FULL" or getattr(error, "errno", None) in {28, 122}:
            raise StorageFull("no room for the index", hint="free disk space; nothing was half-written") from error
        if isinstance(error, OSError) or name.startswith(
            ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANT")
        ):
            raise Unavailable(f"the index cannot be used ({name})", hint="check the disk; see stores.index") from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise damaged() from error
        raise


def damaged() -> Unavailable:
    """What is said of a file that cannot be trusted any more."""
    return Unavailable(
        "the index file is damaged",
        code="corrupt_index",
        retryable=False,
        hint="it is derived data; build it again with: interlock ingest",
    )
