"""Responses in the background: queued at once, made by a worker with the identity and limits of whoever asked.

Durable: stored before the caller has its id, taken over by another worker when one dies. What was under way then is
asked again, so a call that the dead worker had paid for is paid twice; after a few runs it is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import anyio

from interlock.core.audit import AuditEvent
from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import (
    BudgetExceeded,
    Conflict,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    Unauthenticated,
    Unavailable,
)
from interlock.core.ids import TenantId, new_id, new_trace_id
from interlock.flows.parts import Parts
from interlock.flows.respond import Responding, codec
from interlock.flows.responses import Continued, continued, remember
from interlock.gateway.background import Waiting
from interlock.gateway.inbound.openai_responses import broken, queued
from interlock.gateway.kept import KeptResponse
from interlock.gateway.ports import Asked
from interlock.stores.jobs.base import Job

__all__ = ["LEASE_S", "cancel_response", "create_background", "kind_of", "requeue_lost", "run_background"]

# Any in this module: JSON objects of the API.
LEASE_S = 30.0
_BEAT_S = 1.0
_RUNS = 10
_PAUSE_S = 5.0
_MAX_PAUSE_S = 300.0
_RETRY_S = 10.0
_WIRE = "openai.responses"
_log = logging.getLogger("interlock.background")


def kind_of(home: TenantId) -> str:
    """Kind of the jobs of responses asked for in the workspace of `home`, whichever tenant they belong to."""
    return f"response@{home}"


async def create_background(
    parts: Parts, ctx: Context, body: Mapping[str, Any], asked: Asked, *, home: TenantId, may_store: bool
) -> dict[str, Any]:
    """Queue a decoded request; gives its response as it is now.

    Raises: what `continued` raises, and NotFound: no such model.
    """
    model = asked.request.model
    if model.startswith("app/"):
        await parts.releases.resolve(ctx, model)
    else:
        parts.gateway.route(model)
    joined = await continued(parts, ctx, asked, may_store=may_store)
    document = queued(joined.asked)
    kept = KeptResponse(joined.asked.options["items"], document, sorted(joined.documents))
    await parts.background.keep(ctx, kept, body, home)
    await _enqueue(parts, ctx.tenant, str(document["id"]), home)
    return document


async def _enqueue(parts: Parts, tenant: TenantId, identity: str, home: TenantId) -> None:
    # A worker that dies is replaced at once; how often is bounded by `_RUNS`.
    job = await parts.jobs.enqueue(tenant, kind_of(home), {"response": identity}, key=identity, max_attempts=10_000)
    await parts.background.queued(tenant, identity, job.id)


async def requeue_lost(parts: Parts, home: TenantId) -> int:
    """Give responses to the queue whose process died before it could; gives their number."""
    lost = await parts.background.unqueued(home)
    for tenant, identity in lost:
        await _enqueue(parts, tenant, identity, home)
    return len(lost)


async def cancel_response(parts: Parts, ctx: Context, identity: str) -> dict[str, Any]:
    """Stop a response that is made in the background; gives it as it is then. One that has ended stays as it is.

    Raises: NotFound. InvalidInput: it is not made in the background.
    """
    kept = await parts.kept.response(ctx, identity)
    if not kept.response["background"]:
        raise InvalidInput(
            "only a response that is made in the background can be cancelled",
            param="response_id",
            hint="close the connection of a response under way: that stops it",
        )
    if await parts.background.cancel(ctx, identity):
        user = ctx.end_user.id if ctx.end_user else ""
        event = AuditEvent(
            ctx.tenant, ctx.principal.id, "response.cancel", identity, "ok", {}, end_user=user, trace_id=ctx.trace_id
        )
        await parts.governance.append(event)
    return (await parts.kept.response(ctx, identity)).response


async def run_background(parts: Parts, base: Context, job: Job, *, may_store: bool) -> None:
    """Run a claimed job to its end.

    Args:
        base: whose trace sink is used.

    Raises: Conflict: the lease was lost to another worker, which goes on.
    """
    one = await parts.background.waiting(job.tenant, str(job.payload.get("response")))
    if one is None or not await parts.background.begin(one):
        await parts.jobs.cancelled(job)
        return
    run = _Run(parts, base, job, one, may_store)
    try:
        await run.to_end()
    except Unavailable as error:
        # The database, not the answer: it is made again when that is back.
        await parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=_RETRY_S)


class _Made(NamedTuple):
    document: dict[str, Any]
    documents: frozenset[str]
    """Those it was made from."""


class _Run:
    """One run of one response."""

    def __init__(self, parts: Parts, base: Context, job: Job, one: Waiting, may_store: bool) -> None:
        self._parts = parts
        self._job = job
        self._one = one
        self._may_store = may_store
        self._stopped = False
        ctx = one.context(base)
        self._ctx = replace(ctx, deadline=Deadline.after(3600.0), request_id=new_id("req"), trace_id=new_trace_id())

    async def to_end(self) -> None:
        """Make it, store it; or wait for a limit; or stop, when it was cancelled."""
        parts, one = self._parts, self._one
        try:
            asked = codec(_WIRE).decode(dict(one.body))
        except InterlockError as error:
            # A newer version may read requests more strictly than the one that took this one in.
            failure = {"code": "server_error", "message": str(error)}
            await self._keep({**one.kept.response, "status": "failed", "error": failure}, None, frozenset())
            await parts.jobs.succeed(self._job, {"status": "failed"})
            return
        # The id and the time of the stored one, so that it stays the same response.
        told = {**asked.options, "id": one.id, "created_at": one.kept.response["created_at"]}
        asked = Asked(asked.request, told)
        joined: Continued | None = None
        document: dict[str, Any] | None = None
        made_from: frozenset[str] = frozenset()
        wait_s = 0.0
        try:
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:
                    group.start_soon(self._watch, scope)
                    try:
                        await self._check()
                        joined = await continued(parts, self._ctx, asked, may_store=self._may_store)
                        document, made_from = await self._made(joined)
                    except LimitExceeded as error:
                        if isinstance(error, BudgetExceeded) or self._job.attempt >= _RUNS:
                            document = broken(asked, error)
                        wait_s = min(error.retry_after_s or _PAUSE_S, _MAX_PAUSE_S)
                    except InterlockError as error:
                        document = broken(asked, error)
                    except Exception as error:  # noqa: BLE001 - a border: the caller must hear of it
                        _log.error("%s failed: %s", one.id, type(error).__name__, exc_info=error)
                        document = broken(
                            asked, InterlockError("something went wrong here; the server's log has the details")
                        )
                group.cancel_scope.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        if self._stopped:
            await parts.jobs.cancelled(self._job)
        elif document is None:
            await parts.background.again(one)
            await parts.jobs.fail(self._job, code="waiting", message="a limit is waited for", retry_in_s=wait_s)
        else:
            await self._keep(document, joined, made_from)
            await parts.jobs.succeed(self._job, {"status": str(document["status"])})

    async def _check(self) -> None:
        if not await self._parts.access.still_valid(self._ctx):
            raise Unauthenticated("the API key that asked for this response is not valid any more")
        if self._job.attempt > _RUNS:
            raise Unavailable("the response was begun too often without an end", code="gave_up", retryable=False)

    async def _made(self, joined: Continued) -> _Made:
        release = None
        if joined.asked.request.model.startswith("app/"):
            release = await self._parts.releases.resolve(self._ctx, joined.asked.request.model)
        call = Responding(self._parts, self._ctx, codec(_WIRE), joined.asked, release)
        return _Made(await call.whole(), call.documents)

    async def _keep(self, document: Mapping[str, Any], joined: Continued | None, made_from: frozenset[str]) -> None:
        items = self._one.kept.items if joined is None else joined.asked.options["items"]
        before = self._one.kept.documents if joined is None else joined.documents
        kept = KeptResponse(items, dict(document), sorted({*before, *made_from}))
        stored = await self._parts.background.finish(self._one, kept)
        if stored and joined is not None and document["status"] != "failed":
            await remember(self._parts, self._ctx, joined, document, made_from)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """Renew the lease; stop the work when it was cancelled or removed. Raises: Conflict: the lease was lost."""
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                job = await self._parts.jobs.heartbeat(self._job, lease_s=LEASE_S)
                state = await self._parts.background.state(self._one.tenant, self._one.id)
            except Conflict:
                raise
            except InterlockError as error:
                # The work goes on; a lease that ran out meanwhile is a Conflict later.
                _log.warning("the lease of %s was not renewed: %s", self._one.id, error.code)
                continue
            if job.cancel_requested or state != "in_progress":
                self._stopped = True
                scope.cancel()
                return
