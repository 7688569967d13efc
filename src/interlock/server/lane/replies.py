"""The bytes that the lane itself puts into an answer: heads, our own field, errors."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from interlock.core.errors import InterlockError
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.flows.respond import codec

if TYPE_CHECKING:
    from interlock.server.lane.call import LaneCall

__all__ = ["extension", "last_event", "refusal", "response_head"]


def response_head(call: LaneCall, kind: str, at: float) -> bytes:
    """The head without its framing; about limits it says what `http.callers.identity_of` says."""
    hold = call.hold
    near = ""
    if hold.near:
        names = ", ".join(hold.near)[:1000]
        near = f"x-interlock-limit-warning: {names}\r\n" if names.isascii() else ""
    return call.client.status_line() + (
        f"content-type: {kind}\r\nx-request-id: {call.request_id}\r\nx-interlock-trace-id: {call.trace_id}\r\n"
        f"x-interlock-route: {call.lane.name}{call.passed}\r\n{hold.terms.quota(at)}{near}"
        "x-content-type-options: nosniff\r\nreferrer-policy: same-origin\r\n"
    ).encode("ascii")


def extension(call: LaneCall, usage: Usage) -> bytes:
    """The field ``interlock`` of an answer: what `flows.views.receipt_view` says."""
    hold = call.hold
    if hold.usage is None:
        target = call.lane.target
        cost = call.server.costs.prices.price(target.provider, target.model, usage)
    else:
        cost = None if hold.cost is None else Money(hold.cost)
    price = "null" if cost is None else f'"{cost.plain()}"'
    return (
        f'{{"trace_id":"{call.trace_id}","release":null,"channel":null,"model":{call.lane.quoted},"cost_usd":{price}}}'
    ).encode()


def refusal(call: LaneCall, error: InterlockError) -> bytes:
    """A whole answer that says why there is none, after which the connection is closed."""
    reply = codec(call.wire.name).fault(error, call.request_id)
    body = json.dumps(reply.body, ensure_ascii=False).encode()
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\n"
        f"x-request-id: {call.request_id}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def last_event(call: LaneCall, error: InterlockError) -> bytes:
    """The event that tells a client what went wrong in mid-stream, and the end of the body."""
    reply = codec(call.wire.name).fault(error, call.request_id)
    event = b"event: error\n" if call.wire.name == "anthropic.messages" else b""
    told = b"%bdata: %b\n\n" % (event, json.dumps(reply.body, ensure_ascii=False).encode())
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(told), told)
