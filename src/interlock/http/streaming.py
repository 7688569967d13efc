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
from interlock.gateway.ports import Frame
from interlock.http.errors import body_of

__all__ = ["ArrayStream", "ByteStream", "ClientLeft", "EventStream", "FrameStream", "after_first", "while_connected"]

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


async def after_first(receive: Receive, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Wait for the first of `items`, then give all of them: an error before it can still decide the status.

    Raises: ClientLeft, and whatever comes before the first item.
    """
    try:
        first = await while_connected(receive, anext(items))
    except BaseException:
        await items.aclose()
        raise
    return _again(first, items)


async def _again(first: T, rest: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    async with aclosing(rest):
        yield first
        async for item in rest:
            yield item


class _Stream(Response):
    """Sends a body that is made while it is sent.

    The generator runs in the request's own task from its first piece to its last: cancel scopes and timeouts inside it
    must not change tasks. A client that leaves cancels it.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], media_type: str) -> None:
        kept = {**headers, "cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(headers=kept, media_type=media_type)
        # A stream's length is not known.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""

        async def watch(scope: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with anyio.create_task_group() as group, aclosing(self._pieces) as pieces:
            group.start_soon(watch, group.cancel_scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()


class EventStream(_Stream):
    """Sends each object of `events` as one ``data:`` line, then ``[DONE]``; an error comes as the last object."""

    def __init__(self, events: AsyncGenerator[Mapping[str, object], None], headers: Mapping[str, str]) -> None:
        super().__init__(_lines(events), headers, "text/event-stream")


class FrameStream(_Stream):
    """Sends frames of a codec as server-sent events."""

    def __init__(self, frames: AsyncGenerator[Frame, None], headers: Mapping[str, str]) -> None:
        super().__init__(_events(frames), headers, "text/event-stream")


class ArrayStream(_Stream):
    """Sends frames of a codec as one JSON array that grows, as Google's API does unless asked for events."""

    def __init__(self, frames: AsyncGenerator[Frame, None], headers: Mapping[str, str]) -> None:
        super().__init__(_array(frames), headers, "application/json")


class ByteStream(_Stream):
    """Sends bytes as they come."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(pieces, headers, media_type)
        # What a provider calls its answer must not make a browser run it on our origin.
        self.raw_headers.append((b"content-security-policy", b"sandbox; default-src 'none'"))


async def _lines(events: AsyncGenerator[Mapping[str, object], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            async for event in events:
                yield _data(event)
            yield b"data: [DONE]\n\n"
        except InterlockError as error:
            # The status line is gone; the error comes as an event, as OpenAI's servers do it.
            yield _data(body_of(error))


async def _events(frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(frames):
        async for frame in frames:
            name = b"event: " + frame.event.encode() + b"\n" if frame.event else b""
            yield name + (f"data: {frame.data}\n\n".encode() if isinstance(frame.data, str) else _data(frame.data))


async def _array(frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[bytes, None]:
    before = b"["
    async with aclosing(frames):
        async for frame in frames:
            yield before + _json(frame.data)
            before = b",\r\n"
    yield b"]" if before != b"[" else b"[]"


def _data(value: object) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
