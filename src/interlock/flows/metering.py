"""Lets the gateway charge a request's bill for every call that served it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from interlock.core.context import Context
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.cost.service import Bill
from interlock.gateway.cache.types import CacheScope
from interlock.gateway.handing import Replay
from interlock.gateway.service import Gateway, Served
from interlock.gateway.types import RouteSpec

__all__ = ["StreamModel", "metered"]

StreamModel = Callable[[Context, ChatRequest], AsyncGenerator[ChatEvent, None]]


_NO_KNOWLEDGE = CacheScope()


def metered(
    gateway: Gateway,
    bill: Bill,
    route: RouteSpec | None = None,
    served: Served | None = None,
    *,
    knowledge: CacheScope = _NO_KNOWLEDGE,
    whole: bool = False,
    replay: Replay | None = None,
) -> StreamModel:
    """`gateway.stream` under the limits of `bill`, charged to it.

    Args:
        served: filled in by the call; of several calls, by the last.
        whole: nobody reads before the end.
        replay: see :meth:`interlock.gateway.service.Gateway.stream`.
        knowledge: snapshot, collection and documents that prompts are written from; app and release are the bill's.
    """
    scope = replace(knowledge, app=bill.app, release=bill.release.id if bill.release else None)

    def stream(ctx: Context, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        return gateway.stream(
            ctx, request, route=route, served=served, meter=bill, scope=scope, whole=whole, replay=replay
        )

    return stream
