"""One run of a batch: its lines with the identity, limits and budgets of whoever made it, a few at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import (
    BudgetExceeded,
    Conflict,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from interlock.core.ids import TenantId, TraceId, new_id, new_trace_id
from interlock.core.money import Money
from interlock.flows.batch_lanes import HalfPrice, wait_of
from interlock.flows.batch_line import call_of, context_of, refused, response_id, written
from interlock.flows.batch_lines import AskedLine, read_lines
from interlock.flows.embed import embed, inputs_of
from interlock.flows.lane_run import LaneLimits
from interlock.flows.parts import Parts
from interlock.flows.respond import Responding
from interlock.gateway.kept import Batch, Line
from interlock.gateway.kept_lanes import KeptLanes
from interlock.stores.jobs.base import Job

__all__ = ["LEASE_S", "BatchLimits", "BatchRun", "Waiting"]

# Any in this module: JSON objects.
_log = logging.getLogger("interlock.batch")
LEASE_S = 30.0
_BEAT_S = 5.0
_TRIES = 3
_PAUSE_S = 5.0
_LONGEST_WAIT_S = 15.0
"""A batch that only waits for a provider is looked at so often, for its own end and its being cancelled."""
_ASKS = 3
"""Times that a line is sent while each worker dies before there is a result."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """From the settings of the gateway."""

    concurrency: int
    max_lines: int
    store_responses: bool
    home: TenantId
    """The workspace's own tenant: its worker runs the batches that were made here."""
    poll_s: float = 30.0
    """First wait before a provider's batch is asked after."""


class Waiting(Exception):
    """Nothing is left to do but to wait for a provider: the worker goes on with other batches.

    Args:
        seconds: after which to look again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class BatchRun:
    """One run of one batch."""

    def __init__(self, parts: Parts, ctx: Context, job: Job, batch: Batch, limits: BatchLimits) -> None:
        self._parts = parts
        self._ctx = ctx
        self._job = job
        self._limits = limits
        self._paused_until = 0.0
        self.stopped = ""
        """Why no more lines are begun: `cancelling`, `expired`, `revoked`, or empty."""
        self._lost: dict[int, list[TraceId]] = {}
        """Times that lines without a result were sent by workers that died."""
        self.batch = batch

    async def to_end(self) -> Batch:
        """Validate, run what has no result yet, write the files. Raises: Waiting."""
        kept = self._parts.kept
        await self._only_waiting()
        content = await kept.file_content(self._ctx, self.batch.input_file)
        lines, errors = read_lines(content, self.batch, self._limits.max_lines)
        if errors:
            failed = await kept.update_batch(self.batch, errors=errors)
            return await kept.mark_batch(failed, "failed")
        self.batch = await kept.update_batch(self.batch, total=len(lines))
        self.batch = await kept.mark_batch(self.batch, "in_progress", only_in=("validating",))
        asked = await kept.asks(self.batch)
        done = await kept.finished_lines(self.batch)
        self._lost = {number: traces for number, traces in asked.items() if number not in done}
        todo = [line for line in lines if line.number not in done]
        await self._look()
        async with self._beating():
            await self._rounds(todo, lines)
        if self.stopped == "revoked":
            raise InvalidInput("the API key that made this batch is not valid any more", code="invalid_api_key")
        return await self._write_files(lines)

    async def _only_waiting(self) -> None:
        """Raise Waiting when every line has a result or is with a provider that is not due, without reading them."""
        if self.batch.state == "validating" or not (self.batch.lanes or {}).get("sorted"):
            return
        store = KeptLanes(self._parts.kept)
        wait_s = await wait_of(store, self.batch)
        if wait_s:
            await self._look()
            held = len(await store.held_lines(self.batch))
            if self.batch.completed + self.batch.failed + held < self.batch.total:
                return
            # Who was asked to stop is waited for as well, but must have been asked.
            if not self.stopped or await store.all_stopping(self.batch):
                raise Waiting(min(wait_s, _LONGEST_WAIT_S))

    async def _rounds(self, todo: list[AskedLine], lines: Sequence[AskedLine]) -> None:
        """Hand over what providers' batch APIs take, ask the others, until no line is left or the batch stops.

        Raises: Waiting: only providers have lines of it.
        """
        limits = LaneLimits(self._limits.poll_s, self._limits.store_responses, self._limits.home)
        lanes = HalfPrice(self._parts, self._ctx, self, limits, lines)
        if not self.stopped:
            todo = await lanes.begin(todo)
        while True:
            if not self.stopped:
                await self._run_all(todo)
            if self.stopped:
                await lanes.stop()
            todo = await lanes.turn()
            if todo and not self.stopped:
                continue
            wait_s = await lanes.wait_s()
            if wait_s is None:
                return
            if wait_s > 0:
                raise Waiting(min(wait_s, _LONGEST_WAIT_S))

    async def _run_all(self, lines: list[AskedLine]) -> None:
        waiting = iter(lines)
        async with anyio.create_task_group() as group:
            for _ in range(min(self._limits.concurrency, len(lines))):
                group.start_soon(self._take, waiting)

    @asynccontextmanager
    async def _beating(self) -> AsyncIterator[None]:
        """The lease is renewed meanwhile."""
        waiting: Waiting | None = None
        try:
            async with anyio.create_task_group() as beat:
                beat.start_soon(self._beat)
                try:
                    yield
                except Waiting as error:
                    waiting = error
                beat.cancel_scope.cancel()
        except ExceptionGroup as failures:
            raise _first(failures) from failures
        if waiting is not None:
            raise waiting

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self._look()
            except Unavailable as error:
                # Lines under way are paid for: they go on, and a lease that ran out meanwhile is a Conflict later.
                _log.warning("the lease of %s was not renewed: %s", self.batch.id, error.code)

    async def _look(self) -> None:
        """Renew the lease, save progress, see whether to stop. Raises: Conflict: the lease was lost."""
        self.batch = await self._parts.kept.batch_of_job(self.batch.tenant, self.batch.id)
        done = self.batch.completed + self.batch.failed
        job = await self._parts.jobs.heartbeat(self._job, lease_s=LEASE_S, done=done, total=self.batch.total)
        if self.batch.state == "cancelling" or job.cancel_requested:
            self.stopped = "cancelling"
        elif now() >= self.batch.ends_at:
            self.stopped = "expired"
        elif not await self._parts.access.still_valid(self._ctx):
            self.stopped = "revoked"

    async def _take(self, waiting: Any) -> None:
        for line in waiting:
            await self._wait()
            if self.stopped:
                return
            result = await self._line(line)
            if result is None:
                return
            await self.stored(partial(self._parts.kept.keep_line, self.batch, result))

    async def stored(self, write: Callable[[], Awaitable[None]]) -> None:
        """Store something; a database that is away is waited for: what is under way is paid for.

        Raises: Unavailable.
        """
        for tries in range(_TRIES):
            try:
                await write()
            except Unavailable:
                if tries == _TRIES - 1:
                    raise
                await asyncio.sleep(2.0**tries)
            else:
                return

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)

    async def pause(self, seconds: float) -> None:
        """Let everybody wait: a limit was met."""
        self._pause(seconds)
        await self._wait()

    async def _wait(self) -> None:
        """Until the pause after a refusal is over, or the batch stops."""
        loop = asyncio.get_running_loop()
        # A pause may be lengthened or ended by others meanwhile: it is looked at again, and not only slept through.
        while not self.stopped and (pause := self._paused_until - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(pause, _BEAT_S))

    async def _line(self, line: AskedLine) -> Line | None:
        """The result of one line; None when the batch stops before there is one."""
        lost = self._lost.get(line.number, [])
        known = await self._answered(line, lost)
        if known is not None:
            return Line(line.number, True, written(self.batch, line, 200, known))
        charged = await self._charged(lost)
        if len(lost) >= _ASKS:
            error = Unavailable(
                f"the worker died {len(lost)} times with this line under way", code="line_lost", retryable=False
            )
            return refused(self.batch, line, error, charged)
        tries = 0
        before: TraceId | None = None
        while True:
            trace = new_trace_id()
            note = partial(self._parts.kept.note_ask, self.batch, line.number, trace, instead_of=before)
            await self.stored(note)
            before = trace
            try:
                body = await self._answer(line, trace)
                return Line(line.number, True, written(self.batch, line, 200, body, charged))
            except BudgetExceeded as error:
                return refused(self.batch, line, error, charged)
            except LimitExceeded as error:
                # Everybody waits: the limit is the caller's or the provider's, not this line's.
                self._pause(error.retry_after_s or _PAUSE_S)
            except InterlockError as error:
                tries += 1
                if not error.retryable or tries >= _TRIES:
                    return refused(self.batch, line, error, charged)
                await asyncio.sleep(2.0**tries)
            except Exception as error:  # noqa: BLE001 - a border: one line must not end the batch
                _log.error("line %d of %s failed: %s", line.number, self.batch.id, type(error).__name__, exc_info=error)
                told = InterlockError("something went wrong here; the server's log has the details")
                return refused(self.batch, line, told, charged)
            await self._wait()
            if self.stopped:
                # It was refused or failed: nothing of it was lost.
                await self.stored(partial(self._parts.kept.drop_ask, self.batch, line.number, trace))
                return None

    async def _answered(self, line: AskedLine, lost: Sequence[TraceId]) -> dict[str, Any] | None:
        """A response that a dead worker had stored already, and only not written into the batch."""
        if self.batch.endpoint != "/v1/responses":
            return None
        for trace in lost:
            try:
                return (await self._parts.kept.response(self._ctx, response_id(trace))).response
            except NotFound:
                continue
        return None

    async def _charged(self, lost: Sequence[TraceId]) -> list[dict[str, Any]]:
        """What the ledger says of the times whose answers were lost."""
        charged = []
        for trace in lost:
            rows = await self._parts.cost.ledger(self._ctx, trace_id=trace)
            costs = [row.cost for row in rows]
            if rows:
                total = sum((cost for cost in costs if cost is not None), Money.zero())
                cost = None if None in costs else f"{total.decimal():f}"
                charged.append({"trace_id": trace, "cost_usd": cost})
        return charged

    async def _answer(self, line: AskedLine, trace: TraceId) -> dict[str, Any]:
        """The answer to one line, by the same flow as a request over HTTP. Raises: what that flow raises."""
        parts = self._parts
        if self.batch.endpoint == "/v1/embeddings":
            return await _embeddings(parts, context_of(self._ctx, trace), line.body)
        call = await call_of(parts, self._ctx, self.batch, line, trace=trace, may_store=self._limits.store_responses)
        return await Responding(parts, call.ctx, call.wire, call.asked, call.release, keep=call.keep).whole()

    async def _write_files(self, lines: list[AskedLine]) -> Batch:
        kept = self._parts.kept
        self.batch = await kept.mark_batch(self.batch, "finalizing", only_in=("in_progress",))
        results = await kept.lines(self.batch)
        missing = self._missing(lines, {result.number for result in results})
        if self.batch.style == "anthropic":
            written = {"output": [result.body for result in results] + missing, "error": []}
        else:
            written = {
                "output": [result.body for result in results if result.ok],
                "error": [result.body for result in results if not result.ok] + missing,
            }
        files: dict[str, str | None] = {}
        for name, rows in written.items():
            if not rows:
                files[name] = None
                continue
            data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            file = await kept.keep_file(
                self._ctx, name=f"{self.batch.id}_{name}.jsonl", purpose="batch_output", data=data
            )
            files[name] = file.id
        self.batch = await kept.update_batch(self.batch, output_file=files["output"], error_file=files["error"])
        state = {"cancelling": "cancelled", "expired": "expired"}.get(self.stopped, "completed")
        self.batch = await kept.mark_batch(self.batch, state)
        await kept.drop_lines(self.batch)
        return self.batch

    def _missing(self, lines: list[AskedLine], done: set[int]) -> list[dict[str, Any]]:
        """Rows of the lines that never ran."""
        rows: list[dict[str, Any]] = []
        code, kind = ("batch_expired", "expired") if self.stopped == "expired" else ("batch_cancelled", "canceled")
        for line in lines:
            if line.number in done:
                continue
            if self.batch.style == "anthropic":
                rows.append({"custom_id": line.custom_id, "result": {"type": kind}})
            else:
                error = {"code": code, "message": "this line was not run"}
                rows.append({"id": new_id("batch_req"), "custom_id": line.custom_id, "response": None, "error": error})
        return rows


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """A lost lease before all else, then any of our own errors."""
    found: list[Exception] = []
    for error in failures.exceptions:
        found.append(_first(error) if isinstance(error, ExceptionGroup) else error)
    ours = [error for error in found if isinstance(error, InterlockError)]
    return next((error for error in ours if isinstance(error, Conflict)), (ours or found)[0])


async def _embeddings(parts: Parts, ctx: Context, body: Mapping[str, Any]) -> dict[str, Any]:
    model, given = body.get("model"), body.get("input")
    if not isinstance(model, str) or not model:
        raise InvalidInput("model is missing", param="model")
    result = await embed(parts, ctx, model, inputs_of(given))
    tokens = result.usage.input_tokens
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(result.vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}
