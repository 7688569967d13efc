"""What history talks about: holds, entries of a snapshot, and two snapshots compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from interlock.core.ids import DocumentId, SnapshotId

__all__ = [
    "Change",
    "ChangeKind",
    "Entry",
    "Hold",
    "Pruned",
    "RebuildReport",
    "RollbackReport",
    "SnapshotDiff",
    "Target",
]

ChangeKind = Literal["text", "readers", "facts", "copy", "pipeline"]
"""`facts`: title or metadata; `copy`: it is found through another document with the same content, or is no longer;
`pipeline`: the same text, read, cut or judged otherwise."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A collection whose content stays as it is until somebody releases it."""

    snapshot: SnapshotId
    """Where it was set back to."""
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Target:
    """A document to be erased."""

    id: DocumentId
    collection: str
    passages: int
    readers: frozenset[str]
    """Who could find it until now."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One document as a snapshot knows it."""

    id: DocumentId
    source: str
    title: str
    text_digest: str
    readers: frozenset[str]
    metadata: Mapping[str, str]
    fingerprint: str
    passages: int
    found_through: DocumentId | None
    """The document in whose place it is a copy."""


@dataclass(frozen=True, slots=True)
class Change:
    """A document that two snapshots know differently."""

    before: Entry
    after: Entry
    kinds: tuple[ChangeKind, ...]


@dataclass(frozen=True, slots=True)
class SnapshotDiff:
    """What became of one snapshot on the way to another. Documents by source path."""

    collection: str
    before: SnapshotId
    after: SnapshotId
    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[Change, ...]
    unchanged: int
    erased: int
    """Documents of either that were erased since: nothing is known of them."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was too old, or would be."""

    collection: str
    snapshots: int
    versions: int
    """Of documents; texts that no snapshot that stays holds."""
    blobs: int
    """Texts, originals, kept passages and manifests."""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """An index that was made again."""

    collection: str
    documents: int
    passages: int
    missing: int
    """Documents of which nothing was kept: the next ingest reads them."""
    seconds: float


@dataclass(frozen=True, slots=True)
class RollbackReport:
    """What going back to a snapshot changed. Counts are documents."""

    collection: str
    target: SnapshotId
    snapshot: SnapshotId
    """What the collection is now. It is the target, unless rights of today are narrower or something was missing."""
    restored: int
    """Brought back, or set back to an older text."""
    removed: int
    """Retired: they were not there then."""
    unchanged: int
    missing: tuple[str, ...]
    """Source paths of what could not be brought back, since its passages are not kept any more."""
    held_back: int
    """Documents whose text of then a policy or a person keeps out of the index; they stay out."""
    erased: int
    """Documents of the snapshot that were erased since, and stay so."""
