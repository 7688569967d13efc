"""Erase what runs hold of documents and persons: answers and reasons go, scores and figures stay."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from interlock.core.errors import Conflict
from interlock.evals.running.journal import Row, read_rows
from interlock.evals.running.kept_outputs import KeptOutputs
from interlock.evals.types import Score

__all__ = ["forget", "mentions"]


def mentions(home: Path, documents: Collection[str], user: str | None = None) -> int:
    """Rows of all runs that still hold an answer written from one of the documents, or to this person. Blocking."""
    return sum(_concerns(row, documents, user) for folder in _folders(home) for row in read_rows(folder))


def forget(home: Path, documents: Collection[str], user: str | None = None) -> int:
    """Empty these rows; gives how many there were. Each file is replaced whole. Blocking.

    Raises: Conflict: one of these runs is going on; StorageFull is the disk's.
    """
    count = 0
    for folder in _folders(home):
        rows = folder / "rows.jsonl"
        with contextlib.suppress(FileNotFoundError), rows.open("rb+") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"the run {folder.name!r} is going on", param="run", retryable=True, hint="stop it, and erase again"
                ) from error
            found = sum(_concerns(row, documents, user) for row in read_rows(folder))
            if not found:
                continue
            draft = rows.with_suffix(".draft")
            with draft.open("wb") as file:
                for row in read_rows(folder):
                    kept = _emptied(row) if _concerns(row, documents, user) else row
                    file.write(msgspec.json.encode(kept) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(rows)
            count += found
    if count or user is not None:
        # Kept answers are found by content alone: which of them is whose cannot be told. A database keeps the bytes of
        # rows that were deleted, so its files go.
        for name in KeptOutputs.FILES:
            (home / name).unlink(missing_ok=True)
    return count


def _folders(home: Path) -> list[Path]:
    return sorted(home.glob("ev_*"))


def _concerns(row: Row, documents: Collection[str], user: str | None) -> bool:
    if row.output is None:
        return False
    return (user is not None and row.user == user) or not set(documents).isdisjoint(row.output.documents)


def _emptied(row: Row) -> Row:
    scores = {name: Score(each.value, "", each.error, each.cost_nano) for name, each in row.scores.items()}
    return replace(row, output=None, scores=scores)
