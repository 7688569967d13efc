"""Batches: many requests in one file, run by a worker with the identity, limits and budgets of whoever made them.

Durable: each line's result is stored under the line's number as soon as it is there, so after a crash another worker
runs only the lines that have none, and no line appears twice. That a line is sent is written down before it is: what
a dead worker had under way is known by its trace, is asked again a few times at most, and its row says what was charged
for answers that were lost. A stored response is found by its id, which is its trace's, and is not asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping

from interlock.core.audit import AuditEvent
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Unavailable,
)
from interlock.core.ids import TenantId
from interlock.flows.batch_lines import ENDPOINTS
from interlock.flows.batch_places import MOST_BATCHES, Places
from interlock.flows.batch_run import LEASE_S, BatchLimits, BatchRun, Waiting
from interlock.flows.lane_cleaning import clean_up
from interlock.flows.parts import Parts
from interlock.gateway.kept import Batch
from interlock.stores.jobs.base import Job

__all__ = [
    "ENDPOINTS",
    "LANES",
    "LEASE_S",
    "MOST_BATCHES",
    "BatchLimits",
    "Places",
    "cancel_batch",
    "clean_up",
    "create_batch",
    "delete_batch",
    "kind_of",
    "requeue_lost",
    "run_batch",
]

_RETRY_S = 30.0
_WAITS = {
    "waiting_for_provider": "waiting for a provider's batch API",
    "waiting_for_limit": "waiting for a limit, or for a model that asked for time",
}
_ENDED = {"completed": "is completed", "failed": "failed", "expired": "expired", "cancelled": "was cancelled"}
LANES = ("auto", "ordinary", "half-price")


def kind_of(home: TenantId) -> str:
    """Kind of the jobs of batches made in the workspace of `home`, whichever tenant they belong to."""
    return f"batch@{home}"


async def create_batch(
    parts: Parts,
    ctx: Context,
    limits: BatchLimits,
    *,
    endpoint: str,
    input_file: str,
    window: str = "24h",
    metadata: Mapping[str, str] | None = None,
    style: str = "openai",
    lane: str = "auto",
    total: int = 0,
) -> Batch:
    """Queue a batch over a stored file.

    Args:
        total: lines of the file, when they are known; else they are counted when the batch begins.
        lane: `auto` takes providers' own batch APIs where they may be taken, `ordinary` none, `half-price` no other.

    Raises: InvalidInput: an endpoint without batches, a wrong window. NotFound: no such file of this caller.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidInput(f"endpoint is one of {', '.join(ENDPOINTS)}", param="endpoint")
    if lane not in LANES:
        raise InvalidInput(f"lane is one of {', '.join(LANES)}", param="interlock.lane")
    window_s = _window_s(window)
    if lane == "half-price" and (window_s < 86_400 or not ENDPOINTS[endpoint]):
        what = "completion_window" if window_s < 86_400 else "endpoint"
        raise InvalidInput(
            f"no provider's batch API takes a batch with this {what}",
            param=what,
            hint="allow 24h or more, of an endpoint that is not embeddings, or take lane auto",
        )
    await parts.kept.file(ctx, input_file, param="input_file_id")
    batch = await parts.kept.keep_batch(
        ctx,
        style=style,
        endpoint=endpoint,
        input_file=input_file,
        window=window,
        window_s=window_s,
        metadata=metadata or {},
        home=limits.home,
        lane=lane,
        total=total,
    )
    queued = await _enqueue(parts, batch, limits.home)
    await _audit(parts, ctx, batch, "batch.create")
    return queued


async def _enqueue(parts: Parts, batch: Batch, home: TenantId) -> Batch:
    # A worker that dies is replaced at once, and waiting for a provider is an attempt; only the window ends a batch.
    job = await parts.jobs.enqueue(
        batch.tenant, kind_of(home), {"batch": batch.id}, key=batch.id, max_attempts=1_000_000
    )
    return await parts.kept.update_batch(batch, job=job.id)


async def requeue_lost(parts: Parts, limits: BatchLimits) -> int:
    """Give batches to the queue whose process died before it could; gives their number."""
    lost = await parts.kept.unqueued(limits.home)
    for batch in lost:
        await _enqueue(parts, batch, limits.home)
    return len(lost)


def _window_s(window: str) -> float:
    unit = {"h": 3600, "d": 86_400}.get(window[-1:], 0)
    number = window[:-1]
    if not unit or not (number.isascii() and number.isdecimal() and len(number) < 4) or not int(number) >= 1:
        raise InvalidInput("completion_window is a number of hours or days, as 24h", param="completion_window")
    seconds = int(number) * unit
    if seconds > 14 * 86_400:
        raise InvalidInput("completion_window is at most 14d", param="completion_window")
    return float(seconds)


async def cancel_batch(parts: Parts, ctx: Context, identity: str) -> Batch:
    """Stop a batch: lines under way are finished, the others are not begun.

    Raises: NotFound. Conflict: it has ended.
    """
    batch = await parts.kept.batch(ctx, identity)
    if not batch.is_open:
        raise Conflict(f"the batch has already ended: it {_ENDED[batch.state]}", code="batch_ended")
    batch = await parts.kept.mark_batch(batch, "cancelling", only_in=("validating", "in_progress"))
    await _audit(parts, ctx, batch, "batch.cancel")
    return batch


async def delete_batch(parts: Parts, ctx: Context, identity: str) -> None:
    """Remove a batch that has ended, with its results. A file that its maker uploaded stays.

    Raises: NotFound. Conflict: it has not ended.
    """
    batch = await parts.kept.batch(ctx, identity)
    if batch.is_open:
        raise Conflict(
            "the batch has not ended yet", code="batch_in_progress", hint="cancel it, and delete it when it has ended"
        )
    await parts.kept.delete_batch(ctx, batch)
    await _audit(parts, ctx, batch, "batch.delete")


async def _audit(parts: Parts, ctx: Context, batch: Batch, action: str, **details: str | int | bool) -> None:
    user = ctx.end_user.id if ctx.end_user else ""
    event = AuditEvent(
        ctx.tenant, ctx.principal.id, action, batch.id, "ok", details, end_user=user, trace_id=ctx.trace_id
    )
    await parts.governance.append(event)


async def run_batch(parts: Parts, base: Context, job: Job, limits: BatchLimits, places: Places) -> str | None:
    """Run a claimed job to its end, or until it can only wait.

    Args:
        base: whose trace sink is used.
        places: of this worker.

    Returns: the batch's owner, when that one has as many batches under way as it may: the job is queued again.
    Raises: Conflict: the lease was lost to another worker, which goes on.
    """
    try:
        batch = await parts.kept.batch_of_job(job.tenant, str(job.payload.get("batch")))
    except NotFound:
        # Removed by its age or with its owner.
        await parts.jobs.cancelled(job)
        return None
    if not batch.is_open:
        await parts.jobs.succeed(job, {"state": batch.state})
        return None
    ctx = await parts.kept.context_of(batch, base)
    owner = parts.kept.owner(ctx)
    is_over = batch.state == "cancelling" or now() >= batch.ends_at
    with places.batch(owner, always=is_over) as may_run:
        if may_run:
            await _run(parts, ctx, job, BatchRun(parts, ctx, job, batch, limits, places=places))
            return None
    told = "waiting for other batches of its owner"
    await parts.jobs.fail(job, code="waiting_for_turn", message=told, retry_in_s=0.0)
    return owner


async def _run(parts: Parts, ctx: Context, job: Job, run: BatchRun) -> None:
    try:
        ended = await run.to_end()
    except Waiting as waiting:
        await parts.jobs.fail(job, code=waiting.code, message=_WAITS[waiting.code], retry_in_s=waiting.seconds)
        return
    except NotFound:
        # It was deleted, or its owner forgotten, while it ran.
        await parts.jobs.cancelled(job)
        return
    except Unavailable as error:
        # The database or the disk, not the batch: what has no result yet is run when it is back.
        await parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=_RETRY_S)
        return
    await parts.jobs.succeed(job, {"state": ended.state, "completed": ended.completed, "failed": ended.failed})
    await _audit(parts, ctx, ended, "batch.end", state=ended.state, completed=ended.completed, failed=ended.failed)
