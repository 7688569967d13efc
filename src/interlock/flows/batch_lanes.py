"""Lines of a batch that go to a provider's own batch API, at its price, and come back as results.

What holds, whenever a worker is killed:

- A line's reservation is written down, with the label of the provider's batch that it will be in, before anything is
  sent. The units stay counted against every limit until the line's result or its return, however long that takes.
- Its result, its ledger row and the end of its reservation are one transaction. The row's id is the reservation's: an
  answer that is taken twice is charged once.
- Who takes over finds uploads and batches by the label, where the provider's API knows labels.
- A line whose answer is there goes through the ordinary flow, with that answer in the model's place: guardrails, forms,
  what is stored, spans and the audit log are those of an ordinary call.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import NamedTuple, Protocol

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import (
    BudgetExceeded,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from interlock.core.ids import TenantId, TraceId, new_trace_id
from interlock.core.messages import ChatEvent, Finish, Usage
from interlock.cost.handed import Handed
from interlock.flows.batch_line import LineCall, call_of, context_of, refused, response_id, written
from interlock.flows.batch_lines import ENDPOINTS, AskedLine
from interlock.flows.chat import Answered, for_app, has_knowledge
from interlock.flows.parts import Parts
from interlock.flows.respond import Responding
from interlock.gateway.handing import Prepared, Replay, lane_of, prepare
from interlock.gateway.kept import Batch, Line
from interlock.gateway.kept_lanes import Hold, KeptLane, KeptLanes
from interlock.gateway.lanes.ports import BatchLane, LaneLine, LaneResult, Remote, Standing
from interlock.gateway.types import RouteSpec, Target

__all__ = ["HalfPrice", "LaneLimits", "Running", "clean_up", "may_go", "remove", "wait_of"]

_log = logging.getLogger("interlock.batch")
_LEAST_WINDOW_S = 86_400.0
_STEP_S = 600.0
_TAKE_S = 3600.0
_SLOWEST = 20.0
"""The longest wait between two looks, in first waits."""
_MOST_FAILURES = 6
"""Of handing over, in a row, before the lines are ordinary calls instead."""
_MOST_CANCEL_LOOKS = 40
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """From the settings of the gateway."""

    poll_s: float
    store_responses: bool
    home: TenantId


class Running(Protocol):
    """The run of the batch, as far as lanes need it."""

    batch: Batch

    @property
    def stopped(self) -> str:
        """Why no more lines are begun; empty while they are."""

    async def pause(self, seconds: float) -> None:
        """Let everybody wait: a limit was met."""

    async def stored(self, write: Callable[[], Awaitable[None]]) -> None:
        """Store something, waiting for a database that is away."""


class _Ready(NamedTuple):
    """A line that a provider's batch API can take."""

    call: LineCall
    prepared: Prepared


@dataclass(slots=True)
class _Chunk:
    """Lines of one target that are about to be handed over."""

    lane: BatchLane
    lines: list[LaneLine] = field(default_factory=list)
    handed: list[tuple[int, TraceId, Handed]] = field(default_factory=list)
    size: int = 0


def may_go(batch: Batch) -> str:
    """Why no line of a batch may go to a provider's batch API; empty when they may."""
    if batch.lane == "ordinary":
        return "asked_for"
    if not ENDPOINTS[batch.endpoint]:
        return "endpoint"
    # Created and closed are stored to the microsecond; the difference is the window.
    if (batch.ends_at - batch.created_at).total_seconds() < _LEAST_WINDOW_S - 1:
        return "window"
    return ""


class HalfPrice:
    """The lanes of one run of one batch."""

    def __init__(
        self, parts: Parts, ctx: Context, running: Running, limits: LaneLimits, lines: Iterable[AskedLine]
    ) -> None:
        self._parts = parts
        self._ctx = ctx
        self._running = running
        self._limits = limits
        self._lines: Mapping[int, AskedLine] = {line.number: line for line in lines}
        self._store = KeptLanes(parts.kept)
        self._returned: list[AskedLine] = []
        self._refusing: dict[str, str] = {}
        """Providers that did not take a batch of this one, and why."""

    @property
    def _batch(self) -> Batch:
        return self._running.batch

    # --- there -------------------------------------------------------------------------------------------------------

    async def begin(self, lines: Sequence[AskedLine]) -> list[AskedLine]:
        """Hand over what can be; gives the lines that must be ordinary calls.

        A batch whose lines were sorted out before is left as it is: what has neither a result nor a hold is ordinary.
        """
        held = await self._store.held_lines(self._batch)
        for lane in await self._store.lanes(self._batch):
            if lane.reason:
                self._refusing[lane.provider] = lane.reason
        rest = [line for line in lines if line.number not in held]
        if (self._batch.lanes or {}).get("sorted"):
            return rest
        why: dict[str, int] = {}
        reason = may_go(self._batch)
        if reason:
            ordinary = rest
            why = {reason: len(rest)} if rest else {}
        else:
            ordinary = await self._sort(rest, why)
        if self._running.stopped:
            return []
        await self._store.tell(self._batch, sorted=True, ordinary=why)
        return await self._as_ordinary(ordinary, "no_batch_api")

    async def _sort(self, lines: Sequence[AskedLine], why: dict[str, int]) -> list[AskedLine]:
        ordinary: list[AskedLine] = []
        chunks: dict[Target, _Chunk] = {}
        try:
            for line in lines:
                if self._running.stopped:
                    break
                reason = await self._add(line, chunks)
                if reason:
                    why[reason] = why.get(reason, 0) + 1
                    ordinary.append(line)
            if not self._running.stopped:
                await self._send_all(chunks)
        finally:
            for chunk in chunks.values():
                for _, _, handed in chunk.handed:
                    handed.take_back(self._parts.cost)
        ordinary += self._returned
        self._returned = []
        return ordinary

    async def _add(self, line: AskedLine, chunks: dict[Target, _Chunk]) -> str:
        """Reserve for a line and put it with the others of its target; or why it must be an ordinary call."""
        while True:
            trace = new_trace_id()
            try:
                ready = await self._ready(line, trace)
                if isinstance(ready, str):
                    return ready
                target, lane = ready.prepared.target, ready.prepared.lane
                if target.provider in self._refusing:
                    return self._refusing[target.provider]
                body = lane.encode(ready.prepared.request, target.model)
                size = len(json.dumps(body))
            except InterlockError as error:
                if self._batch.lane == "half-price":
                    return await self._refuse(line, error)
                # The ordinary call says so in its own words, and leaves its line in the audit log.
                return "refused"
            if size > lane.terms.max_bytes // 2:
                return "size"
            chunk = chunks.get(target)
            if chunk and (len(chunk.lines) >= lane.terms.max_lines or chunk.size + size > lane.terms.max_bytes):
                await self._send(target, chunks.pop(target))
                chunk = None
            try:
                handed = await self._reserve(ready)
            except BudgetExceeded as error:
                return await self._refuse(line, error)
            except LimitExceeded as error:
                # What there was room for goes now; a reservation that waits holds up others.
                await self._send_all(chunks)
                await self._running.pause(error.retry_after_s or _PAUSE_S)
                if self._running.stopped:
                    return ""
                continue
            chunk = chunk or chunks.setdefault(target, _Chunk(lane))
            chunk.lines.append(LaneLine(line.number, body))
            chunk.handed.append((line.number, trace, handed))
            chunk.size += size
            return ""

    async def _refuse(self, line: AskedLine, error: InterlockError) -> str:
        result = refused(self._batch, line, error)
        await self._running.stored(partial(self._parts.kept.keep_line, self._batch, result))
        return ""

    async def _ready(self, line: AskedLine, trace: TraceId, *, target: Target | None = None) -> _Ready | str:
        """Args: target: the line was handed to it before: it is only decoded again, and goes nowhere else."""
        parts = self._parts
        call = await call_of(parts, self._ctx, self._batch, line, trace=trace, may_store=self._limits.store_responses)
        request, options = call.asked.request, call.asked.options
        if options.get("previous") or options.get("conversation"):
            # It belongs between others that are being made.
            return "conversation"
        if call.release is None:
            route = parts.gateway.route(request.model)
        else:
            if has_knowledge(call.release):
                return "documents"
            if request.only:
                return "refused"
            route = RouteSpec.model_validate(call.release.components["route"], extra="ignore")
            if target is None:
                await parts.guardrails.check_input(call.ctx, call.release, request.last_user_text)
            request = for_app(call.ctx, request, call.release)
        pressure = parts.cost.open(call.ctx, call.release, tags=request.tags).pressure()
        prepared = prepare(parts.gateway, call.ctx, request, route, pressure=pressure, target=target)
        return prepared if isinstance(prepared, str) else _Ready(call, prepared)

    async def _reserve(self, ready: _Ready) -> Handed:
        call, (target, lane, _, estimate) = ready.call, ready.prepared
        costs = self._parts.cost
        discount = costs.prices.batch_discount(target.provider, target.model, lane.terms.discount)
        bill = costs.open(call.ctx, call.release, tags=call.asked.request.tags)
        return await costs.hand_over(bill, target.provider, target.model, estimate, discount)

    async def _send_all(self, chunks: dict[Target, _Chunk]) -> None:
        for target in list(chunks):
            await self._send(target, chunks[target])
            del chunks[target]

    async def _send(self, target: Target, chunk: _Chunk) -> None:
        holds = [Hold(number, "", trace, handed.stored()) for number, trace, handed in chunk.handed]
        lane = await self._store.open_lane(
            self._batch, self._limits.home, provider=target.provider, model=target.model, holds=holds
        )
        for _, _, handed in chunk.handed:
            handed.let_go(self._parts.cost)
        chunk.handed.clear()
        await self._advance(lane, lines=chunk.lines)
        await self._store.tell(self._batch)

    # --- and back ----------------------------------------------------------------------------------------------------

    async def turn(self) -> list[AskedLine]:
        """Go on with every lane that is due; gives lines that are ordinary calls from now on."""
        for lane in await self._store.lanes(self._batch):
            if lane.state != "closed" and lane.next_at <= now():
                await self._advance(lane)
        await self._store.tell(self._batch)
        returned, self._returned = self._returned, []
        return await self._as_ordinary(returned, "batch_lane_failed")

    async def wait_s(self) -> float | None:
        """Seconds until the next turn; None when providers have no lines of this batch any more."""
        return await wait_of(self._store, self._batch)

    async def stop(self) -> None:
        """Ask every provider to stop. Turns go on until each has: what was answered meanwhile is paid for."""
        for lane in await self._store.lanes(self._batch):
            due = lane.next_at <= now() or not lane.failures
            if lane.is_open and lane.state not in {"cancelling", "ended"} and due:
                async with self._guarded(lane, _STEP_S):
                    await self._stop_lane(lane)

    async def _stop_lane(self, lane: KeptLane) -> None:
        api = lane_of(self._parts.gateway, lane.provider)
        if api is None:
            await self._give_back(lane, "provider_removed")
            return
        remote = lane.remote
        if lane.state == "creating":
            found = await api.find(self._ctx, lane.id)
            remote = found.remote if found is not None else remote
        if not remote.batch:
            await self._give_back(lane, "")
            return
        await api.cancel(self._ctx, remote)
        soon = now() + timedelta(seconds=self._limits.poll_s)
        await self._store.change(lane, state="cancelling", remote=remote, looks=0, next_at=soon)

    async def _as_ordinary(self, lines: Sequence[AskedLine], code: str) -> list[AskedLine]:
        """The lines, or none when the caller would rather have no answer than pay the full price."""
        if self._batch.lane != "half-price":
            return list(lines)
        if not self._running.stopped:
            hint = "send the batch again with lane auto, or see the batch's interlock.lanes for the reason"
            error = InvalidInput("no provider's batch API answered this line", code=code, hint=hint)
            for line in lines:
                await self._refuse(line, error)
        return []

    async def _advance(self, lane: KeptLane, *, lines: Sequence[LaneLine] | None = None) -> None:
        """Take steps until the provider must be waited for.

        Args:
            lines: what to send, when this worker has just made it.
        """
        fresh = lines is not None
        while lane.state != "closed":
            before = lane.state
            limit = _TAKE_S if lane.state == "ended" else _STEP_S
            async with self._guarded(lane, limit):
                lane = await self._step(lane, lines, fresh=fresh)
            if lane.state == before or (lane.next_at > now() and lane.is_open):
                return

    @asynccontextmanager
    async def _guarded(self, lane: KeptLane, limit_s: float) -> AsyncIterator[None]:
        """A provider's failure is noted, and the step is taken again later."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            slow = Unavailable(f"provider {lane.provider!r} took too long", code="provider_timeout")
            await self._failed(lane, slow)
        except (Unavailable, NotFound) as error:
            if error.code == "batch_not_found" or (isinstance(error, Unavailable) and _is_ours(error)):
                raise
            await self._failed(lane, error)
        except InterlockError as error:
            await self._failed(lane, error)

    async def _step(self, lane: KeptLane, lines: Sequence[LaneLine] | None, *, fresh: bool) -> KeptLane:
        api = lane_of(self._parts.gateway, lane.provider)
        if api is None:
            return await self._give_back(lane, "provider_removed")
        ctx, store = self._ctx, self._store
        match lane.state:
            case "new":
                lines = lines if lines is not None else await self._encoded(lane, api)
                remote = None if fresh and not lane.failures else await api.find_upload(ctx, lane.id)
                remote = remote or await api.upload(ctx, lane.id, lines, lane.model)
                return await store.change(lane, state="uploaded", remote=remote, failures=0)
            case "uploaded":
                lane = await store.change(lane, state="creating")
                return await self._create(lane, api, lines)
            case "creating":
                found = await api.find(ctx, lane.id)
                return await (self._create(lane, api, lines) if found is None else self._stands(lane, found))
            case "working" | "cancelling":
                return await self._stands(lane, await api.look(ctx, lane.remote))
            case "ended":
                return await self._take(lane, api)
            case _:
                return await remove(self._store, ctx, lane, api)

    async def _create(self, lane: KeptLane, api: BatchLane, lines: Sequence[LaneLine] | None) -> KeptLane:
        lines = lines if lines is not None else await self._encoded(lane, api)
        try:
            standing = await api.create(self._ctx, lane.id, lane.remote, lines, lane.model)
        except LimitExceeded:
            # A refusal: nothing exists, and there is nothing to find out.
            await self._store.change(lane, state="uploaded")
            raise
        return await self._stands(lane, standing)

    async def _stands(self, lane: KeptLane, standing: Standing) -> KeptLane:
        remote = Remote(
            standing.remote.batch or lane.remote.batch,
            standing.remote.input or lane.remote.input,
            standing.remote.outputs,
        )
        if standing.state == "failed":
            lane = await self._store.change(lane, remote=remote)
            return await self._give_back(lane, standing.reason)
        if standing.state == "ended":
            return await self._store.change(lane, state="ended", remote=remote, failures=0)
        if lane.state == "cancelling" and lane.looks >= _MOST_CANCEL_LOOKS:
            return await self._give_back(lane, "not_stopped")
        state = "cancelling" if lane.state == "cancelling" else "working"
        wait_s = self._limits.poll_s * min(1.5**lane.looks, _SLOWEST)
        return await self._store.change(
            lane,
            state=state,
            remote=remote,
            failures=0,
            looks=lane.looks + 1,
            next_at=now() + timedelta(seconds=wait_s),
        )

    async def _failed(self, lane: KeptLane, error: InterlockError) -> None:
        lane = next(row for row in await self._store.lanes(self._batch) if row.id == lane.id)
        passing = error.retryable or isinstance(error, LimitExceeded)
        failures = lane.failures + 1
        _log.warning("batch lane %s: %s failed at %s: %s", lane.id, lane.provider, lane.state, error.code)
        if lane.state in {"new", "uploaded", "creating"}:
            # Whether one that nobody answered for exists is found out before its lines are asked elsewhere.
            if not passing or (lane.state != "creating" and failures >= _MOST_FAILURES):
                reason = "no_batch_api" if isinstance(error, NotFound) else error.code
                self._refusing[lane.provider] = reason
                lane = await self._give_back(lane, reason)
                await self._advance(lane)
                return
        elif isinstance(error, NotFound) and lane.is_open:
            await self._give_back(lane, "provider_batch_lost")
            return
        wait_s = self._limits.poll_s * min(2.0 ** min(failures, 10), _SLOWEST)
        wait_s = max(wait_s, error.retry_after_s or 0.0)
        await self._store.change(lane, failures=failures, next_at=now() + timedelta(seconds=wait_s))

    async def _give_back(self, lane: KeptLane, reason: str) -> KeptLane:
        """Its lines are ordinary ones again, and nothing is reserved for them."""
        await self._back(lane, await self._store.holds(lane))
        return await self._store.change(lane, state="taken", reason=reason[:80], failures=0, next_at=now())

    async def _back(self, lane: KeptLane, holds: Sequence[Hold]) -> None:
        dropped = await self._store.drop(lane, holds)
        self._returned += [self._lines[hold.number] for hold in dropped if hold.number in self._lines]
        for hold in dropped:
            await Handed.read(hold.held).put_right(self._parts.cost)

    async def _encoded(self, lane: KeptLane, api: BatchLane) -> list[LaneLine]:
        """The lines of a lane once more: the worker that made them is gone."""
        found = []
        target = Target(lane.provider, lane.model)
        for hold in await self._store.holds(lane):
            ready = await self._ready(self._lines[hold.number], hold.trace, target=target)
            if isinstance(ready, str):
                raise InvalidInput("a line cannot be handed over any more", code=ready)
            found.append(LaneLine(hold.number, api.encode(ready.prepared.request, lane.model)))
        return found

    async def _take(self, lane: KeptLane, api: BatchLane) -> KeptLane:
        """Write each line's result once; what has none goes back."""
        holds = {hold.number: hold for hold in await self._store.holds(lane)}
        back: list[Hold] = []
        if holds:
            results = api.results(self._ctx, lane.id, lane.remote, 2 * lane.lines + 100)
            async with aclosing(results) as rows:
                async for result in rows:
                    # One that is there twice was settled by the first, and one that was never sent has no hold.
                    hold = holds.pop(result.number, None)
                    if hold is not None and not await self._settle(lane, api, hold, result):
                        back.append(hold)
        await self._back(lane, [*back, *holds.values()])
        return await self._store.change(lane, state="taken", failures=0, next_at=now())

    async def _settle(self, lane: KeptLane, api: BatchLane, hold: Hold, result: LaneResult) -> bool:
        """Write a line's result and charge it; False when it is to be asked once more."""
        line = self._lines[hold.number]
        error = result.error
        if result.undone or (error is not None and (error.retryable or isinstance(error, LimitExceeded))):
            return False
        handed = Handed.read(hold.held)
        if result.body is None:
            told = error or Unavailable("the provider did not answer this line", code="provider_incomplete")
            await self._keep(refused(self._batch, line, told), handed)
            return True
        events: list[ChatEvent] = []
        try:
            ready = await self._ready(line, hold.trace, target=Target(lane.provider, lane.model))
            if isinstance(ready, str):
                raise InvalidInput("the app of this line has become another", code=ready)
            answer = api.events(ready.prepared.request, lane.model, result.body)
            async with aclosing(answer) as decoded:
                events = [event async for event in decoded]
        except InterlockError as failed:
            if failed.retryable:
                return False
            self._charge(handed, events)
            await self._keep(refused(self._batch, line, failed), handed)
            return True
        answered = Answered(Replay(Target(lane.provider, lane.model), events), handed)
        kept = await self._keep_line_of(line, ready.call, hold.trace, answered)
        if handed.entry is None:
            self._charge(handed, events)
        await self._keep(kept, handed)
        return True

    async def _keep_line_of(self, line: AskedLine, call: LineCall, trace: TraceId, answered: Answered) -> Line:
        """The result of the ordinary flow, with the provider's answer in the model's place."""
        known = None
        if self._batch.endpoint == "/v1/responses":
            try:
                known = (await self._parts.kept.response(call.ctx, response_id(trace))).response
            except NotFound:
                known = None
        keep = call.keep if known is None else None
        try:
            flow = Responding(self._parts, call.ctx, call.wire, call.asked, call.release, keep=keep, answered=answered)
            body = await flow.whole()
        except InterlockError as error:
            return refused(self._batch, line, error)
        except Exception as error:  # noqa: BLE001 - a border: one line must not end the batch
            _log.error("line %d of %s failed: %s", line.number, self._batch.id, type(error).__name__, exc_info=error)
            told = InterlockError("something went wrong here; the server's log has the details")
            return refused(self._batch, line, told)
        return Line(line.number, True, written(self._batch, line, 200, dict(known or body)))

    def _charge(self, handed: Handed, events: Sequence[ChatEvent]) -> None:
        """The provider answered and is paid, though nobody is shown the answer."""
        said = next((event.usage for event in events if isinstance(event, Finish)), None)
        guess = Usage(handed.record.input_tokens, handed.record.output_tokens, estimated=True)
        usage = said if said is not None and said.is_plausible else guess
        self._parts.cost.charge_handed(handed, usage, outcome="error")

    async def _keep(self, line: Line, handed: Handed) -> None:
        """One transaction: the result, the charge, the end of the reservation."""
        step, was_there = self._store.settled(self._batch, line.number, handed.book)
        await self._running.stored(partial(self._parts.kept.keep_line, self._batch, line, also=step))
        if was_there():
            await handed.put_right(self._parts.cost)


def _is_ours(error: Unavailable) -> bool:
    """True for our own database, disk or secret store: the whole batch waits, and no provider is at fault."""
    return not error.code.startswith("provider_")


async def wait_of(store: KeptLanes, batch: Batch) -> float | None:
    """Seconds until a lane of the batch is due; None when none has lines."""
    due = [lane.next_at for lane in await store.lanes(batch) if lane.is_open]
    return max(0.0, (min(due) - now()).total_seconds()) if due else None


async def remove(store: KeptLanes, ctx: Context, lane: KeptLane, api: BatchLane) -> KeptLane:
    """Delete what is left of a lane at its provider."""
    remote = lane.remote
    if not remote.batch and remote.input and lane.reason != "no_batch_api":
        # Its creation may have gone through without our being told.
        found = await api.find(ctx, lane.id)
        if found is not None:
            remote = found.remote
            await api.cancel(ctx, remote)
    await api.remove(ctx, remote)
    return await store.change(lane, state="closed", failures=0)


async def clean_up(parts: Parts, base: Context, home: TenantId) -> int:
    """Stop and delete at providers what batches left there that have ended or are gone; gives the number of lanes.

    Args:
        base: whose trace sink is used.
    """
    store = KeptLanes(parts.kept)
    cleaned = 0
    for lane in await store.left_behind(home):
        ctx = context_of(Context(lane.tenant, base.principal, sink=base.sink), new_trace_id())
        for hold in await store.drop(lane, await store.holds(lane)):
            await Handed.read(hold.held).put_right(parts.cost)
        api = lane_of(parts.gateway, lane.provider)
        try:
            if api is None:
                await store.change(lane, state="closed", reason="provider_removed")
            else:
                async with asyncio.timeout(_STEP_S):
                    if lane.is_open and lane.remote.batch:
                        await api.cancel(ctx, lane.remote)
                    await remove(store, ctx, lane, api)
            cleaned += 1
        except (InterlockError, TimeoutError) as error:
            code = error.code if isinstance(error, InterlockError) else "provider_timeout"
            _log.warning("batch lane %s: %s was not cleaned up: %s", lane.id, lane.provider, code)
            wait = timedelta(seconds=60.0 * 2.0 ** min(lane.failures, 10))
            await store.change(lane, failures=lane.failures + 1, next_at=now() + wait)
    await store.forget_closed(home)
    return cleaned
