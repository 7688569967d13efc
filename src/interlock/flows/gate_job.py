"""The runs that a channel asks for as a job: asked for over HTTP or in the console, done by a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError, InvalidInput
from interlock.evals.running.runner import Progress
from interlock.flows.gate import GateRuns, ask_gate, run_gate
from interlock.flows.parts import Parts
from interlock.releases.types import FROZEN_CHANNELS
from interlock.stores.jobs.base import Job

__all__ = ["KIND", "LEASE_S", "enqueue_gate", "gate_job_of", "run_gate_job"]

KIND = "gate"
LEASE_S = 60.0
_BEAT_S = 5.0
_log = logging.getLogger("interlock.gate")


async def enqueue_gate(
    parts: Parts, ctx: Context, app: str, *, channel: str = "prod", release: str | None = None, judge: str | None = None
) -> Job:
    """Ask for the runs; the same ones that wait or go on already are given back.

    Args:
        release: a frozen one; without it what the files describe when a worker begins.
        judge: route or ``provider/model`` that judges.

    Raises: Forbidden; NotFound: no such app, release or route; InvalidInput: no such channel.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    if channel not in FROZEN_CHANNELS:
        raise InvalidInput(f"channel is one of {', '.join(FROZEN_CHANNELS)}", param="channel")
    if judge is not None:
        parts.gateway.route(judge)
    asked = await ask_gate(parts, ctx, app, channel=channel, release=release)
    named = None if asked.live else asked.release
    payload = {"app": asked.app, "channel": channel, "release": named, "judge": judge, "by": ctx.principal.id}
    return await parts.jobs.enqueue(ctx.tenant, KIND, payload, key=f"{asked.app}:{channel}:{named or 'live'}")


async def gate_job_of(parts: Parts, ctx: Context, app: str, release: str) -> Job | None:
    """The newest job of a release of the caller's tenant; None without one. Raises: Forbidden."""
    ctx.require(Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
    for job in await parts.jobs.list(ctx.tenant, kind=KIND, limit=50):
        if job.payload.get("app") == app and job.payload.get("release") == release:
            return job
    return None


async def run_gate_job(parts: Parts, ctx: Context, job: Job, runs: GateRuns) -> None:
    """Do a claimed job. A run that a dead worker began is gone on with.

    Raises: Conflict: the lease was lost, or somebody cancelled it. What the runs raise is recorded on the job.
    """
    told = _Told()
    judge = job.payload.get("judge")
    runs = replace(
        runs, started=told.began, progress=told.went_on, judge=judge if isinstance(judge, str) else runs.judge
    )
    app, channel = str(job.payload["app"]), str(job.payload["channel"])
    release = job.payload.get("release")
    try:
        async with _beating(parts, job, told):
            found = await run_gate(
                parts, ctx, app, runs, channel=channel, release=release if isinstance(release, str) else None
            )
    except Conflict as error:
        if error.code == "cancelled":
            await parts.jobs.cancelled(job)
        raise
    except InterlockError as error:
        await parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=None)
        raise
    except Exception as error:
        # A fault of ours is not mended by making the same runs, and paying for them, again.
        said = f"the runs broke off: {type(error).__name__}"
        await parts.jobs.fail(job, code="internal_error", message=said, retry_in_s=None)
        raise
    result: dict[str, object] = {
        "verdict": found.verdict,
        "release": found.release,
        "runs": [
            {"id": report.id, "suite": report.suite, "verdict": report.gate.verdict if report.gate else None}
            for report in found.reports
        ],
    }
    await parts.jobs.succeed(job, result)
    facts: dict[str, str | int | bool] = {"app": app, "channel": channel, "verdict": found.verdict}
    facts |= {"by": str(job.payload.get("by", "")), "runs": len(found.reports)}
    await parts.governance.append(
        AuditEvent(ctx.tenant, ctx.principal.id, "gate.run", found.release, "ok", facts, trace_id=ctx.trace_id)
    )


class _Told:
    """How far the runs are, for the next beat."""

    def __init__(self) -> None:
        self.done = self.total = 0
        self.message = ""

    def began(self, suite: str, release: str) -> None:
        self.done = self.total = 0
        self.message = f"{suite} on {release.removeprefix('sha256:')[:8]}"

    def went_on(self, progress: Progress) -> None:
        self.done, self.total = progress.done, progress.total


@contextlib.asynccontextmanager
async def _beating(parts: Parts, job: Job, told: _Told) -> AsyncIterator[None]:
    """Renew the lease and tell progress while the block goes on; end it when somebody cancels the job.

    Raises: Conflict: ``cancelled``, or the lease was lost.
    """
    lost: list[Conflict] = []
    doing = asyncio.current_task()
    assert doing is not None, "it runs in a task"

    async def beat() -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                current = await parts.jobs.heartbeat(
                    job, lease_s=LEASE_S, done=told.done, total=told.total, message=told.message
                )
            except Conflict as error:
                lost.append(error)
                doing.cancel()
                return
            except InterlockError as error:
                # Until the lease has run out nobody else takes it.
                _log.warning("a gate's job could not be renewed: %s", error.code)
                continue
            if current.cancel_requested:
                lost.append(Conflict("the runs were cancelled; what was answered stays", code="cancelled"))
                doing.cancel()
                return

    beating = asyncio.create_task(beat())
    try:
        yield
    except asyncio.CancelledError:
        if not lost:
            raise
        doing.uncancel()
        raise lost[0] from None
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
