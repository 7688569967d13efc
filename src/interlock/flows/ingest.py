"""Ingest one collection as a durable job: progress is saved, a second run waits, a dead worker's run is taken over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict

import msgspec

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError
from interlock.core.ids import DocumentId
from interlock.flows.cache import forget_answers, purge_cache
from interlock.flows.parts import Parts
from interlock.gateway.cache.types import Purge
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.types import DocumentInfo, IngestReport, Progress
from interlock.stores.jobs.base import Job

__all__ = [
    "KIND",
    "LEASE_S",
    "enqueue_due",
    "enqueue_ingest",
    "erase_document",
    "run_ingest",
    "sync_source",
]

KIND = "ingest"
LEASE_S = 180.0
"""Longer than one file may take to parse and embed between two progress notes."""
_SAVE_EVERY_S = 0.5


async def enqueue_ingest(parts: Parts, ctx: Context, collection: str, source: str | None = None) -> Job:
    """Ask for an ingest of a collection, or of one of its sources; while one is queued or running, that one is given
    back.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    payload = {"collection": collection} if source is None else {"collection": collection, "source": source}
    return await parts.jobs.enqueue(ctx.tenant, KIND, payload, key=collection, max_attempts=3)


async def sync_source(parts: Parts, ctx: Context, spec: SourceSpec, source: str, *, why: str) -> Job:
    """Somebody says that a source changed: a run that begins after now takes it.

    A run of the collection that is under way may have passed it already; the note makes the worker come back.

    Args:
        why: `asked`, `webhook` or `upload`, for the audit log.

    Raises: NotFound, Forbidden.
    """
    await parts.knowledge.want(ctx, spec, source)
    job = await enqueue_ingest(parts, ctx, spec.collection, source)
    details: dict[str, str | int | bool] = {"source": source, "why": why}
    await parts.governance.append(
        AuditEvent(ctx.tenant, ctx.principal.id, "source.sync", spec.collection, "ok", details, trace_id=ctx.trace_id)
    )
    return job


async def enqueue_due(parts: Parts, ctx: Context, specs: Iterable[SourceSpec]) -> list[Job]:
    """Queue a run for every collection with a source that is due, and for the first such source of it."""
    jobs = []
    for spec in specs:
        due = await parts.knowledge.due(ctx, spec)
        if due:
            # Of several the whole collection is asked for: one run instead of one after the other.
            jobs.append(await enqueue_ingest(parts, ctx, spec.collection, due[0] if len(due) == 1 else None))
    return jobs


async def run_ingest(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Run a claimed job to its end; what was committed before a stop stays, and the next run does the rest.

    Raises: Conflict: the lease was lost, or somebody cancelled the job (code ``cancelled``). Anything the ingest
    raises, after recording it on the job.
    """
    saved = time.monotonic()

    async def note(progress: Progress) -> None:
        nonlocal saved
        if on_progress is not None:
            on_progress(progress)
        if time.monotonic() - saved < _SAVE_EVERY_S:
            return
        saved = time.monotonic()
        current = await parts.jobs.heartbeat(
            job, lease_s=LEASE_S, done=progress.done, total=progress.total, message=progress.message[:200]
        )
        if current.cancel_requested:
            raise Conflict("the ingest was cancelled; what was committed stays", code="cancelled")

    try:
        with parts.observe.span(ctx, "ingest") as (span, inner):
            span.set({"interlock.collection": spec.collection, "interlock.job": job.id})
            only = job.payload.get("source")
            report = await parts.knowledge.ingest(inner, spec, note, only=None if only is None else str(only))
            # Embedded on this machine: tokens that nobody sells.
            span.set({"gen_ai.usage.input_tokens": report.embedding_tokens, "interlock.cost.nano_usd": 0})
    except Conflict as error:
        if error.code == "cancelled":
            await parts.jobs.cancelled(job)
        raise
    except InterlockError as error:
        await parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=None)
        raise
    if report.changed or report.deleted or report.updated_facts:
        # A new snapshot has new keys; what was written from the old one is of no use, and may be what was erased.
        await purge_cache(parts, ctx, Purge(collection=spec.collection))
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


async def erase_document(parts: Parts, ctx: Context, document: DocumentId) -> DocumentInfo:
    """Delete a document for good, and write down who did: the id and the collection, never the text.

    Raises: Forbidden, NotFound; the refusal leaves a line too.
    """
    event = AuditEvent(ctx.tenant, ctx.principal.id, "document.delete", document, "ok", trace_id=ctx.trace_id)
    try:
        info = await parts.knowledge.document(ctx, document)
        await parts.knowledge.delete(ctx, document)
        # What was answered from it must not be told again.
        await forget_answers(parts, ctx, Purge(document=document))
    except InterlockError as error:
        await parts.governance.append(msgspec.structs.replace(event, outcome=error.code))
        raise
    await parts.governance.append(
        msgspec.structs.replace(event, details={"collection": info.collection, "passages": info.passages})
    )
    return info


def _counts(report: IngestReport) -> dict[str, str | int | bool]:
    return {name: value for name, value in asdict(report).items() if isinstance(value, int)}


def _summary(report: IngestReport) -> dict[str, object]:
    return {
        **_counts(report),
        "failed": [asdict(failure) for failure in report.failed],
        "away": [asdict(failure) for failure in report.away],
    }
