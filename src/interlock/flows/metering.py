"""Puts what a model stream used on the bill, on every exit, also when it broke off."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from interlock.core.context import Context
from interlock.core.messages import ChatEvent, ChatRequest, TextDelta, ToolCallDelta, Usage
from interlock.cost.service import Bill
from interlock.gateway.service import Gateway, Served
from interlock.gateway.types import RouteSpec

__all__ = ["StreamModel", "metered"]

StreamModel = Callable[[Context, ChatRequest], AsyncGenerator[ChatEvent, None]]


def metered(gateway: Gateway, bill: Bill, route: RouteSpec | None = None) -> StreamModel:
    """`gateway.stream` whose usage goes to `bill`.

    A stream that broke off has no usage figure from its provider: what was sent is estimated at four characters a
    token and marked as an estimate, because the provider charges for it all the same.
    """

    async def stream(ctx: Context, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        served = Served()
        characters = 0
        try:
            async with aclosing(gateway.stream(ctx, request, route=route, served=served)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        characters += len(event.text)
                    elif isinstance(event, ToolCallDelta):
                        characters += len(event.arguments)
                    yield event
        finally:
            if served.target is not None:
                usage = served.usage or Usage(
                    -(-sum(len(message.text) for message in request.messages) // 4),
                    -(-characters // 4),
                    estimated=True,
                )
                bill.add(served.target.provider, served.target.model, usage)

    return stream
