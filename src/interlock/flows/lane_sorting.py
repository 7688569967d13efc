"""Which lines of a batch go to providers' batch APIs: each is checked, reserved for, and joins others of its target."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from interlock.core.errors import BudgetExceeded, InterlockError, LimitExceeded
from interlock.core.ids import TraceId, new_trace_id
from interlock.cost.handed import Handed
from interlock.flows.batch_lines import AskedLine
from interlock.flows.lane_run import LaneRun, Ready
from interlock.gateway.lanes.ports import BatchLane, LaneLine
from interlock.gateway.types import Target

__all__ = ["Chunk", "Sorting"]

_PAUSE_S = 5.0


@dataclass(slots=True)
class Chunk:
    """Lines of one target that are about to be handed over."""

    lane: BatchLane
    lines: list[LaneLine] = field(default_factory=list)
    handed: list[tuple[int, TraceId, Handed]] = field(default_factory=list)
    size: int = 0


class Sorting:
    """The lines of one batch, once.

    Args:
        send: takes a chunk over, its reservations included.
        refusing: providers that did not take a batch of this one, and why; looked at for every line.
    """

    def __init__(
        self, run: LaneRun, send: Callable[[Target, Chunk], Awaitable[None]], refusing: Mapping[str, str]
    ) -> None:
        self._run = run
        self._send = send
        self._refusing = refusing

    async def sort(self, lines: Sequence[AskedLine], why: dict[str, int]) -> list[AskedLine]:
        """Hand over what can be; gives the others, and counts in `why` the reasons."""
        ordinary: list[AskedLine] = []
        chunks: dict[Target, Chunk] = {}
        try:
            for line in lines:
                # Nothing of it need wait for anything, and others want their turn.
                await asyncio.sleep(0)
                if self._run.running.stopped:
                    break
                reason = await self._add(line, chunks)
                if reason:
                    why[reason] = why.get(reason, 0) + 1
                    ordinary.append(line)
            if not self._run.running.stopped:
                await self._send_all(chunks)
        finally:
            for chunk in chunks.values():
                for _, _, handed in chunk.handed:
                    handed.take_back(self._run.parts.cost)
        return ordinary

    async def _add(self, line: AskedLine, chunks: dict[Target, Chunk]) -> str:
        """Reserve for a line and put it with the others of its target; or why it must be an ordinary call."""
        while True:
            trace = new_trace_id()
            try:
                ready = await self._run.ready(line, trace)
                if isinstance(ready, str):
                    return ready
                target, lane = ready.prepared.target, ready.prepared.lane
                if target.provider in self._refusing:
                    return self._refusing[target.provider]
                body = lane.encode(ready.prepared.request, target.model)
                size = len(json.dumps(body))
            except InterlockError as error:
                if self._run.batch.lane == "half-price":
                    await self._run.refuse(line, error)
                    return ""
                # The ordinary call says so in its own words, and leaves its line in the audit log.
                return "refused"
            if size > lane.terms.max_bytes // 2:
                return "size"
            chunk = chunks.get(target)
            if chunk and (len(chunk.lines) >= lane.terms.max_lines or chunk.size + size > lane.terms.max_bytes):
                await self._send(target, chunk)
                del chunks[target]
                chunk = None
            try:
                handed = await self._reserve(ready)
            except BudgetExceeded as error:
                await self._run.refuse(line, error)
                return ""
            except LimitExceeded as error:
                # What there was room for goes now; a reservation that waits holds up others.
                await self._send_all(chunks)
                await self._run.running.pause(line.model, error.retry_after_s or _PAUSE_S)
                if self._run.running.stopped:
                    return ""
                continue
            chunk = chunk or chunks.setdefault(target, Chunk(lane))
            chunk.lines.append(LaneLine(line.number, body))
            chunk.handed.append((line.number, trace, handed))
            chunk.size += size
            return ""

    async def _reserve(self, ready: Ready) -> Handed:
        call, (target, lane, _, estimate) = ready.call, ready.prepared
        costs = self._run.parts.cost
        discount = costs.prices.batch_discount(target.provider, target.model, lane.terms.discount)
        bill = costs.open(call.ctx, call.release, tags=call.asked.request.tags)
        return await costs.hand_over(bill, target.provider, target.model, estimate, discount)

    async def _send_all(self, chunks: dict[Target, Chunk]) -> None:
        for target in list(chunks):
            await self._send(target, chunks[target])
            del chunks[target]
