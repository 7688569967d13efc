"""What is kept of a call on the lane: its span, its audit record, its place in the metrics, its access line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from interlock.core.audit import AuditEvent
from interlock.core.clock import Deadline
from interlock.core.context import Context, Notices
from interlock.core.ids import new_span_id
from interlock.core.trace import AttributeValue, Span, SpanStatus
from interlock.cost.types import Outcome
from interlock.server.access_log import AccessLine

if TYPE_CHECKING:
    from interlock.server.lane.call import LaneCall

__all__ = ["note"]


def note(call: LaneCall, outcome: Outcome, at: float) -> None:
    """Write down a call that is over: span, audit record, metrics, access line.

    Args:
        call: settled, or never charged.
        outcome: how it ended for the caller.
        at: monotonic seconds of its end.
    """
    server, lane, hold = call.server, call.lane, call.hold
    usage = hold.usage
    cost = 0 if usage is None else hold.cost
    principal = call.caller.principal
    attributes: dict[str, AttributeValue] = {
        "interlock.principal": principal.id,
        "interlock.request": call.request_id,
        "interlock.on_behalf_of": False,
        "interlock.lane": True,
        "gen_ai.operation.name": call.wire.operation,
        "gen_ai.provider.name": lane.target.provider,
        "gen_ai.request.model": call.asked,
    }
    inputs = outputs = 0
    if usage is not None:
        inputs, outputs = usage.input_tokens, usage.output_tokens
        attributes["gen_ai.response.model"] = lane.name
    attributes["gen_ai.usage.input_tokens"] = inputs
    attributes["gen_ai.usage.output_tokens"] = outputs
    details: dict[str, str | int | bool] = {"input_tokens": inputs, "output_tokens": outputs}
    if usage is None and call.settled:
        attributes["interlock.cost.unsettled"] = True
        details["cost"] = "unsettled"
    elif cost is None:
        attributes["interlock.cost.unpriced"] = True
        details["cost"] = "unpriced"
    else:
        attributes["interlock.cost.nano_usd"] = details["cost_nano_usd"] = cost
    state: SpanStatus = "ok"
    error, code, status = "", "ok", 200
    if outcome == "cancelled":
        state, error, code, status = "cancelled", "client_left", "client_left", 499
    elif call.failure is not None:
        error = code = call.failure.code
        state = "error"
        status = 200 if call.began else call.failure.status
    seconds = at - call.started
    tenant, trace_id = call.caller.tenant, call.trace_id
    ended_ns = hold.at_ns + int(seconds * 1e9)
    server.observe.emit(
        Span(
            trace_id,
            new_span_id(),
            None,
            tenant,
            call.wire.operation,
            hold.at_ns,
            ended_ns,
            state,
            error,
            attributes,
        )
    )
    server.governance.append_soon(
        AuditEvent(
            tenant,
            principal.id,
            call.wire.action,
            call.asked,
            code,
            details,
            "",
            trace_id,
            datetime.fromtimestamp(ended_ns / 1e9, UTC),
        )
    )
    server.count(call.client.path, status, seconds)
    if server.access_log is not None:
        told = Notices(call.asked)
        if usage is not None:
            told.charge(lane.name, inputs, outputs, cost)
        request = call.request_id
        caller = Context(
            tenant, principal, deadline=Deadline(call.until), request_id=request, trace_id=trace_id, notices=told
        )
        server.access_log.add(AccessLine(hold.at_ns / 1e9, "POST", call.client.path, status, seconds, caller, request))
