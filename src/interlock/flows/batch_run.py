"""One run of a batch: its lines with the identity, limits and budgets of whoever made it, a few at a time.

Lines of a model that asked for time wait, the others go on. A batch that can only wait makes room for others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, NoReturn

import anyio
import anyio.abc

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
from interlock.core.ids import TenantId, TraceId, new_trace_id
from interlock.core.money import Money
from interlock.flows.batch_files import write_files
from interlock.flows.batch_lanes import HalfPrice, wait_of
from interlock.flows.batch_line import call_of, context_of, refused, response_id, written
from interlock.flows.batch_lines import AskedLine, read_lines
from interlock.flows.batch_places import Places
from interlock.flows.batch_queue import Pauses, Queue
from interlock.flows.embed import embed, inputs_of
from interlock.flows.lane_run import LaneLimits
from interlock.flows.parts import Parts
from interlock.flows.respond import Responding
from interlock.gateway.kept import Batch, KeptResponse, Line
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
"""A batch that only waits is looked at so often, for its own end and its being cancelled."""
_SHORTEST_WAIT_S = 2.0
"""Each look that is not too early reads the input again."""
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


class _Answer(NamedTuple):
    body: dict[str, Any]
    documents: Sequence[str] = ()


class Waiting(Exception):
    """Nothing is left to do but to wait, for a provider or a limit: the worker goes on with other batches.

    Args:
        seconds: after which to look again.
        code: what for.
    """

    def __init__(self, seconds: float, code: str = "waiting_for_provider") -> None:
        super().__init__()
        self.seconds = seconds
        self.code = code


class BatchRun:
    """One run of one batch."""

    def __init__(
        self, parts: Parts, ctx: Context, job: Job, batch: Batch, limits: BatchLimits, *, places: Places
    ) -> None:
        self._parts = parts
        self._ctx = ctx
        self._job = job
        self._limits = limits
        self._places = places
        self._owner = parts.kept.owner(ctx)
        self._pauses = Pauses(job.checkpoint.get("paused"))
        self._asking = 0
        """Lines that are begun."""
        self._resting = 0
        """Those of them that failed and are asked again soon; they hold no place."""
        self._news = asyncio.Event()
        """Set when a line has ended."""
        tries = job.checkpoint.get("tries")
        self._tries = {int(line): int(times) for line, times in tries.items()} if isinstance(tries, Mapping) else {}
        """Times that lines failed which are asked again."""
        self.stopped = ""
        """Why no more lines are begun: `cancelling`, `expired`, `revoked`, or empty."""
        self._lost: dict[int, list[TraceId]] = {}
        """Times that lines without a result were sent by workers that died."""
        self.batch = batch

    async def to_end(self) -> Batch:
        """Validate, run what has no result yet, write the files.

        Raises: Waiting. Conflict: the lease was lost. NotFound: the batch was removed. Unavailable: the database is
        away.
        """
        try:
            return await self._to_end()
        except (Conflict, Unavailable):
            raise
        except NotFound as error:
            if error.code == "batch_not_found":
                raise
            return await self._broken(error)
        except InterlockError as error:
            return await self._broken(error)

    async def _to_end(self) -> Batch:
        kept = self._parts.kept
        await self._look()
        await self._only_waiting()
        lines, errors = read_lines(await self._input(), self.batch, self._limits.max_lines)
        if errors:
            failed = await kept.update_batch(self.batch, errors=errors)
            return await kept.mark_batch(failed, "failed")
        self.batch = await kept.update_batch(self.batch, total=len(lines))
        self.batch = await kept.mark_batch(self.batch, "in_progress", only_in=("validating",))
        asked = await kept.asks(self.batch)
        done = await kept.finished_lines(self.batch)
        self._lost = {number: traces for number, traces in asked.items() if number not in done}
        todo = [line for line in lines if line.number not in done]
        async with self._beating():
            await self._rounds(todo, lines)
        if self.stopped == "revoked":
            raise InvalidInput("the API key that made this batch is not valid any more", code="invalid_api_key")
        return await self._ended(lines, "completed")

    async def _input(self) -> bytes:
        """The content of the input file. Raises: NotFound: it was deleted."""
        identity = self.batch.input_file
        try:
            return await self._parts.kept.file_content(self._ctx, identity)
        except NotFound as error:
            raise NotFound(
                f"the input file {identity!r} was deleted before the batch had ended",
                code="file_not_found",
                param="input_file_id",
                hint="upload it again and make a new batch; keep the file until the batch has ended",
            ) from error

    async def _broken(self, error: InterlockError) -> Batch:
        """It cannot go on: lines that were done keep their results."""
        problem = {"code": error.code, "message": str(error), "param": error.param, "line": None}
        self.batch = await self._parts.kept.update_batch(self.batch, errors=[problem])
        return await self._ended([], "failed")

    async def _ended(self, lines: Sequence[AskedLine], otherwise: str) -> Batch:
        """End it as what stopped it says, or else as `otherwise`."""
        state = {"cancelling": "cancelled", "expired": "expired"}.get(self.stopped, otherwise)
        self.batch = await write_files(self._parts.kept, self._ctx, self.batch, lines, state)
        return self.batch

    async def _only_waiting(self) -> None:
        """Raise Waiting when all is with providers that are not due, or waits for a limit; reads no lines."""
        if self.batch.state == "validating":
            return
        store = KeptLanes(self._parts.kept)
        wait_s = await wait_of(store, self.batch)
        until = self._job.checkpoint.get("until")
        left_s = float(until) - now().timestamp() if isinstance(until, int | float) else 0.0
        if left_s > 0 and wait_s != 0 and not self.stopped:
            raise Waiting(min(left_s, wait_s or left_s, _LONGEST_WAIT_S), "waiting_for_limit")
        if wait_s and (self.batch.lanes or {}).get("sorted"):
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
            try:
                todo = await lanes.begin(todo)
            except Waiting:
                # What was handed over before goes on.
                await lanes.turn()
                raise
        while True:
            if not self.stopped:
                todo = await self._run_all(todo)
            if self.stopped:
                await lanes.stop()
            todo = [*todo, *await lanes.turn()]
            wait_s = await lanes.wait_s()
            if todo and not self.stopped:
                limit_s = Queue(todo, self._pauses).wait_s()
                if limit_s and wait_s != 0:
                    await self._leave(min(limit_s, wait_s or limit_s))
                continue
            if wait_s is None:
                return
            if wait_s > 0:
                raise Waiting(min(wait_s, _LONGEST_WAIT_S))

    async def _run_all(self, lines: Sequence[AskedLine]) -> list[AskedLine]:
        """Ask for lines, a few at a time; gives those that wait for so long that other batches should go on."""
        queue = Queue(lines, self._pauses)
        async with anyio.create_task_group() as group:
            while (queue or self._asking) and not self.stopped:
                wait_s = queue.wait_s()
                if queue and not wait_s and self._resting < self._places.lines:
                    await self._begin(queue, group)
                    continue
                if wait_s and not self._asking and self._should_leave(wait_s):
                    return queue.rest()
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), min(wait_s or _BEAT_S, _BEAT_S))
        return []

    async def _begin(self, queue: Queue, group: anyio.abc.TaskGroup) -> None:
        """Begin the next line once there is a place; waits a short time for one."""
        if not await self._places.take(self._owner, (self.batch.created_at, self.batch.id), within_s=_BEAT_S):
            return
        line = None if self.stopped else queue.next()
        if line is None:
            self._places.give_back(self._owner)
            return
        self._asking += 1
        group.start_soon(self._ask, line, queue)

    async def _ask(self, line: AskedLine, queue: Queue) -> None:
        try:
            try:
                result = await self._line(line)
                if isinstance(result, Line):
                    self._tries.pop(line.number, None)
                    await self.stored(partial(self._parts.kept.keep_line, self.batch, result))
                    return
            finally:
                self._places.give_back(self._owner)
            self._resting += 1
            try:
                await asyncio.sleep(result)
            finally:
                self._resting -= 1
            queue.back(line)
        finally:
            self._asking -= 1
            self._news.set()

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

    async def pause(self, model: str, seconds: float) -> None:
        """Let lines of a model wait, and wait with them. Raises: Waiting: for so long that others should go on."""
        self._pauses.add(model, seconds)
        # A batch may be stopped meanwhile, and others may come: it is looked at again, and not only slept through.
        while not self.stopped and (left_s := self._pauses.left_s(model)) > 0:
            if self._should_leave(left_s):
                await self._leave(left_s)
            await asyncio.sleep(min(left_s, _BEAT_S))

    def _should_leave(self, wait_s: float) -> bool:
        return wait_s > _LONGEST_WAIT_S or self._places.is_full_for(self._owner)

    async def _leave(self, wait_s: float) -> NoReturn:
        """Make room for other batches: nothing of this one can go on before `wait_s` is over. Raises: Waiting."""
        until = (now() + timedelta(seconds=wait_s)).timestamp()
        saved = {"until": until, "paused": self._pauses.stored(), "tries": self._tries}
        await self._parts.jobs.heartbeat(self._job, lease_s=LEASE_S, checkpoint=saved)
        raise Waiting(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S), "waiting_for_limit")

    async def _line(self, line: AskedLine) -> Line | float:
        """The result of one line, or after how many seconds it can be asked again."""
        lost = self._lost.get(line.number, [])
        known = await self._answered(line, lost)
        if known is not None:
            return Line(line.number, True, written(self.batch, line, 200, known.response), known.documents)
        charged = await self._charged(lost)
        if len(lost) >= _ASKS:
            error = Unavailable(
                f"the worker died {len(lost)} times with this line under way", code="line_lost", retryable=False
            )
            return refused(self.batch, line, error, charged)
        trace = new_trace_id()
        await self.stored(partial(self._parts.kept.note_ask, self.batch, line.number, trace))
        try:
            answer = await self._answer(line, trace)
            return Line(line.number, True, written(self.batch, line, 200, answer.body, charged), answer.documents)
        except BudgetExceeded as error:
            return refused(self.batch, line, error, charged)
        except InterlockError as error:
            again_s = self._again_s(line, error)
            if again_s is None:
                return refused(self.batch, line, error, charged)
        except Exception as error:  # noqa: BLE001 - a border: one line must not end the batch
            _log.error("line %d of %s failed: %s", line.number, self.batch.id, type(error).__name__, exc_info=error)
            told = InterlockError("something went wrong here; the server's log has the details")
            return refused(self.batch, line, told, charged)
        # It was refused or failed: nothing of it was lost.
        await self.stored(partial(self._parts.kept.drop_ask, self.batch, line.number, trace))
        return again_s

    def _again_s(self, line: AskedLine, error: InterlockError) -> float | None:
        """After how many seconds a line is asked again; None when it is not."""
        if isinstance(error, LimitExceeded):
            # The limit is the caller's or the provider's, not this line's: others of its model would meet it as well.
            self._pauses.add(line.model, error.retry_after_s or _PAUSE_S)
            return 0.0
        tries = self._tries[line.number] = self._tries.get(line.number, 0) + 1
        if not error.retryable or tries >= _TRIES:
            return None
        if error.retry_after_s:
            self._pauses.add(line.model, error.retry_after_s)
            return 0.0
        return 2.0**tries

    async def _answered(self, line: AskedLine, lost: Sequence[TraceId]) -> KeptResponse | None:
        """A response that a dead worker had stored already, and only not written into the batch."""
        if self.batch.endpoint != "/v1/responses":
            return None
        for trace in lost:
            try:
                return await self._parts.kept.stored_response(self._ctx, response_id(trace))
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

    async def _answer(self, line: AskedLine, trace: TraceId) -> _Answer:
        """The answer to one line, by the same flow as a request over HTTP. Raises: what that flow raises."""
        parts = self._parts
        if self.batch.endpoint == "/v1/embeddings":
            return _Answer(await _embeddings(parts, context_of(self._ctx, trace), line.body))
        call = await call_of(parts, self._ctx, self.batch, line, trace=trace, may_store=self._limits.store_responses)
        flow = Responding(parts, call.ctx, call.wire, call.asked, call.release, keep=call.keep)
        body = await flow.whole()
        return _Answer(body, sorted(call.documents | flow.documents))


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
