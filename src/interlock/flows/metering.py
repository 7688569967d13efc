"""Lets the gateway charge a request's bill for every call that served it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from interlock.core.context import Context
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.cost.service import Bill
from interlock.gateway.service import Gateway, Served
from interlock.gateway.types import RouteSpec

__all__ = ["StreamModel", "metered"]

StreamModel = Callable[[Context, ChatRequest], AsyncGenerator[ChatEvent, None]]


def metered(gateway: Gateway, bill: Bill, route: RouteSpec | None = None, served: Served | None = None) -> StreamModel:
    """`gateway.stream` under the limits of `bill`, charged to it.

    Args:
        served: filled in by the call; of several calls, by the last.
    """

    def stream(ctx: Context, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        return gateway.stream(ctx, request, route=route, served=served, meter=bill)

    return stream
