"""Connections to providers: kept alive, one request at a time on each, closed at the first doubt."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import NamedTuple, Protocol, cast

from interlock.server.lane.http1 import MAX_HEAD_BYTES, Chunked, Head, Malformed, parse_head

__all__ = ["Caller", "Connection", "Origin", "Pools"]

_log = logging.getLogger("interlock.lane")
_IDLE_S = 15.0
"""Servers close idle connections after 20 s to some minutes; ours go first, so that none is used as it closes."""
_MOST_IDLE = 256


class Origin(NamedTuple):
    """Where to connect."""

    host: str
    port: int
    tls: bool


class Caller(Protocol):
    """Who waits for an answer."""

    def on_whole(self, head: Head, body: bytes) -> None:
        """The whole answer came at once: the same as `on_head`, `on_data` and `on_end`."""

    def on_head(self, head: Head) -> None:
        """The answer's head came."""

    def on_data(self, data: bytes) -> None:
        """A piece of its body, without framing."""

    def on_end(self) -> None:
        """Its body is whole."""

    def on_broken(self, reason: str, *, stale: bool) -> None:
        """The connection is gone before the end.

        Args:
            stale: it was a kept one and nothing came: closed by the other side while it was idle.
        """


class Connection(asyncio.Protocol):
    """One connection to an upstream."""

    __slots__ = (
        "_buffer",
        "_caller",
        "_chunks",
        "_head",
        "_left",
        "_loop",
        "_pool",
        "_used",
        "idle_since",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._caller: Caller | None = None
        self._head: Head | None = None
        self._chunks: Chunked | None = None
        self._left = 0
        self._buffer = b""
        self._used = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def send(self, caller: Caller, pieces: list[bytes]) -> None:
        """Send a request; the caller hears of everything that follows."""
        assert self.transport is not None
        self._caller = caller
        self._head = None
        self._buffer = b""
        self.transport.write(pieces[0]) if len(pieces) == 1 else self.transport.writelines(pieces)

    def abort(self) -> None:
        """Nobody waits any more: hang up, which stops the work upstream."""
        self._caller = None
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`: the client is slower than the upstream."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        caller = self._caller
        if caller is None:
            # Bytes that nobody asked for: what they belong to is anyone's guess.
            self.abort()
            return
        try:
            if self._head is None:
                head, data = self._read_head(data)
                if head is None:
                    return
                if head.framing == "length" and head.length == len(data):
                    self._caller = None
                    self._let_go(keep=head.keep_alive)
                    caller.on_whole(head, data)
                    return
                self._head = head
                self._left = head.length
                self._chunks = Chunked() if head.framing == "chunked" else None
                caller.on_head(head)
                if self._caller is None:
                    return
            self._body(caller, data)
        except Malformed as error:
            self._break(str(error))
        except Exception as error:  # noqa: BLE001 - a border: whoever waits must hear of it
            _log.error("an answer could not be taken: %s", type(error).__name__, exc_info=error)
            self._caller = caller
            self._break("it could not be read")

    def _read_head(self, data: bytes) -> tuple[Head | None, bytes]:
        """The final head, once it is whole, and the bytes after it; interim answers (1xx) are passed over."""
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        while True:
            end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
            if end < 0:
                if len(data) > MAX_HEAD_BYTES:
                    raise Malformed("a head without end")
                self._buffer = data
                return None, b""
            head = parse_head(data, end)
            data = data[end + 4 :]
            if head.status >= 200:
                return head, data
            if head.status == 101:
                raise Malformed("an upgrade that was not asked for")

    def _body(self, caller: Caller, data: bytes) -> None:
        assert self._head is not None
        extra = False
        if self._chunks is not None:
            payload, used = self._chunks.feed(data)
            done, extra = self._chunks.done, used < len(data)
        elif self._head.framing == "length":
            extra = len(data) > self._left
            payload = data[: self._left] if extra else data
            self._left -= len(payload)
            done = self._left == 0
        else:
            payload, done = data, False
        if extra:
            raise Malformed("bytes after the answer")
        if payload:
            caller.on_data(payload)
        if done and self._caller is not None:
            self._finish(caller)

    def _finish(self, caller: Caller) -> None:
        assert self._head is not None
        self._caller = None
        self._let_go(keep=self._head.keep_alive)
        caller.on_end()

    def _let_go(self, *, keep: bool) -> None:
        assert self.transport is not None
        self._used = True
        if keep and not self.transport.is_closing():
            self._pool.give_back(self)
        else:
            self.transport.close()

    def _break(self, reason: str) -> None:
        caller, self._caller = self._caller, None
        if self.transport is not None:
            self.transport.abort()
        if caller is not None:
            caller.on_broken(reason, stale=False)

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._pool.forget(self)
        caller, self._caller = self._caller, None
        if caller is None:
            return
        if self._head is not None and self._head.framing == "close" and exc is None:
            caller.on_end()
        else:
            nothing_came = self._head is None and not self._buffer
            caller.on_broken("it broke off", stale=self._used and nothing_came)


class Pool:
    """Idle connections to one origin."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> None:
        self._origin = origin
        self._loop = loop
        self._context = context
        self._idle: deque[Connection] = deque()
        self._is_closed = False

    def take(self) -> Connection | None:
        """An idle connection, the one used last; None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self) -> Connection:
        """A new one. Raises: OSError (`ssl.SSLError` is one)."""
        origin = self._origin
        _, connection = await self._loop.create_connection(
            lambda: Connection(self),
            origin.host,
            origin.port,
            ssl=self._context,
            server_hostname=origin.host if self._context is not None else None,
        )
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next request."""
        if self._is_closed or len(self._idle) >= _MOST_IDLE:
            if connection.transport is not None:
                connection.transport.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """It was closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close_idle(self, *, all_of_them: bool = False) -> None:
        """Close what was not used for a while."""
        oldest = self._loop.time() - _IDLE_S
        while self._idle and (all_of_them or self._idle[0].idle_since < oldest):
            connection = self._idle.popleft()
            if connection.transport is not None:
                connection.transport.close()
        self._is_closed = self._is_closed or all_of_them


class Pools:
    """Pools of all origins."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pools: dict[Origin, Pool] = {}
        self._context: ssl.SSLContext | None = None

    def of(self, origin: Origin) -> Pool:
        """The pool of an origin."""
        if origin not in self._pools:
            if origin.tls and self._context is None:
                import httpx2

                # The same roots of trust as for every other call of a provider.
                self._context = httpx2.create_ssl_context()
            self._pools[origin] = Pool(origin, self._loop, self._context if origin.tls else None)
        return self._pools[origin]

    def close_idle(self, *, all_of_them: bool = False) -> None:
        """Close what was not used for a while."""
        for pool in self._pools.values():
            pool.close_idle(all_of_them=all_of_them)
