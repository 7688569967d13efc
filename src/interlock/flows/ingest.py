"""Ingest one collection as a durable job: progress is saved, a second run waits, a dead worker's run is taken over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

import anyio

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError
from interlock.flows.parts import Parts
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.types import IngestReport, Progress
from interlock.stores.jobs.base import Job

__all__ = ["KIND", "enqueue_ingest", "run_ingest"]

KIND = "ingest"
_SAVE_EVERY_S = 0.5


async def enqueue_ingest(parts: Parts, ctx: Context, collection: str) -> Job:
    """Ask for an ingest of a collection; while one is queued or running, that one is given back."""
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    return await parts.jobs.enqueue(ctx.tenant, KIND, {"collection": collection}, key=collection, max_attempts=3)


async def run_ingest(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Run a claimed job to its end.

    Raises: Conflict: the lease was lost. Anything the ingest raises, after recording it on the job.
    """
    latest: list[Progress] = []
    stop = anyio.Event()

    def note(progress: Progress) -> None:
        latest[:] = [progress]
        if on_progress is not None:
            on_progress(progress)

    async def keep_lease(scope: anyio.CancelScope) -> None:
        saved = 0.0
        while not stop.is_set():
            with anyio.move_on_after(_SAVE_EVERY_S):
                await stop.wait()
            if stop.is_set() or time.monotonic() - saved < _SAVE_EVERY_S:
                continue
            saved = time.monotonic()
            now = latest[-1] if latest else Progress(0, 0, "")
            current = await parts.jobs.heartbeat(job, done=now.done, total=now.total or None, message=now.message[:200])
            if current.cancel_requested:
                scope.cancel()
                return

    report: IngestReport | None = None
    try:
        with parts.observe.span(ctx, "ingest") as (span, inner), anyio.CancelScope() as scope:
            span.set({"interlock.collection": spec.collection, "interlock.job": job.id})
            async with anyio.create_task_group() as group:
                group.start_soon(keep_lease, scope)
                report = await parts.knowledge.ingest(inner, spec, note)
                stop.set()
    except* InterlockError as errors:
        first = errors.exceptions[0]
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        assert isinstance(first, InterlockError)
        if not isinstance(first, Conflict):
            await parts.jobs.fail(job, code=first.code, message=first.message, retry_in_s=None)
        raise first from None
    if report is None:
        await parts.jobs.cancelled(job)
        raise Conflict("the ingest was cancelled; what was committed stays", code="cancelled")
    await parts.jobs.succeed(job, _summary(report))
    await parts.governance.append(
        AuditEvent(
            ctx.tenant,
            ctx.principal.id,
            "knowledge.ingest",
            spec.collection,
            "ok",
            _counts(report),
            trace_id=ctx.trace_id,
        )
    )
    return report


def _counts(report: IngestReport) -> dict[str, str | int | bool]:
    return {name: value for name, value in asdict(report).items() if isinstance(value, int)}


def _summary(report: IngestReport) -> dict[str, object]:
    return {**_counts(report), "failed": [asdict(failure) for failure in report.failed]}
