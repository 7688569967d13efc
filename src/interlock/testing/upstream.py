"""A provider's server that does as it is told: for tests of whatever calls one over HTTP.

A plain asyncio server, so that it can do what a well-behaved server library will not: break off in the middle of a
chunk, fall silent, never send a newline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["FakeUpstream", "Received", "Reply", "fake_upstream", "sse"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. The body is sent piece by piece, each in a chunk of its own."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    then: Literal["end", "break off", "fall silent", "repeat"] = "end"
    """After the last piece: end well; cut the connection; send nothing more; send the last piece again and again."""
    silent_first: bool = False
    """Send nothing at all, not even a status line."""
    length: int | None = None
    """Promise this many bytes, rightly or wrongly, instead of sending chunks."""
    after_s: float = 0.0
    """Wait before anything is sent."""
    gate: asyncio.Event | None = None
    """Wait for it before the last piece."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Any
    """Decoded JSON, the bytes of anything else, None without a body. Any: whatever the caller sent."""
    raw: bytes = b""


class FakeUpstream:
    """Answers each request with the next of `replies`; the last one stands for all that follow."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self.replies: list[Reply] = []
        self.open = 0
        """Answers being sent right now."""
        self._idle = asyncio.Event()
        self._idle.set()

    def will(self, *replies: Reply) -> None:
        """Answer the coming requests with these."""
        self.replies = list(replies)

    async def until_idle(self) -> None:
        """Wait until no answer is being sent: every caller got its whole answer, or has left."""
        await self._idle.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                self.open += 1
                self._idle.clear()
                try:
                    if not await self._answer(reply, reader, writer):
                        return
                finally:
                    self.open -= 1
                    if not self.open:
                        self._idle.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one answer; False when the connection is of no more use."""
        if reply.silent_first:
            await reader.read()
            return False
        await asyncio.sleep(reply.after_s)
        framing = {"transfer-encoding": "chunked"} if reply.length is None else {"content-length": str(reply.length)}
        headers = {"content-type": "text/event-stream", **framing, **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Whatever\r\n{head}\r\n".encode())
        if reply.length is not None:
            writer.write(b"".join(reply.pieces))
            await writer.drain()
            return False
        for position, piece in enumerate(reply.pieces, 1):
            if reply.gate is not None and position == len(reply.pieces):
                await reply.gate.wait()
            await _send(writer, piece)
        if reply.then == "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        if reply.then == "break off":
            writer.write(b"ff\r\ncut")
            await writer.drain()
            return False
        left = asyncio.ensure_future(reader.read())
        try:
            while not left.done():
                if reply.then == "repeat":
                    await _send(writer, reply.pieces[-1])
                await asyncio.wait([left], timeout=0.001 if reply.then == "repeat" else None)
        finally:
            left.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await left
        return False


async def _read(reader: asyncio.StreamReader) -> Received | None:
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, _decoded(body), body)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


async def _send(writer: asyncio.StreamWriter, piece: bytes) -> None:
    writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    await writer.drain()


def sse(*events: Mapping[str, Any] | str, named: bool = False) -> list[bytes]:
    """Server-sent events, one piece each. Mappings become JSON; `named` adds Anthropic's ``event:`` lines."""
    pieces = []
    for event in events:
        name = f"event: {event['type']}\n" if named and not isinstance(event, str) else ""
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        pieces.append(f"{name}data: {data}\n\n".encode())
    return pieces


@asynccontextmanager
async def fake_upstream() -> AsyncIterator[FakeUpstream]:
    """A running server on a free loopback port."""
    upstream = FakeUpstream()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Ending the server cancels the answers that never end.
        with contextlib.suppress(asyncio.CancelledError):
            await upstream._serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
    host, port = server.sockets[0].getsockname()[:2]
    upstream.url = f"http://{host}:{port}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
