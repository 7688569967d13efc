"""Snapshots, differences and certificates as JSON, the same for the API, the command line and the console."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from interlock.governance.certificates import Certificate
from interlock.knowledge.history.types import Change, Entry, Hold, Pruned, RebuildReport, RollbackReport, SnapshotDiff
from interlock.knowledge.types import Snapshot

__all__ = ["certificate_view", "diff_view", "hold_view", "report_view", "snapshot_view"]

# Any in this module: JSON on its way out.


def snapshot_view(snapshot: Snapshot) -> dict[str, Any]:
    """One recorded snapshot."""
    return {
        "id": snapshot.id,
        "collection": snapshot.collection,
        "documents": snapshot.documents,
        "passages": snapshot.passages,
        "created_at": snapshot.created_at.isoformat(),
    }


def hold_view(hold: Hold | None) -> dict[str, Any] | None:
    """Who keeps a collection at an older snapshot."""
    return None if hold is None else {"snapshot": hold.snapshot, "by": hold.by, "at": hold.at.isoformat()}


def diff_view(diff: SnapshotDiff) -> dict[str, Any]:
    """Two snapshots compared."""
    return {
        "collection": diff.collection,
        "before": diff.before,
        "after": diff.after,
        "added": [_entry(entry) for entry in diff.added],
        "removed": [_entry(entry) for entry in diff.removed],
        "changed": [_change(change) for change in diff.changed],
        "unchanged": diff.unchanged,
        "erased": diff.erased,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "readers": sorted(entry.readers), "metadata": dict(entry.metadata)}


def _change(change: Change) -> dict[str, Any]:
    return {"kinds": list(change.kinds), "before": _entry(change.before), "after": _entry(change.after)}


def report_view(report: RollbackReport | RebuildReport | Pruned) -> dict[str, Any]:
    """What going back, making an index again, or removing what is old did."""
    return asdict(report)


def certificate_view(certificate: Certificate) -> dict[str, Any]:
    """A certificate with what is needed to check it elsewhere."""
    return {
        "id": certificate.id,
        "kind": certificate.kind,
        "at": certificate.at.isoformat(),
        "content": dict(certificate.content),
        "signature": certificate.signature,
        "public_key": certificate.public_key,
        "is_valid": certificate.is_valid,
    }
