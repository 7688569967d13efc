"""Pass an audio or image call through to a provider: admitted, charged, traced and audited, its body untouched."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, TooLarge
from interlock.core.messages import Usage
from interlock.flows.attempts import Operation, line, provider_for
from interlock.flows.parts import Parts
from interlock.gateway.ports import RelayCall, Relays
from interlock.gateway.service import Served

__all__ = ["RelayHead", "relay", "used_of"]

_MAX_ANSWER_BYTES = 200_000_000
_TAIL_BYTES = 32_768
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')


class RelayHead(NamedTuple):
    """What comes before the body."""

    status: int
    content_type: str


async def relay(
    parts: Parts, ctx: Context, call: RelayCall, model: str, *, served: Served | None = None
) -> AsyncGenerator[RelayHead | bytes, None]:
    """The head, then the body as it arrives. Closing it stops the provider's work.

    Falls back along a route until a body begins. What the provider says it used is charged; where it says nothing the
    call is in the ledger as unpriced. Raises: NotFound, InvalidInput, the provider's errors.
    """
    served = served or Served()
    operation = Operation(call.operation, f"{call.operation}.create")
    route = parts.gateway.route(model)
    estimate = Usage(len(call.body) // 1000 + 1, estimated=True, unmetered=True)
    async with line(parts, ctx, operation, model) as opened:
        opened.record.set(request_bytes=len(call.body))
        inner = opened.ctx.with_deadline(Deadline.after(route.total_timeout_s))
        last: InterlockError | None = None
        for target in parts.gateway.order(inner, route, pressure=opened.bill.pressure(), served=served):
            # mypy cannot see that a Protocol stands for the type of its implementations.
            provider = provider_for(parts, target, Relays, operation)  # type: ignore[type-abstract]
            began = False
            try:
                async with parts.gateway.attempt(inner, target, opened.bill, estimate, what=operation.name) as attempt:
                    answer = await provider.relay(attempt.ctx, call, target.model)
                    body = answer.body
                    tail, size = b"", 0
                    try:
                        attempt.first_token()
                        began = True
                        served.answered(target)
                        yield RelayHead(answer.status, answer.content_type)
                        async for piece in body:
                            size += len(piece)
                            if size > _MAX_ANSWER_BYTES:
                                raise TooLarge(f"the answer is over {_MAX_ANSWER_BYTES:,} bytes")
                            tail = (tail + piece)[-_TAIL_BYTES:]
                            yield piece
                    finally:
                        # It was served, also when the caller left in the middle of it.
                        attempt.charge(used_of(tail))
                        opened.record.set(answer_bytes=size)
                        await _close(body)
                return
            except InvalidInput as error:
                served.failed(target, error)
                raise
            except InterlockError as error:
                served.failed(target, error)
                if began:
                    raise
                last = error
        assert last is not None, "a route has a target"
        raise last


async def _close(body: AsyncIterator[bytes]) -> None:
    # Generators and bodies of connections can be closed; an iterator over bytes in memory need not.
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()


def used_of(tail: bytes) -> Usage:
    """Usage named near the end of a JSON answer; unmetered without one."""
    nothing = Usage(estimated=True, unmetered=True)
    found = list(_USAGE.finditer(tail))
    if not found:
        return nothing
    try:
        usage, _ = json.JSONDecoder().raw_decode(tail[found[-1].end() :].decode())
        inputs, outputs = usage.get("input_tokens"), usage.get("output_tokens")
    except (ValueError, RecursionError):
        return nothing
    if not isinstance(inputs, int) or not isinstance(outputs, int) or inputs < 0 or outputs < 0:
        return nothing
    return Usage(inputs, outputs)
