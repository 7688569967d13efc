"""Segment files: which exist, which count, and how merged ones replace others without a moment of loss or doubling.

``<root>/<tenant>/<YYYY-MM-DD>/<first ns>-<last ns>-<id>.jsonl``, written under another name and renamed: a server
writes one a second, and lines cost it a tenth of what columns would. A merged
segment ``…-m<id>.parquet`` has a list beside it, ``….replaces``, naming the segments it stands for. The list is
there before the merged segment is, so the rename of the segment is the one moment at which readers change over:
before it they read the parts, after it they skip them. Parts are deleted only a while later, for readers that listed
the folder before the rename, and the list later still.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

__all__ = [
    "GRACE_S",
    "MERGED",
    "WRITTEN",
    "Segment",
    "commit",
    "commit_merged",
    "day_of",
    "exclusive",
    "live",
    "retire",
    "small",
]

GRACE_S = 120.0
"""Longer than any scan of the segments takes."""
MERGED, WRITTEN = ".parquet", ".jsonl"
_SUFFIXES = (MERGED, WRITTEN)
_DRAFT_STALE_S = 3600.0
_SMALL_BYTES = 16 * 1024 * 1024
_MERGE_AT, _MERGE_MOST = 8, 256


@dataclass(frozen=True, slots=True)
class Segment:
    """One readable file and the span starts it covers."""

    path: Path
    first_ns: int
    last_ns: int

    @property
    def merged(self) -> bool:
        """True when it stands for others."""
        return self.path.stem.rsplit("-", 1)[1].startswith("m")


def day_of(start_ns: int) -> date:
    """UTC day of a moment."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=start_ns // 1_000_000_000)).date()


def days(folder: Path) -> list[date]:
    """Days that have a folder, newest first."""
    found = []
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            with suppress(ValueError):
                found.append(date.fromisoformat(name))
    return sorted(found, reverse=True)


def live(folder: Path) -> list[Segment]:
    """The segments of one day's folder that count, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    segments = [s for s in (_parsed(folder, name) for name in names) if s is not None]
    replaced: set[str] = set()
    for segment in segments:
        if segment.merged:
            replaced.update(_replaces(segment.path))
    return sorted((s for s in segments if s.path.name not in replaced), key=lambda s: (s.first_ns, s.path.name))


def commit(draft: Path, folder: Path, first_ns: int, last_ns: int) -> Path:
    """Make a written draft readable under its final name."""
    path = folder / f"{first_ns}-{last_ns}-{uuid4().hex}{draft.suffix}"
    _publish(draft, path)
    return path


def commit_merged(draft: Path, folder: Path, parts: Sequence[Segment]) -> Path:
    """Make a merged draft readable and its parts unread, in one step."""
    first, last = min(p.first_ns for p in parts), max(p.last_ns for p in parts)
    path = folder / f"{first}-{last}-m{uuid4().hex}{MERGED}"
    listing = draft.with_suffix(".draft-list")
    listing.write_text(json.dumps([part.path.name for part in parts]))
    _publish(listing, _list_of(path))
    _publish(draft, path)
    return path


def small(folder: Path) -> list[Segment]:
    """The segments of one day's folder that may be merged, oldest first; none when they are too few to be worth it."""
    found = [s for s in live(folder) if not awaits_retirement(s) and s.path.stat().st_size < _SMALL_BYTES]
    return found[:_MERGE_MOST] if len(found) >= _MERGE_AT else []


def retire(folder: Path) -> int:
    """Delete parts that a merged segment has stood for long enough, then lists that name nothing; files that went."""
    gone = 0
    for path in list(folder.iterdir()):
        age_s = _age_s(path)
        if path.suffix == ".replaces":
            merged = path.with_suffix(MERGED)
            parts = [folder / name for name in _replaces(merged)]
            if not merged.exists():
                # The merge died before its one moment: its parts still count.
                gone += _remove(path) if age_s > _DRAFT_STALE_S else 0
            elif age_s > GRACE_S:
                there = [part for part in parts if part.exists()]
                gone += sum(_remove(part) for part in there)
                if not there and age_s > 2 * GRACE_S:
                    _remove(path)
        elif path.name.startswith(".draft") and age_s > _DRAFT_STALE_S:
            _remove(path)
    return gone


def awaits_retirement(segment: Segment) -> bool:
    """True while the parts of a merged segment may still lie beside it: it must not be merged again yet."""
    return segment.merged and _list_of(segment.path).exists()


def new_draft(folder: Path, suffix: str) -> Path:
    """A name in `folder` that no reader looks at."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".draft-{uuid4().hex}{suffix}"


@contextmanager
def exclusive(root: Path) -> Iterator[bool]:
    """Hold the right to compact below `root`; gives False when another process has it. Ends with the process."""
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    with (root / ".compact.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _parsed(folder: Path, name: str) -> Segment | None:
    if name.startswith(".") or not name.endswith(_SUFFIXES):
        return None
    try:
        first, last, _ = name.rpartition(".")[0].split("-")
        return Segment(folder / name, int(first), int(last))
    except ValueError:
        return None


def _list_of(merged: Path) -> Path:
    return merged.with_suffix(".replaces")


def _replaces(merged: Path) -> list[str]:
    # Read by name and not from the listing: the list is there whenever one of its parts may be.
    try:
        names: list[str] = json.loads(_list_of(merged).read_text())
    except FileNotFoundError:
        return []
    return names


def _publish(draft: Path, path: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> int:
    path.unlink(missing_ok=True)
    return 1
