"""One line of a batch: the call that it asks for, and the row that says what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.ids import TraceId, new_id
from interlock.core.release import Release
from interlock.flows.batch_lines import ENDPOINTS, AskedLine
from interlock.flows.parts import Parts
from interlock.flows.respond import Keep, codec
from interlock.flows.responses import continued
from interlock.gateway.kept import Batch, Line
from interlock.gateway.ports import Asked, Inbound

__all__ = ["LineCall", "call_of", "context_of", "refused", "response_id", "written"]

# Any in this module: JSON objects.


class LineCall(NamedTuple):
    """What a line asks for, decoded."""

    ctx: Context
    wire: Inbound
    asked: Asked
    keep: Keep | None
    release: Release | None
    documents: frozenset[str] = frozenset()
    """What that which it continues was made from."""


def response_id(trace: TraceId) -> str:
    """Of the response to a line of `/v1/responses`: who takes the line over finds it again."""
    return f"resp_{trace}"


def context_of(ctx: Context, trace: TraceId) -> Context:
    """The batch's context for one call."""
    return replace(ctx, deadline=Deadline.after(3600.0), request_id=new_id("req"), trace_id=trace)


async def call_of(
    parts: Parts, ctx: Context, batch: Batch, line: AskedLine, *, trace: TraceId, may_store: bool
) -> LineCall:
    """The call behind a line of any endpoint but embeddings.

    Args:
        ctx: of the batch's maker.
        may_store: the setting `gateway.store_responses`.

    Raises: InvalidInput, NotFound.
    """
    ctx = context_of(ctx, trace)
    wire = codec(ENDPOINTS[batch.endpoint])
    asked = wire.decode({**line.body, "stream": False})
    # Labels of the batch count as the caller's, besides those of the line.
    tags = {**batch.metadata, **asked.request.tags}
    asked = replace(asked, request=replace(asked.request, tags=tags))
    keep = None
    documents: frozenset[str] = frozenset()
    if wire.name == "openai.responses":
        if asked.options["background"]:
            raise InvalidInput("a line of a batch is not made in the background as well", param="background")
        if asked.options["file_search"] is not None:
            raise InvalidInput(
                "a line of a batch does not search", param=asked.options["file_search"].param, hint="ask /v1/responses"
            )
        asked = replace(asked, options={**asked.options, "id": response_id(trace)})
        joined = await continued(parts, ctx, asked, may_store=may_store)
        asked, keep, documents = joined.asked, joined.keep, joined.documents
    release = None
    if asked.request.model.startswith("app/"):
        release = await parts.releases.resolve(ctx, asked.request.model)
    return LineCall(ctx, wire, asked, keep, release, documents)


def refused(batch: Batch, line: AskedLine, error: InterlockError, charged: Sequence[Mapping[str, Any]] = ()) -> Line:
    """The result of a line that has no answer, as its endpoint would have said it."""
    wire = ENDPOINTS[batch.endpoint] or "openai.chat"
    fault = codec(wire).fault(error, "")
    return Line(line.number, False, written(batch, line, fault.status, dict(fault.body), charged))


def written(
    batch: Batch,
    line: AskedLine,
    status: int,
    body: dict[str, Any],
    charged: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A row of the output; `charged` is what was paid for answers to it that were lost."""
    lost = {"interlock": {"lost": list(charged)}} if charged else {}
    if batch.style == "anthropic":
        result = {"type": "succeeded", "message": body} if status == 200 else {"type": "errored", "error": body}
        return {"custom_id": line.custom_id, "result": result, **lost}
    response = {"status_code": status, "request_id": new_id("req"), "body": body}
    return {"id": new_id("batch_req"), "custom_id": line.custom_id, "response": response, "error": None, **lost}
