"""Durable, leased, resumable jobs.

A worker claims a job for a lease and renews it while working; when a worker dies its lease runs out and another one
continues from the last checkpoint. A job's effect must be idempotent: it runs at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from interlock.core.ids import JobId, TenantId

__all__ = ["Job", "JobState", "Jobs"]

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Job:
    """One job as stored."""

    id: JobId
    tenant: TenantId
    kind: str
    payload: Mapping[str, object]
    state: JobState
    attempt: int
    """1 on the first run."""
    max_attempts: int
    checkpoint: Mapping[str, object]
    """What the last run saved; empty at first."""
    done: int
    total: int | None
    message: str
    """Progress for people; never user text."""
    cancel_requested: bool
    error_code: str
    error_message: str
    result: Mapping[str, object]
    worker: str
    created_at: datetime
    updated_at: datetime
    lease_until: datetime | None


class Jobs(Protocol):
    """One job queue."""

    async def enqueue(
        self,
        tenant: TenantId,
        kind: str,
        payload: Mapping[str, object],
        *,
        key: str | None = None,
        max_attempts: int = 3,
        delay_s: float = 0.0,
        worker: str | None = None,
        lease_s: float = 30.0,
    ) -> Job:
        """Add a job. With `key`, a live job of the same tenant, kind and key is given back instead of a second one.

        Args:
            worker: claims the new job in the same step, for a caller who runs it: no other worker can take it first.
                A live job that is given back stays as it is.
        """

    async def claim(
        self,
        worker: str,
        kinds: Sequence[str],
        *,
        lease_s: float = 30.0,
        tenant: TenantId | None = None,
        job: JobId | None = None,
        besides: Collection[JobId] = (),
    ) -> Job | None:
        """Take the oldest runnable job, or one whose worker's lease ran out. None when there is nothing to do.

        Args:
            tenant: only jobs of this tenant.
            job: only this job.
            besides: none of these, some thousands at most.
        """

    async def heartbeat(
        self,
        job: Job,
        *,
        lease_s: float = 30.0,
        done: int | None = None,
        total: int | None = None,
        message: str | None = None,
        checkpoint: Mapping[str, object] | None = None,
    ) -> Job:
        """Renew the lease and save progress.

        Raises: Conflict: the lease was lost to another worker: stop at once and write nothing more.
        """

    async def succeed(self, job: Job, result: Mapping[str, object]) -> None:
        """Finish. Raises: Conflict when the lease was lost."""

    async def fail(self, job: Job, *, code: str, message: str, retry_in_s: float | None) -> None:
        """Record a failure; queued again after `retry_in_s` while attempts remain, else failed."""

    async def cancel(self, tenant: TenantId, job: JobId) -> Job:
        """Cancel: at once when queued; when running, `cancel_requested` is set and the worker stops at its next
        heartbeat. Raises: NotFound.
        """

    async def cancelled(self, job: Job) -> None:
        """The worker says it has stopped."""

    async def get(self, tenant: TenantId, job: JobId) -> Job:
        """Raises: NotFound."""

    async def list(self, tenant: TenantId, *, kind: str | None = None, limit: int = 50) -> list[Job]:
        """Newest first."""
