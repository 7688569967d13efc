"""Responses that remember: continue an earlier one, keep the new one when the caller and the settings want that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.flows.parts import Parts
from interlock.flows.respond import Keep
from interlock.gateway.inbound.openai_responses import turns_of
from interlock.gateway.kept import KeptResponse
from interlock.gateway.ports import Asked

__all__ = ["Continued", "continued"]

_MAX_ITEMS = 4_000


class Continued(NamedTuple):
    """A request with all that was said before, and how to keep its answer."""

    asked: Asked
    keep: Keep | None


async def continued(parts: Parts, ctx: Context, asked: Asked, *, may_store: bool) -> Continued:
    """Join a request with the response it continues.

    Args:
        may_store: the setting `gateway.store_responses`.

    Raises: NotFound: the earlier response is not there for this caller. InvalidInput: the conversation is too long.
    """
    items: list[dict[str, Any]] = list(asked.options["items"])
    previous = asked.options["previous"]
    request = asked.request
    if previous is not None:
        earlier = await parts.kept.response(ctx, previous, param="previous_response_id")
        items = [*earlier.items, *earlier.response["output"], *items]
        if len(items) > _MAX_ITEMS:
            raise InvalidInput(
                f"the conversation has more than {_MAX_ITEMS:,} items", param="previous_response_id", hint="start anew"
            )
        # The instructions of earlier requests do not hold for this one.
        own = tuple(message for message in request.messages[:1] if asked.options["echo"]["instructions"])
        request = replace(request, messages=(*own, *turns_of(items)))
    store = may_store and bool(asked.options["store"])
    options = {**asked.options, "items": items, "echo": {**asked.options["echo"], "store": store}}

    async def keep(document: Mapping[str, Any]) -> None:
        await parts.kept.keep_response(ctx, KeptResponse(items, dict(document)))

    return Continued(Asked(request, options), keep if store else None)
