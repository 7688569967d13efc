"""Work on one collection as a durable job: an ingest, a rollback, or its index made again.

Progress is saved, a second run waits, a dead worker's run is taken over.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import TypeVar, get_args

import msgspec

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError
from interlock.core.ids import DocumentId
from interlock.core.trace import Span
from interlock.flows.cache import forget_answers, purge_cache
from interlock.flows.lineage import ingest_event
from interlock.flows.pace import Pace, told
from interlock.flows.parts import Parts
from interlock.flows.passage_context import PassageContexts
from interlock.flows.transcription import GatewayTranscriber
from interlock.gateway.cache.types import Purge
from interlock.knowledge.cleaning.types import ReviewItem, Verdict
from interlock.knowledge.external.service import nothing_to_ingest
from interlock.knowledge.history.types import Pruned, RebuildReport, RollbackReport
from interlock.knowledge.ports import ReportProgress
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.types import DocumentInfo, IngestReport, Progress
from interlock.stores.compute.base import ExecutorKind
from interlock.stores.compute.settings import ComputeChoice
from interlock.stores.jobs.base import Job

__all__ = [
    "KIND",
    "LEASE_S",
    "enqueue_alone",
    "enqueue_as_asked",
    "enqueue_due",
    "enqueue_ingest",
    "enqueue_rebuild",
    "enqueue_rollback",
    "erase_document",
    "resume",
    "review_document",
    "run_as_job",
    "run_ingest",
    "run_job",
    "run_rebuild",
    "run_rollback",
    "succeeded",
    "sync_source",
]

KIND = "ingest"
LEASE_S = 180.0
"""Longer than one file may take to parse and embed between two progress notes."""
_SAVE_EVERY_S = 0.5
T = TypeVar("T")


async def enqueue_ingest(
    parts: Parts,
    ctx: Context,
    collection: str,
    source: str | None = None,
    *,
    compute: ComputeChoice | None = None,
    allow_removals: bool = False,
    worker: str | None = None,
) -> Job:
    """Ask for an ingest of a collection, or of one of its sources; while one is queued or running, that one is given
    back.

    Args:
        worker: who runs it: as of `Jobs.enqueue`.
        compute: where it reads and embeds, otherwise than the settings; for operators, whose machines it uses.
        allow_removals: let it take all or most documents out of a source.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    if compute is not None:
        ctx.require(Role.OPERATOR)
    if parts.knowledge.is_external(ctx, collection):
        raise nothing_to_ingest(collection)
    given = {"source": source, "allow_removals": allow_removals or None, **(compute._asdict() if compute else {})}
    payload = {"collection": collection, **{name: value for name, value in given.items() if value is not None}}
    return await parts.jobs.enqueue(
        ctx.tenant, KIND, payload, key=collection, max_attempts=3, worker=worker, lease_s=LEASE_S
    )


async def enqueue_as_asked(
    parts: Parts,
    ctx: Context,
    spec: SourceSpec,
    source: str | None = None,
    *,
    compute: ComputeChoice | None = None,
    allow_removals: bool = False,
) -> Job:
    """As `enqueue_ingest`, for somebody who does not run it: nothing of what was asked for is lost when another run of
    the collection is queued or under way.

    Raises: Conflict: that run was asked for otherwise, and what was asked for now cannot wait by itself.
    """
    job = await enqueue_ingest(parts, ctx, spec.collection, source, compute=compute, allow_removals=allow_removals)
    wanted = {"allow_removals": allow_removals or None, **(compute._asdict() if compute else {})}
    if any(value is not None and job.payload.get(name) != value for name, value in wanted.items()):
        raise Conflict(
            f"the collection {spec.collection!r} is being ingested",
            hint=f"try again when {job.id} has ended, or cancel it",
        )
    if source is None and job.payload.get("source") is not None:
        # That run reads one source; the others are read by the next one.
        for each in spec.sources:
            await parts.knowledge.want(ctx, spec, each.name)
    return job


async def sync_source(
    parts: Parts, ctx: Context, spec: SourceSpec, source: str, *, why: str, allow_removals: bool = False
) -> Job:
    """Somebody says that a source changed: a run that begins after now takes it.

    A run of the collection that is under way may have passed it already; the note makes the worker come back.

    Args:
        why: `asked`, `webhook` or `upload`, for the audit log.
        allow_removals: as of `enqueue_ingest`.

    Raises: NotFound, Forbidden; Conflict: `allow_removals`, and a run without it is queued or under way.
    """
    await parts.knowledge.want(ctx, spec, source)
    job = await enqueue_as_asked(parts, ctx, spec, source, allow_removals=allow_removals)
    details: dict[str, str | int | bool] = {"source": source, "why": why}
    if allow_removals:
        details["allow_removals"] = True
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


async def enqueue_rollback(
    parts: Parts, ctx: Context, collection: str, snapshot: str, *, worker: str | None = None
) -> Job:
    """Ask for a collection to be set back to one of its snapshots.

    Raises: NotFound, InvalidInput: no such snapshot; Conflict: a run of the collection is queued or under way.
    """
    found = await parts.knowledge.history.find(ctx, collection, snapshot)
    return await enqueue_alone(parts, ctx, collection, {"collection": collection, "rollback": found.id}, worker=worker)


async def enqueue_rebuild(parts: Parts, ctx: Context, collection: str, *, worker: str | None = None) -> Job:
    """Ask for a collection's index to be made again from what was kept.

    Raises: Conflict: a run of the collection is queued or under way.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    return await enqueue_alone(parts, ctx, collection, {"collection": collection, "rebuild": True}, worker=worker)


async def enqueue_prune(
    parts: Parts, ctx: Context, collection: str, keep_days: float, *, worker: str | None = None
) -> Job:
    """Ask for a collection's old snapshots and versions to be removed.

    Raises: Conflict: a run of the collection is queued or under way.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    return await enqueue_alone(parts, ctx, collection, {"collection": collection, "prune": keep_days}, worker=worker)


async def enqueue_alone(
    parts: Parts, ctx: Context, collection: str, payload: dict[str, object], *, worker: str | None = None
) -> Job:
    """Queue work on a collection that must not wait behind other work of it.

    Args:
        worker: who runs it: as of `Jobs.enqueue`. None: whoever takes it.

    Raises: Conflict: there is other work of it.
    """
    # The key of an ingest: both change the same rows.
    job = await parts.jobs.enqueue(
        ctx.tenant, KIND, payload, key=collection, max_attempts=3, worker=worker, lease_s=LEASE_S
    )
    if dict(job.payload) != payload:
        raise Conflict(
            f"the collection {collection!r} is being ingested",
            hint=f"try again when {job.id} has ended, or cancel it",
        )
    return job


async def resume(parts: Parts, ctx: Context, spec: SourceSpec) -> None:
    """Let runs mirror the sources again after a rollback. Raises: Conflict: it is not held; Forbidden."""
    await parts.knowledge.history.resume(ctx, spec)
    await parts.governance.append(
        AuditEvent(ctx.tenant, ctx.principal.id, "knowledge.resume", spec.collection, "ok", trace_id=ctx.trace_id)
    )


async def run_ingest(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Run a claimed job of an ingest to its end; what was committed before a stop stays, and the next run does the
    rest.

    Raises: Conflict: the lease was lost, or somebody cancelled the job (code ``cancelled``). Anything the ingest
    raises, after recording it on the job.
    """
    only = job.payload.get("source")

    async def work(inner: Context, note: ReportProgress, span: Span) -> IngestReport:
        report = await parts.knowledge.ingest(
            inner,
            spec,
            note,
            only=None if only is None else str(only),
            contexts=PassageContexts(parts) if spec.cleaning.context else None,
            transcriber=GatewayTranscriber(parts) if spec.transcription else None,
            compute=_choice(job),
            allow_removals=job.payload.get("allow_removals") is True,
        )
        # Embedded on this machine: tokens that nobody sells.
        span.set({"gen_ai.usage.input_tokens": report.embedding_tokens, "interlock.cost.nano_usd": 0})
        return report

    await _send(parts, ingest_event(ctx, job, spec, "START"))
    try:
        report = await run_as_job(parts, ctx, job, work, name="ingest", on_progress=on_progress)
    except InterlockError as error:
        await _send(parts, ingest_event(ctx, job, spec, "ABORT" if error.code == "cancelled" else "FAIL"))
        raise
    await _send(parts, ingest_event(ctx, job, spec, "COMPLETE", snapshot=report.snapshot))
    if report.changed or report.deleted or report.updated_facts:
        # A new snapshot has new keys; what was written from the old one is of no use, and may be what was erased.
        await purge_cache(parts, ctx, Purge(collection=spec.collection))
    await succeeded(parts, ctx, job, action="knowledge.ingest", result=_summary(report), counts=_counts(report))
    return report


def _choice(job: Job) -> ComputeChoice:
    executor, workers = job.payload.get("executor"), job.payload.get("workers")
    known = next((kind for kind in get_args(ExecutorKind) if kind == executor), None)
    return ComputeChoice(known, workers if isinstance(workers, int) else None)


async def _send(parts: Parts, event: Mapping[str, object]) -> None:
    if parts.observe.lineage is not None:
        await parts.observe.lineage.send([event])


async def run_rollback(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RollbackReport:
    """Run a claimed job of a rollback. Raises: as `run_ingest`."""
    snapshot = str(job.payload["rollback"])

    async def work(inner: Context, note: ReportProgress, span: Span) -> RollbackReport:
        return await parts.knowledge.history.rollback(inner, spec, snapshot, note)

    report = await run_as_job(parts, ctx, job, work, name="rollback", on_progress=on_progress)
    await purge_cache(parts, ctx, Purge(collection=spec.collection))
    counts: dict[str, str | int | bool] = {
        "snapshot": report.target,
        "restored": report.restored,
        "removed": report.removed,
        "missing": len(report.missing),
    }
    await succeeded(parts, ctx, job, action="knowledge.rollback", result=asdict(report), counts=counts)
    return report


async def run_rebuild(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RebuildReport:
    """Run a claimed job of a rebuild. Raises: as `run_ingest`."""

    async def work(inner: Context, note: ReportProgress, span: Span) -> RebuildReport:
        return await parts.knowledge.rebuild(inner, spec, note)

    report = await run_as_job(parts, ctx, job, work, name="rebuild", on_progress=on_progress)
    counts: dict[str, str | int | bool] = {"passages": report.passages, "missing": report.missing}
    await succeeded(parts, ctx, job, action="knowledge.rebuild", result=asdict(report), counts=counts)
    return report


async def run_prune(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Pruned:
    """Run a claimed job that removes what is old. Raises: as `run_ingest`."""
    keep_days = job.payload["prune"]
    assert isinstance(keep_days, int | float)

    async def work(inner: Context, note: ReportProgress, span: Span) -> Pruned:
        return await parts.knowledge.history.prune(inner, spec.collection, keep_days=keep_days)

    done = await run_as_job(parts, ctx, job, work, name="prune", on_progress=on_progress)
    counts: dict[str, str | int | bool] = {"snapshots": done.snapshots, "versions": done.versions}
    await succeeded(parts, ctx, job, action="knowledge.prune", result=asdict(done), counts=counts)
    return done


async def run_job(parts: Parts, ctx: Context, job: Job, spec: SourceSpec) -> None:
    """Run a claimed job of a collection, whichever it is. Raises: as `run_ingest`."""
    if "rollback" in job.payload:
        await run_rollback(parts, ctx, job, spec)
    elif "rebuild" in job.payload:
        await run_rebuild(parts, ctx, job, spec)
    elif "prune" in job.payload:
        await run_prune(parts, ctx, job, spec)
    elif "embedder" in job.payload:
        # Here, since that flow is made of this one's steps.
        from interlock.flows.embedder_change import run_change

        await run_change(parts, ctx, job, spec)
    else:
        await run_ingest(parts, ctx, job, spec)


async def run_as_job(
    parts: Parts,
    ctx: Context,
    job: Job,
    work: Callable[[Context, ReportProgress, Span], Awaitable[T]],
    *,
    name: str,
    on_progress: Callable[[Progress], None] | None,
) -> T:
    """Do `work` under a claimed job: progress is saved, the lease renewed, a failure recorded."""
    saved = time.monotonic()
    pace = Pace()

    async def note(progress: Progress) -> None:
        nonlocal saved
        left = told(pace.left_s(progress.done, progress.total))
        if on_progress is not None:
            on_progress(progress)
        if time.monotonic() - saved < _SAVE_EVERY_S:
            return
        saved = time.monotonic()
        message = " · ".join(part for part in (progress.message[:160], left) if part)
        current = await parts.jobs.heartbeat(
            job, lease_s=LEASE_S, done=progress.done, total=progress.total, message=message
        )
        if current.cancel_requested:
            raise Conflict(f"the {name} was cancelled; what was committed stays", code="cancelled")

    try:
        with parts.observe.span(ctx, name) as (span, inner):
            span.set({"interlock.collection": str(job.payload["collection"]), "interlock.job": job.id})
            return await work(inner, note, span)
    except Conflict as error:
        if error.code == "cancelled":
            await parts.jobs.cancelled(job)
        raise
    except InterlockError as error:
        await parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=None)
        raise


async def succeeded(
    parts: Parts,
    ctx: Context,
    job: Job,
    *,
    action: str,
    result: dict[str, object],
    counts: dict[str, str | int | bool],
) -> None:
    """End a job, and write down who did it."""
    await parts.jobs.succeed(job, result)
    collection = str(job.payload["collection"])
    await parts.governance.append(
        AuditEvent(ctx.tenant, ctx.principal.id, action, collection, "ok", counts, trace_id=ctx.trace_id)
    )


async def erase_document(parts: Parts, ctx: Context, document: DocumentId) -> DocumentInfo:
    """Delete a document for good, and write down who did: the id and the collection, never the text.

    Raises: Forbidden, NotFound; the refusal leaves a line too.
    """
    event = AuditEvent(ctx.tenant, ctx.principal.id, "document.delete", document, "ok", trace_id=ctx.trace_id)
    try:
        info = await parts.knowledge.document(ctx, document)
        copies = await parts.knowledge.copies_of(ctx, document)
        await parts.knowledge.delete(ctx, document)
        if copies:
            await _look_again(parts, ctx, info.collection)
        # What was answered from it must not be told again.
        await forget_answers(parts, ctx, Purge(document=document))
    except InterlockError as error:
        await parts.governance.append(msgspec.structs.replace(event, outcome=error.code))
        raise
    await parts.governance.append(
        msgspec.structs.replace(event, details={"collection": info.collection, "passages": info.passages})
    )
    return info


async def review_document(
    parts: Parts, ctx: Context, document: DocumentId, verdict: Verdict, *, text_digest: str | None = None
) -> ReviewItem:
    """Release a held document, or keep one out of the index, and write down who did. Arguments as of the service.

    Raises: Forbidden, NotFound, Conflict; the refusal leaves a line too.
    """
    action = "document.release" if verdict == "released" else "document.keep"
    event = AuditEvent(ctx.tenant, ctx.principal.id, action, document, "ok", trace_id=ctx.trace_id)
    try:
        item = await parts.knowledge.review(ctx, document, verdict, text_digest=text_digest)
        # Answers of before were given with it, or without it.
        await forget_answers(parts, ctx, Purge(collection=item.collection))
        if item.copies and verdict == "kept":
            await _look_again(parts, ctx, item.collection)
    except InterlockError as error:
        await parts.governance.append(msgspec.structs.replace(event, outcome=error.code))
        raise
    details: dict[str, str | int | bool] = {
        "collection": item.collection,
        "text": item.text_digest,
        "found": ", ".join(f"{count} {name}" for name, count in item.counts.items())[:500],
    }
    await parts.governance.append(msgspec.structs.replace(event, details=details))
    return item


async def _look_again(parts: Parts, ctx: Context, collection: str) -> None:
    """Copies were found through a document that is found no more: a run lets one of them be found again."""
    await parts.jobs.enqueue(ctx.tenant, KIND, {"collection": collection}, key=collection, max_attempts=3)


def _counts(report: IngestReport) -> dict[str, str | int | bool]:
    return {name: value for name, value in asdict(report).items() if isinstance(value, int)}


def _summary(report: IngestReport) -> dict[str, object]:
    return {
        **_counts(report),
        "failed": [asdict(failure) for failure in report.failed],
        "away": [asdict(failure) for failure in report.away],
    }
