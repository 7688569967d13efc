"""Where tuning keeps what it makes: indexes of trials, vectors, and the results it can go on from.

A folder of one collection is locked while it is used. Indexes and vectors hold what documents say: they are removed
when tuning ends, when a document of the collection is erased, and, after a kill, when the workspace is opened an hour
later.
Results hold numbers alone, and stay for the next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from interlock.core.errors import Conflict
from interlock.core.ids import TenantId
from interlock.stores.index.sqlite import SqliteIndex

__all__ = ["SCRATCH", "Results", "Scratch", "forget_scratch", "scratch", "sweep"]

SCRATCH = "tuning"
"""The folder, within the data folder."""
_LOCK, _RESULTS = "lock", "results.jsonl"
_OLD_S = 3600.0
"""What a killed run left is let go on from for so long."""


class Results:
    """Scores of finished trials, as a file that grows by a line a trial.

    Args:
        path: of the file.
        basis: digest of what the scores depend on beside the trial; results of another basis are thrown away.
    """

    def __init__(self, path: Path, basis: str) -> None:
        self._path = path
        self._known: dict[str, list[list[float]]] = {}
        try:
            first, *lines = path.read_text("utf-8").splitlines()
            if json.loads(first) == {"basis": basis}:
                for line in lines:
                    row = json.loads(line)
                    self._known[row["trial"]] = row["scores"]
                return
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or the last line of a run that was killed: what was read before it stands.
            if self._known:
                self._write(basis)
                return
        self._known = {}
        self._write(basis)

    def _write(self, basis: str) -> None:
        rows: list[Mapping[str, object]] = [{"basis": basis}]
        rows += [{"trial": trial, "scores": scores} for trial, scores in self._known.items()]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def get(self, trial: str) -> list[list[float]] | None:
        """Scores by way, then by question."""
        return self._known.get(trial)

    def put(self, trial: str, scores: Sequence[Sequence[float]]) -> None:
        """Keep those of a finished trial."""
        self._known[trial] = [list(each) for each in scores]
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"trial": trial, "scores": self._known[trial]}) + "\n")


class Scratch:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def results(self, basis: str) -> Results:
        """See :class:`Results`."""
        return Results(self.folder / _RESULTS, basis)

    @asynccontextmanager
    async def index(self, name: str) -> AsyncIterator[SqliteIndex]:
        """An empty index, removed afterwards."""
        place = self.folder / f"index-{name}"
        shutil.rmtree(place, ignore_errors=True)
        index = SqliteIndex(place)
        try:
            yield index
        finally:
            await index.close()
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def scratch(home: Path, tenant: TenantId, collection: str) -> Iterator[Scratch]:
    """The folder below `home` of one collection's tuning. Raises: Conflict: another process tunes it."""
    sweep(home)
    folder = _place(home, tenant, collection)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"{collection!r} is being tuned by another process", hint="wait for it, or stop it"
            ) from error
        try:
            yield Scratch(folder)
        finally:
            _empty(folder)


def sweep(home: Path, *, older_than_s: float = _OLD_S) -> int:
    """Remove what killed runs left that nobody went on from; gives how many folders had something."""
    found = 0
    for lock in home.glob(f"*/{_LOCK}"):
        try:
            with lock.open("r+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - lock.stat().st_mtime > older_than_s:
                    found += _empty(lock.parent)
        except OSError:
            continue  # in use, or gone
    return found


def forget_scratch(home: Path, tenant: TenantId, collection: str) -> None:
    """Remove all passages and vectors of a collection's trials, also of one that runs: it fails then."""
    folder = _place(home, tenant, collection)
    if folder.is_dir():
        _empty(folder)


def _place(home: Path, tenant: TenantId, collection: str) -> Path:
    return home / hashlib.sha256(f"{tenant}\0{collection}".encode()).hexdigest()[:24]


def _empty(folder: Path) -> bool:
    """Everything but the lock and the results."""
    held = [entry for entry in folder.iterdir() if entry.name not in {_LOCK, _RESULTS}]
    for entry in held:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return bool(held)
