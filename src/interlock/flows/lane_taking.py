"""Results of lines that a provider's batch API answered: each is written and charged once, by the ordinary flow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

from interlock.core.errors import InterlockError, InvalidInput, LimitExceeded, NotFound, Unavailable
from interlock.core.finishing import finished
from interlock.core.ids import TraceId
from interlock.core.messages import ChatEvent, Finish, Usage
from interlock.cost.handed import Handed
from interlock.flows.batch_line import LineCall, refused, response_id, written
from interlock.flows.batch_lines import AskedLine
from interlock.flows.chat import Answered
from interlock.flows.lane_run import LaneRun, is_ours
from interlock.flows.respond import Responding
from interlock.gateway.handing import Replay
from interlock.gateway.kept import Line
from interlock.gateway.kept_lanes import Hold, KeptLane
from interlock.gateway.lanes.ports import BatchLane, LaneResult
from interlock.gateway.types import Target

__all__ = ["Taking"]

_log = logging.getLogger("interlock.batch")


class Taking:
    """Of one run of one batch."""

    def __init__(self, run: LaneRun) -> None:
        self._run = run

    async def settle(self, lane: KeptLane, api: BatchLane, hold: Hold, result: LaneResult) -> bool:
        """Write a line's result and charge it; False when it is to be asked once more."""
        line = self._run.lines[hold.number]
        error = result.error
        if result.undone or (error is not None and (error.retryable or isinstance(error, LimitExceeded))):
            return False
        handed = Handed.read(hold.held)
        if result.body is None:
            told = error or Unavailable("the provider did not answer this line", code="provider_incomplete")
            await self._keep(refused(self._run.batch, line, told), handed)
            return True
        events: list[ChatEvent] = []
        try:
            ready = await self._run.ready(line, hold.trace, target=Target(lane.provider, lane.model))
            if isinstance(ready, str):
                raise InvalidInput("the app of this line has become another", code=ready)
            answer = api.events(ready.prepared.request, lane.model, result.body)
            async with aclosing(answer) as decoded:
                events = [event async for event in decoded]
        except InterlockError as failed:
            if is_ours(failed):
                raise
            if failed.retryable:
                return False
            self._charge(handed, events)
            await self._keep(refused(self._run.batch, line, failed), handed)
            return True
        except Exception as error:  # noqa: BLE001 - a border: one answer that nobody foresaw must not hold up the batch
            _log.error(
                "the answer to line %d of %s cannot be read: %s",
                line.number,
                self._run.batch.id,
                type(error).__name__,
                exc_info=error,
            )
            self._charge(handed, events)
            told = InterlockError("something went wrong here; the server's log has the details")
            await self._keep(refused(self._run.batch, line, told), handed)
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
        if self._run.batch.endpoint == "/v1/responses":
            try:
                known = await self._run.parts.kept.stored_response(call.ctx, response_id(trace))
            except NotFound:
                known = None
        keep = call.keep if known is None else None
        try:
            flow = Responding(
                self._run.parts, call.ctx, call.wire, call.asked, call.release, keep=keep, answered=answered
            )
            body = await flow.whole()
        except InterlockError as error:
            if is_ours(error):
                raise
            return refused(self._run.batch, line, error)
        except Exception as error:  # noqa: BLE001 - a border: one line must not end the batch
            _log.error(
                "line %d of %s failed: %s", line.number, self._run.batch.id, type(error).__name__, exc_info=error
            )
            told = InterlockError("something went wrong here; the server's log has the details")
            return refused(self._run.batch, line, told)
        row = written(self._run.batch, line, 200, body if known is None else dict(known.response))
        documents = call.documents | flow.documents if known is None else known.documents
        return Line(line.number, True, row, sorted(documents))

    def _charge(self, handed: Handed, events: Sequence[ChatEvent]) -> None:
        """The provider answered and is paid, though nobody is shown the answer."""
        said = next((event.usage for event in events if isinstance(event, Finish)), None)
        guess = Usage(handed.record.input_tokens, handed.record.output_tokens, estimated=True)
        usage = said if said is not None and said.is_plausible else guess
        self._run.parts.cost.charge_handed(handed, usage, outcome="error")

    async def _keep(self, line: Line, handed: Handed) -> None:
        """One transaction: the result, the charge, the end of the reservation. Then the counters are put right."""
        await finished(self._kept(line, handed))

    async def _kept(self, line: Line, handed: Handed) -> None:
        step, was_there = self._run.store.settled(self._run.batch, line.number, handed.book)
        await self._run.running.stored(partial(self._run.parts.kept.keep_line, self._run.batch, line, also=step))
        if was_there():
            await handed.put_right(self._run.parts.cost)
