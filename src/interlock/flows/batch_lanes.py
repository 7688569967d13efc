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
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

from interlock.core.audit import AuditEvent
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, LimitExceeded, NotFound, Unavailable
from interlock.core.finishing import finished
from interlock.cost.handed import Handed
from interlock.flows.batch_lines import AskedLine
from interlock.flows.lane_cleaning import remove
from interlock.flows.lane_run import LaneLimits, LaneRun, Running, is_ours, may_go
from interlock.flows.lane_sorting import Chunk, Sorting
from interlock.flows.lane_taking import Taking
from interlock.flows.parts import Parts
from interlock.gateway.handing import lane_of
from interlock.gateway.kept import Batch
from interlock.gateway.kept_lanes import Hold, KeptLane, KeptLanes
from interlock.gateway.lanes.ports import BatchLane, LaneLine, Remote, Standing
from interlock.gateway.types import Target

__all__ = ["HalfPrice", "wait_of"]

_log = logging.getLogger("interlock.batch")
_STEP_S = 600.0
_TAKE_S = 3600.0
_SLOWEST = 20.0
"""The longest wait between two looks, in first waits."""
_MOST_FAILURES = 6
"""Of handing over, in a row, before the lines are ordinary calls instead."""
_MOST_CANCEL_LOOKS = 40
"""At a provider that was asked to stop: some hours, after which its lines are given up."""


class HalfPrice:
    """The lanes of one run of one batch."""

    def __init__(
        self, parts: Parts, ctx: Context, running: Running, limits: LaneLimits, lines: Iterable[AskedLine]
    ) -> None:
        self._store = KeptLanes(parts.kept)
        self._run = LaneRun(parts, ctx, running, limits, {line.number: line for line in lines}, self._store)
        self._returned: list[AskedLine] = []
        self._refusing: dict[str, str] = {}
        """Providers that did not take a batch of this one, and why."""
        self._sorting = Sorting(self._run, self._send, self._refusing)
        self._taking = Taking(self._run)

    # --- there -------------------------------------------------------------------------------------------------------

    async def begin(self, lines: Sequence[AskedLine]) -> list[AskedLine]:
        """Hand over what can be; gives the lines that must be ordinary calls.

        A batch whose lines were sorted out before is left as it is: what has neither a result nor a hold is ordinary.
        """
        held = await self._store.held_lines(self._run.batch)
        for lane in await self._store.lanes(self._run.batch):
            if lane.reason:
                self._refusing[lane.provider] = lane.reason
        rest = [line for line in lines if line.number not in held]
        if (self._run.batch.lanes or {}).get("sorted"):
            return await self._as_ordinary(rest, "batch_lane_failed")
        why: dict[str, int] = {}
        reason = may_go(self._run.batch)
        if reason:
            ordinary = rest
            why = {reason: len(rest)} if rest else {}
        else:
            ordinary = await self._sorting.sort(rest, why)
            ordinary += self._returned
            self._returned = []
        if self._run.running.stopped:
            return []
        await self._store.tell(self._run.batch, sorted=True, ordinary=why)
        return await self._as_ordinary(ordinary, "no_batch_api")

    async def _send(self, target: Target, chunk: Chunk) -> None:
        holds = [Hold(number, "", trace, handed.stored()) for number, trace, handed in chunk.handed]
        lane = await self._store.open_lane(
            self._run.batch, self._run.limits.home, provider=target.provider, model=target.model, holds=holds
        )
        for _, _, handed in chunk.handed:
            handed.let_go(self._run.parts.cost)
        chunk.handed.clear()
        await self._audit(lane)
        await self._advance(lane, lines=chunk.lines)
        await self._store.tell(self._run.batch)

    async def _audit(self, lane: KeptLane) -> None:
        ctx = self._run.ctx
        details: dict[str, str | int | bool] = {"provider": lane.provider, "model": lane.model, "lines": lane.lines}
        user = ctx.end_user.id if ctx.end_user else ""
        event = AuditEvent(
            ctx.tenant, ctx.principal.id, "batch.hand_over", lane.batch, "ok", details, end_user=user,
            trace_id=ctx.trace_id,
        )  # fmt: skip
        await self._run.parts.governance.append(event)

    # --- and back ----------------------------------------------------------------------------------------------------

    async def turn(self) -> list[AskedLine]:
        """Go on with every lane that is due; gives lines that are ordinary calls from now on."""
        for lane in await self._store.lanes(self._run.batch):
            if lane.state != "closed" and lane.next_at <= now():
                await self._advance(lane)
        await self._store.tell(self._run.batch)
        returned, self._returned = self._returned, []
        return await self._as_ordinary(returned, "batch_lane_failed")

    async def wait_s(self) -> float | None:
        """Seconds until the next turn; None when providers have no lines of this batch any more."""
        return await wait_of(self._store, self._run.batch)

    async def stop(self) -> None:
        """Ask every provider to stop. Turns go on until each has: what was answered meanwhile is paid for."""
        for lane in await self._store.lanes(self._run.batch):
            due = lane.next_at <= now() or not lane.failures
            if lane.is_open and lane.state not in {"cancelling", "ended"} and due:
                async with self._guarded(lane, _STEP_S):
                    await self._stop_lane(lane)

    async def _stop_lane(self, lane: KeptLane) -> None:
        api = lane_of(self._run.parts.gateway, lane.provider)
        if api is None:
            await self._give_back(lane, "provider_removed")
            return
        remote = lane.remote
        if lane.state == "creating":
            found = await api.find(self._run.ctx, lane.id, lane.lines)
            remote = found.remote if found is not None else remote
        if not remote.batch:
            await self._give_back(lane, "")
            return
        await api.cancel(self._run.ctx, remote)
        soon = now() + timedelta(seconds=self._run.limits.poll_s)
        await self._store.change(lane, state="cancelling", remote=remote, looks=0, next_at=soon)

    async def _as_ordinary(self, lines: Sequence[AskedLine], code: str) -> list[AskedLine]:
        """The lines, or none when the caller would rather have no answer than pay the full price."""
        if self._run.batch.lane != "half-price":
            return list(lines)
        if not self._run.running.stopped:
            hint = "send the batch again with lane auto, or see the batch's interlock.lanes for the reason"
            error = InvalidInput("no provider's batch API answered this line", code=code, hint=hint)
            for line in lines:
                await self._run.refuse(line, error)
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
            # A reload leaves the provider open until its answer is there.
            with self._run.parts.gateway.hold():
                async with asyncio.timeout(limit_s):
                    yield
        except TimeoutError:
            slow = Unavailable(f"provider {lane.provider!r} took too long", code="provider_timeout")
            await self._failed(lane, slow)
        except (Unavailable, NotFound) as error:
            if error.code == "batch_not_found" or is_ours(error):
                raise
            await self._failed(lane, error)
        except InterlockError as error:
            await self._failed(lane, error)

    async def _step(self, lane: KeptLane, lines: Sequence[LaneLine] | None, *, fresh: bool) -> KeptLane:
        api = lane_of(self._run.parts.gateway, lane.provider)
        if api is None:
            return await self._give_back(lane, "provider_removed")
        ctx, store = self._run.ctx, self._store
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
                found = await api.find(ctx, lane.id, lane.lines)
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
            standing = await api.create(self._run.ctx, lane.id, lane.remote, lines, lane.model)
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
        wait_s = self._run.limits.poll_s * min(1.5**lane.looks, _SLOWEST)
        return await self._store.change(
            lane,
            state=state,
            remote=remote,
            failures=0,
            looks=lane.looks + 1,
            next_at=now() + timedelta(seconds=wait_s),
        )

    async def _failed(self, lane: KeptLane, error: InterlockError) -> None:
        lane = next(row for row in await self._store.lanes(self._run.batch) if row.id == lane.id)
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
        if lane.is_open and self._run.running.stopped and failures >= _MOST_CANCEL_LOOKS:
            await self._give_back(lane, "not_stopped")
            return
        wait_s = self._run.limits.poll_s * min(2.0 ** min(failures, 10), _SLOWEST)
        wait_s = max(wait_s, error.retry_after_s or 0.0)
        await self._store.change(lane, failures=failures, next_at=now() + timedelta(seconds=wait_s))

    async def _give_back(self, lane: KeptLane, reason: str) -> KeptLane:
        """Its lines are ordinary ones again, and nothing is reserved for them."""
        await self._back(lane, await self._store.holds(lane))
        return await self._store.change(lane, state="taken", reason=reason[:80], failures=0, next_at=now())

    async def _back(self, lane: KeptLane, holds: Sequence[Hold]) -> None:
        await finished(self._dropped(lane, holds))

    async def _dropped(self, lane: KeptLane, holds: Sequence[Hold]) -> None:
        dropped = await self._store.drop(lane, holds)
        self._returned += [self._run.lines[hold.number] for hold in dropped if hold.number in self._run.lines]
        for hold in dropped:
            await Handed.read(hold.held).put_right(self._run.parts.cost)

    async def _encoded(self, lane: KeptLane, api: BatchLane) -> list[LaneLine]:
        """The lines of a lane once more: the worker that made them is gone."""
        found = []
        target = Target(lane.provider, lane.model)
        for hold in await self._store.holds(lane):
            await asyncio.sleep(0)
            ready = await self._run.ready(self._run.lines[hold.number], hold.trace, target=target)
            if isinstance(ready, str):
                raise InvalidInput("a line cannot be handed over any more", code=ready)
            found.append(LaneLine(hold.number, api.encode(ready.prepared.request, lane.model)))
        return found

    async def _take(self, lane: KeptLane, api: BatchLane) -> KeptLane:
        """Write each line's result once; what has none goes back."""
        holds = {hold.number: hold for hold in await self._store.holds(lane)}
        back: list[Hold] = []
        if holds:
            results = api.results(self._run.ctx, lane.id, lane.remote, 2 * lane.lines + 100)
            async with aclosing(results) as rows:
                async for result in rows:
                    # One that is there twice was settled by the first, and one that was never sent has no hold.
                    hold = holds.pop(result.number, None)
                    if hold is not None and not await self._taking.settle(lane, api, hold, result):
                        back.append(hold)
        await self._back(lane, [*back, *holds.values()])
        return await self._store.change(lane, state="taken", failures=0, next_at=now())


async def wait_of(store: KeptLanes, batch: Batch) -> float | None:
    """Seconds until a lane of the batch is due; None when none has lines."""
    due = [lane.next_at for lane in await store.lanes(batch) if lane.is_open]
    return max(0.0, (min(due) - now()).total_seconds()) if due else None
