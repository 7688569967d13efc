"""Files and batches as the two APIs show them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from interlock.gateway.kept import Batch, KeptFile

__all__ = ["batch_view", "file_view", "lane_view", "message_batch_view"]

# Any in this module: JSON objects on their way out.


def file_view(file: KeptFile) -> dict[str, Any]:
    """OpenAI's file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def batch_view(batch: Batch) -> dict[str, Any]:
    """OpenAI's batch object."""
    errors = {"object": "list", "data": list(batch.errors)} if batch.errors else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": errors,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.state,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created_at.timestamp()),
        "expires_at": int(batch.ends_at.timestamp()),
        **{f"{state}_at": batch.times.get(f"{state}_at") for state in _TIMES},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": dict(batch.metadata) or None,
        "interlock": lane_view(batch),
    }


def lane_view(batch: Batch) -> dict[str, Any]:
    """Which lane was asked for, and which were taken."""
    found = batch.lanes or {}
    return {"lane": batch.lane, "lanes": found.get("parts", []), "ordinary": found.get("ordinary", {})}


def message_batch_view(batch: Batch, base_url: str) -> dict[str, Any]:
    """Anthropic's message batch object."""
    ended = [
        batch.times[name] for name in ("completed_at", "failed_at", "expired_at", "cancelled_at") if name in batch.times
    ]
    left = max(0, batch.total - batch.completed - batch.failed)
    cancelled = left if batch.state == "cancelled" else 0
    expired = left if batch.state == "expired" else 0
    broken = left if batch.state == "failed" else 0
    status = "canceling" if batch.state == "cancelling" else "in_progress" if batch.is_open else "ended"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": {
            "processing": left if batch.is_open else 0,
            "succeeded": batch.completed,
            "errored": batch.failed + broken,
            "canceled": cancelled,
            "expired": expired,
        },
        "created_at": batch.created_at.isoformat(),
        "expires_at": batch.ends_at.isoformat(),
        "ended_at": _iso(max(ended)) if ended else None,
        "cancel_initiated_at": _iso(batch.times.get("cancelling_at")),
        "archived_at": None,
        "results_url": f"{base_url}v1/messages/batches/{batch.id}/results" if batch.output_file else None,
        "interlock": lane_view(batch),
    }


def _iso(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
