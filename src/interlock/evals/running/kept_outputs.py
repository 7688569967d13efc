"""Answers kept from earlier runs: the same repeat of a case is not asked of the same target, and paid for, twice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from pysqlite3 import dbapi2 as sqlite3

from interlock.core.canonical import digest_json
from interlock.evals.types import Output

__all__ = ["KeptOutputs"]


class KeptOutputs:
    """One file of a folder of runs; several processes may use it. Failures are never kept. Blocking, for microseconds.

    What is older than a day is not given: behind the same name a provider may serve another model by then.

    A cache: a file that is damaged or of another version is begun anew.
    """

    FILES = ("outputs.db", "outputs.db-wal", "outputs.db-shm")
    _VERSION = 2
    _LONGEST_S = 86_400.0

    def __init__(self, home: Path) -> None:
        path = home / self.FILES[0]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._sql = self._open()
        self._decoder = msgspec.json.Decoder(Output)

    def _open(self) -> sqlite3.Connection:
        for _ in range(2):
            sql = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            try:
                sql.execute("pragma journal_mode=wal")
                sql.execute("pragma synchronous=normal")
                (version,) = sql.execute("pragma user_version").fetchone()
                if version not in {0, self._VERSION}:
                    raise sqlite3.DatabaseError("another version")
                sql.execute("create table if not exists outputs (key blob primary key, output blob, at real)")
                sql.execute(f"pragma user_version={self._VERSION}")
            except sqlite3.DatabaseError:
                sql.close()
                self._path.unlink(missing_ok=True)
            else:
                return sql
        raise OSError(f"{self._path.name} cannot be opened")

    @staticmethod
    def key(identity: Mapping[str, object], case_digest: str, repeat: int) -> bytes:
        """What finds an answer."""
        return bytes.fromhex(digest_json([dict(identity), case_digest, repeat]).removeprefix("sha256:"))

    def get(self, key: bytes) -> Output | None:
        """A kept answer."""
        found = self._sql.execute(
            "select output from outputs where key = ? and at > ?", (key, time.time() - self._LONGEST_S)
        ).fetchone()
        if found is None:
            return None
        try:
            return self._decoder.decode(found[0])
        except msgspec.DecodeError:
            return None

    def put(self, key: bytes, output: Output) -> None:
        """Keep an answer."""
        self._sql.execute(
            "insert or replace into outputs values (?, ?, ?)", (key, msgspec.json.encode(output), time.time())
        )

    def close(self) -> None:
        """Close the file."""
        self._sql.close()
