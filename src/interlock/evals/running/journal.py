"""What a run has done, on disk: one line an execution, appended as it ends, so that a run that was killed goes on.

A folder a run: ``run.json`` (what is run, with its digests), ``rows.jsonl``, and once it is over
``values.json`` (what later runs are compared with) and ``report.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from interlock.core.errors import Conflict, InvalidInput, NotFound, StorageFull
from interlock.evals.types import Output, Score

__all__ = ["Journal", "Plan", "Row", "find_run", "read_rows", "runs_in"]

_FLUSH_ROWS = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is."""

    id: str
    suite: str
    suite_digest: str
    cases_digest: str
    target: str
    target_identity: Mapping[str, Any]  # Any: JSON values
    release: str
    """Digest of the release that answers; empty where none does."""
    metrics: Mapping[str, str]
    """Name to the digest of all that decides its values."""
    cases: int
    repeats: int
    began_at: datetime
    note: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """Two runs of one key are the same work: the second continues the first."""
        return (
            self.suite_digest,
            self.target,
            self.release,
            msgspec.json.encode(self.target_identity, order="deterministic"),
            tuple(sorted(self.metrics.items())),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One execution."""

    case: str
    repeat: int
    scores: Mapping[str, Score]
    output: Output | None
    """None where the case is sealed."""
    kept: bool = False
    """The answer was kept from an earlier run."""
    failed: str = ""
    """Code of the target's failure."""
    user: str = ""
    """Who asked, of the workspace's directory."""
    cost_nano: int | None = None
    """What the answer cost; None when it is not known."""


class Journal:
    """The folder of one run, held by one process. Blocking; rows are small."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: Any = None  # Any: an open binary file
        self._waiting = 0

    def __enter__(self) -> Journal:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._rows = (self.folder / "rows.jsonl").open("ab")
        try:
            fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._rows.close()
            raise Conflict(
                f"the run {self.folder.name!r} is going on in another process", param="run", hint="wait, or --fresh"
            ) from error
        self._cut_torn_line()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self.sync()
        self._rows.close()

    def _cut_torn_line(self) -> None:
        """A process that died while it wrote left half a line: it is cut off, its execution runs again."""
        path = self.folder / "rows.jsonl"
        with path.open("rb+") as rows:
            size = rows.seek(0, os.SEEK_END)
            at = size
            while at > 0:
                step = min(at, 1 << 16)
                rows.seek(at - step)
                newline = rows.read(step).rfind(b"\n")
                if newline >= 0:
                    at = at - step + newline + 1
                    break
                at -= step
            if at < size:
                rows.truncate(at)
        self._rows.seek(0, os.SEEK_END)

    def plan(self) -> Plan | None:
        """What the folder's run is; None in a new folder. Raises: InvalidInput: the file is damaged."""
        return _read_plan(self.folder)

    def begin(self, plan: Plan) -> None:
        """Write what is run."""
        self._write("run.json", msgspec.json.encode(plan))

    def rows(self) -> Iterator[Row]:
        """What is done. Raises: InvalidInput naming the line."""
        yield from read_rows(self.folder)

    def add(self, row: Row) -> None:
        """Append one execution. Raises: StorageFull."""
        try:
            self._rows.write(msgspec.json.encode(row) + b"\n")
            self._waiting += 1
            if self._waiting >= _FLUSH_ROWS:
                self.sync()
        except OSError as error:
            raise StorageFull(
                f"the run's journal cannot be written: {error.strerror}",
                hint="make room and run the same command again",
            ) from error

    def sync(self) -> None:
        """What was appended is on disk."""
        self._rows.flush()
        os.fsync(self._rows.fileno())
        self._waiting = 0

    def finish(self, values: bytes, report: bytes) -> None:
        """Write all values and the report: the run is over."""
        self.sync()
        self._write("values.json", values)
        self._write("report.json", report)

    def _write(self, name: str, data: bytes) -> None:
        place = self.folder / name
        draft = place.with_suffix(".draft")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(place)
        except OSError as error:
            raise StorageFull(f"{name!r} of the run cannot be written: {error.strerror}", hint="make room") from error


def _read_plan(folder: Path) -> Plan | None:
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=Plan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(
            f"the run {folder.name!r} cannot be read", param="run", hint="run the suite again with --fresh"
        ) from error


def read_rows(folder: Path) -> Iterator[Row]:
    """What a run has done, in the order it was done. Raises: InvalidInput naming the line."""
    decoder = msgspec.json.Decoder(Row)
    try:
        rows = (folder / "rows.jsonl").open("rb")
    except FileNotFoundError:
        return
    with rows:
        for number, line in enumerate(rows, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise InvalidInput(
                    f"line {number} of the run {folder.name!r} is damaged", param="run", hint="run it with --fresh"
                ) from error


def runs_in(home: Path) -> list[tuple[Path, Plan]]:
    """Runs kept in a folder, newest first; what cannot be read is left out."""
    found: list[tuple[Path, Plan]] = []
    for folder in home.glob("ev_*"):
        with contextlib.suppress(InvalidInput):
            plan = _read_plan(folder)
            if plan is not None:
                found.append((folder, plan))
    return sorted(found, key=lambda each: each[1].began_at, reverse=True)


def find_run(home: Path, name: str) -> tuple[Path, Plan]:
    """A run by its id, a unique beginning of it, or ``last``. Raises: NotFound."""
    runs = runs_in(home)
    if name == "last" and runs:
        return runs[0]
    wanted = name if name.startswith("ev_") else f"ev_{name}"
    matches = [each for each in runs if each[1].id == wanted] or [
        each for each in runs if each[1].id.startswith(wanted)
    ]
    if len(matches) != 1 or len(wanted) < 6:
        raise NotFound(f"no single run {name[:64]!r}", param="run", hint="interlock eval list")
    return matches[0]
