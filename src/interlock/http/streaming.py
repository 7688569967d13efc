"""Server-sent events that stop the work behind them when the client leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from interlock.core.errors import InterlockError
from interlock.http.errors import body_of

__all__ = ["ClientLeft", "EventStream", "while_connected"]

T = TypeVar("T")


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` gives; it is cancelled when the client leaves. The request's body must have been read.

    Raises: ClientLeft, and whatever `work` raises.
    """
    done: list[T] = []
    failed: list[Exception] = []

    async def watch(scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        try:
            done.append(await work)
        except Exception as error:  # noqa: BLE001 - carried out of the group, which would wrap it
            failed.append(error)
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    if not done:
        raise ClientLeft
    return done[0]


class EventStream(Response):
    """Sends each object of `events` as one ``data:`` line, then ``[DONE]``.

    The generator runs in the request's own task from its first event to its last: cancel scopes and timeouts inside it
    must not change tasks. A client that leaves cancels it.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Mapping[str, object], None], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "cache-control": "no-store", "x-accel-buffering": "no"})
        # A stream's length is not known.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""

        async def watch(scope: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with anyio.create_task_group() as group, aclosing(self._events) as events:
            group.start_soon(watch, group.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for event in events:
                    await _send(send, json.dumps(event, ensure_ascii=False, separators=(",", ":")))
                await _send(send, "[DONE]")
            except InterlockError as error:
                # The status line is gone; the error comes as an event, as OpenAI's servers do it.
                await _send(send, json.dumps(body_of(error)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()


async def _send(send: Send, data: str) -> None:
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
