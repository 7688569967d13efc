"""The client's side: uvicorn's own protocol and parser, with bounds, and with the lane in front of the application.

One parser reads a connection from its first byte to its last, and no byte is read twice: whether a request takes the
lane is decided when its head is complete, and a request that leaves the lane takes its body along.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from interlock.core.errors import InterlockError
from interlock.gateway.types import Target
from interlock.server.lane.bodies import WIRES, Wire
from interlock.server.lane.call import LaneCall
from interlock.server.lane.service import FastLane

__all__ = ["GuardedProtocol", "LaneProtocol", "lane_protocol"]

_log = logging.getLogger("interlock.server")
_MAX_HEADERS = 100
_MAX_HEAD_BYTES = 64 * 1024
_HEAD_S = 15.0
_BODY_S = 60.0
_WHOLE_BODY_S = 600.0
_TOO_MUCH = (b"431 Request Header Fields Too Large", b"Request header fields are too large.")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 37\r\nconnection: close\r\n\r\nThe body of the request did not come."
)
_NO_HOST = (b"400 Bad Request", b"A request names its host, once.")
_OTHERWISE = (b"expect", b"transfer-encoding", b"content-encoding", b"upgrade", b"origin", b"anthropic-beta")


class GuardedProtocol(HttpToolsProtocol):
    """Bounds what a client may send before anybody looks at it: how much of a head, and how slowly."""

    _head_bytes = 0
    _refused = False
    _since = 0.0
    """When the head began, or the last piece of the body came; 0 while nothing is awaited."""
    _in_body = False
    _body_since = 0.0
    _awaits_body = False
    """A request asked for another protocol and has a body, which the parser that read its head does not read."""
    _is_muted = False
    """The parser reads what it is told about a request that is known already."""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. As uvicorn's, but an offer of another protocol does not cost a request its body."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserError:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
                return
            except httptools.HttpParserUpgrade as offer:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                if self.parser.get_method() == b"CONNECT":
                    # What follows would be a tunnel's, and there is none.
                    return
                data = data[offer.args[0] :]
                self._stay()

    def _stay(self) -> None:
        """Go on with HTTP/1.1 where the parser gave up because another protocol was offered."""
        framing = [(name, value) for name, value in self.headers if name in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if not self._awaits_body:
            return
        self._awaits_body = False
        self._is_muted = True
        lines = b"".join(b"%b: %b\r\n" % pair for pair in framing)
        self.parser.feed_data(b"POST / HTTP/1.1\r\nhost: declined\r\n%b\r\n" % lines)
        self._is_muted = False

    # Any: uvicorn's transport.
    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._since = self.loop.time()

    def look(self, at: float) -> None:
        """Hang up on a client that has kept a request unfinished for too long. Called about every second."""
        if (
            self._since
            and (
                at - self._since > (_BODY_S if self._in_body else _HEAD_S)
                or (self._in_body and at - self._body_since > _WHOLE_BODY_S)
            )
            and not self.transport.is_closing()
        ):
            self._since = 0.0
            self._give_up()

    def _give_up(self) -> None:
        """Close on a client that was too slow; one whose head was whole is told, and the log says so too."""
        cycle = self.cycle
        if self._in_body and cycle is not None and not cycle.response_complete:
            self.scope["interlock.timed_out"] = True  # type: ignore[typeddict-unknown-key]  # ours
            if not cycle.response_started:
                self.transport.write(_TOO_SLOW)
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins. What uvicorn makes of it is made once it is known that uvicorn handles it."""
        if self._is_muted:
            return
        self._head_bytes = 0
        self._in_body = False
        self._since = self.loop.time()
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        if self._is_muted:
            return
        self._head_bytes += len(url)
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse()
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if self._is_muted:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES or len(self.headers) >= _MAX_HEADERS:
            self._refuse()
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._is_muted:
            return
        if not self._refused and self.parser.get_http_version() == "1.1":
            hosts = 0
            for name, _ in self.headers:
                hosts += name == b"host"
            if hosts != 1:
                # Two readers could take it for two different places.
                self._refuse(_NO_HOST)
        if not self._refused:
            self._in_body = True
            self._body_since = self.loop.time()
            if self.parser.should_upgrade() and not self._should_upgrade():
                self._awaits_body = any(
                    name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 "))
                    for name, value in self.headers
                )
            self.on_request()

    def on_request(self) -> None:
        """A bounded head is whole."""
        self._begin()
        super().on_headers_complete()

    def _begin(self) -> None:
        """What uvicorn does at the beginning of a request, with the head that came meanwhile."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._refused:
            self._since = self.loop.time()
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._refused and not self._awaits_body:
            self._since = 0.0
            super().on_message_complete()

    def _refuse(self, why: tuple[bytes, bytes] = _TOO_MUCH) -> None:
        if self._refused:
            return
        self._refused = True
        status, text = why
        _log.warning("the head of a request was refused: %s", status.decode())
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(text), text)
        )
        self.transport.close()


class _NoEvent:
    def set(self) -> None:
        """Nobody waits."""


class _Known(NamedTuple):
    """A head that the parser has read on this connection, and that took the lane: the same bytes mean the same again,
    whatever the length they tell. Clients send all requests of a connection under one head.
    """

    before: bytes
    """Up to the digits of its content-length."""
    after: bytes
    """From behind the digits to the end of the head."""
    wire: Wire
    authorization: bytes
    head: tuple[bytes, list[tuple[bytes, bytes]]]

    @classmethod
    def of(
        cls, data: bytes, size: int, wire: Wire, authorization: bytes, head: tuple[bytes, list[tuple[bytes, bytes]]]
    ) -> _Known | None:
        """What to know of a request of which all bytes are `data`, `size` of them its body."""
        raw = data[: len(data) - size]
        found = _LENGTH.findall(raw)
        if not raw.endswith(b"\r\n\r\n") or len(found) != 1:
            return None
        at = raw.index(found[0]) + len(found[0])
        end = raw.index(b"\r\n", at)
        digits = raw[at:end]
        return cls(raw[:at], raw[end:], wire, authorization, head) if digits == b"%d" % size else None

    def body_of(self, data: bytes) -> bytes | None:
        """The body, when `data` is one whole request under this head."""
        at = len(self.before)
        if not data.startswith(self.before):
            return None
        end = data.find(b"\r\n", at, at + 12)
        if end < 0 or not data.startswith(self.after, end):
            return None
        digits = data[at:end]
        start = end + len(self.after)
        return data[start:] if digits.isdigit() and int(digits) == len(data) - start > 0 else None


_LENGTH = re.compile(rb"\r\ncontent-length: ", re.IGNORECASE)


@dataclass(slots=True)
class _Busy:
    """Stands where uvicorn keeps the request under way, while that one is on the lane."""

    response_complete: bool = False
    response_started: bool = False
    disconnected: bool = False
    keep_alive: bool = True
    message_event: _NoEvent = field(default_factory=_NoEvent)


class LaneProtocol(GuardedProtocol):
    """Takes plain model calls itself; everything else goes to the application, in order."""

    fast: ClassVar[FastLane]

    _wire: Wire | None = None
    """Of the request whose body is being gathered for the lane."""
    _authorization = b""
    _call: LaneCall | None = None
    _handed: RequestResponseCycle | None = None
    """A request that left the lane, while a later one stands where uvicorn would look for it."""
    _head: tuple[bytes, list[tuple[bytes, bytes]]] = (b"", [])
    """Address and headers of the request on the lane."""
    _idle_since = 0.0
    _known: _Known | None = None
    _between = True
    """No request is half read."""
    _began = 0
    """Requests that have begun on this connection."""
    _last: tuple[int, Wire] | None = None
    """Size and kind of the last body that took the lane, while the bytes that it came with are read."""
    drawn: Target | None = None
    """Target that the route's strategy drew for the request on the lane: the ordinary path draws no other."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self._busy = _Busy(response_complete=True)
        self._pieces: list[bytes] = []
        self._body = b""

    @property
    def path(self) -> str:
        """Address of the request on the lane."""
        return self._head[0].decode("ascii")

    @property
    def is_gone(self) -> bool:
        """True when nobody reads the answer any more."""
        return bool(self.transport.is_closing())

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        known = self._known
        if known is not None and self._between and not self.pipeline and self.fast.is_on:
            body = known.body_of(data)
            cycle = self.cycle
            if (
                body is not None
                and (cycle is None or cycle.response_complete)
                and len(body) <= self.fast.max_body_bytes
                and not self.transport.is_closing()
            ):
                self._unset_keepalive_if_required()
                self._idle_since = 0.0
                busy = self._busy
                busy.response_complete = busy.disconnected = False
                busy.keep_alive = True
                self.cycle = busy  # type: ignore[assignment]  # what uvicorn reads of a cycle, it has
                self._head = known.head
                self.drawn = None
                self._take(known.wire, known.authorization, body)
                return
        before = self._began if self._between else -2
        super().data_received(data)
        if self._last is not None:
            # One request and nothing else, from the first byte to the last: its head is known from now on.
            if self._between and self._began == before + 1 and self._busy.keep_alive:
                size, wire = self._last
                self._known = _Known.of(data, size, wire, self._authorization, self._head)
            self._last = None

    def on_request(self) -> None:
        """See `GuardedProtocol`."""
        wire = WIRES.get(self.url)
        idle = self.cycle is None or self.cycle.response_complete
        if wire is None or not idle or self.pipeline or not self.fast.is_on or not self._fits():
            super().on_request()
            return
        self._wire = wire
        self.drawn = None
        self._busy.response_complete = False
        self._busy.disconnected = False
        self._busy.keep_alive = self.parser.should_keep_alive()
        self.cycle = self._busy  # type: ignore[assignment]  # what uvicorn reads of a cycle, it has
        self._head = (self.url, self.headers)

    def _fits(self) -> bool:
        """True when the head asks for nothing that the lane does not do."""
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1" or self.root_path:
            return False
        headers = dict(self.headers)
        if len(headers) != len(self.headers):
            return False
        given = headers.get(b"authorization")
        if given is None:
            given = b"Bearer " + headers.get(b"x-api-key", b"")
        length = headers.get(b"content-length", b"")
        kind = headers.get(b"content-type", b"application/json")
        if (
            not given.startswith(b"Bearer il_")
            or not length.isdigit()
            or not 0 < int(length) <= self.fast.max_body_bytes
        ):
            return False
        if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
            return False
        if any(name in headers for name in _OTHERWISE):
            return False
        for name in headers:
            if name.startswith(b"x-interlock-"):
                return False
        self._authorization = given
        return True

    def on_body(self, body: bytes) -> None:
        """See `GuardedProtocol`."""
        if self._wire is None:
            super().on_body(body)
            return
        self._since = self.loop.time()
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """See `GuardedProtocol`."""
        if self._awaits_body:
            return
        self._between = True
        wire, self._wire = self._wire, None
        if wire is None:
            super().on_message_complete()
            return
        self._since = 0.0
        pieces, self._pieces = self._pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._last = (len(body), wire)
        self._take(wire, self._authorization, body)

    def _take(self, wire: Wire, authorization: bytes, body: bytes) -> None:
        self._body = body
        try:
            self._call = LaneCall.begin(self.fast, self, wire, authorization, body)
        except Exception as error:  # noqa: BLE001 - a border: the ordinary path answers, or says what is wrong
            _log.error("the fast lane failed: %s", type(error).__name__, exc_info=error)
            self._call = None
        if self._call is None:
            self._ordinary()

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        self.transport.write(data)

    def status_line(self) -> bytes:
        """Status line and the headers that every answer of the server has."""
        started = self.fast.status_line(self.server_state.default_headers)
        return started if self._busy.keep_alive else started + b"connection: close\r\n"

    def done(self) -> None:
        """The answer is sent."""
        self._call = None
        self._body = b""
        self._busy.response_complete = True
        if not self._busy.keep_alive:
            self.transport.close()
        if self.pipeline:
            self.on_response_complete()
        else:
            # As uvicorn does, but the clock of all connections tells when this one has been idle for too long.
            self.server_state.total_requests += 1
            self._idle_since = self.loop.time()

    def hang_up(self) -> None:
        """The answer is sent, and nothing more may follow it."""
        self._busy.keep_alive = False
        self.done()

    def abort(self) -> None:
        """No answer can be sent any more: the client sees its connection break."""
        self._call = None
        self.transport.abort()

    def _give_up(self) -> None:
        if self._wire is None:
            super()._give_up()
            return
        # Gathered for the lane: nobody else knows of it.
        self.fast.gave_up(self.path, self.loop.time() - self._body_since)
        self.transport.write(_TOO_SLOW)
        self.transport.close()

    def look(self, at: float) -> None:
        """See `GuardedProtocol`."""
        super().look(at)
        if self._idle_since and at - self._idle_since > self.timeout_keep_alive and not self.transport.is_closing():
            self._idle_since = 0.0
            self.transport.close()

    def on_message_begin(self) -> None:
        """See `GuardedProtocol`."""
        if self._is_muted:
            return
        self._between = False
        self._began += 1
        self._idle_since = 0.0
        super().on_message_begin()

    def to_ordinary(self, tried: tuple[Target, InterlockError] | None, trace_id: str) -> None:
        """The application answers this request, which the lane could not."""
        self._call = None
        self._ordinary({"interlock.tried": tried, "interlock.trace_id": trace_id})

    # Any: uvicorn's scope has a type of its own, to which ours adds.
    def _ordinary(self, more: dict[str, Any] | None = None) -> None:
        url, headers = self._head
        # A head that is known tells the length of an earlier body.
        length = str(len(self._body)).encode()
        headers = [(name, length if name == b"content-length" else value) for name, value in headers]
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": "POST",
            "root_path": self.root_path,
            "path": url.decode("ascii"),
            "raw_path": url,
            "query_string": b"",
            "headers": headers,
            "state": self.app_state.copy(),
            "interlock.first": self.drawn,
            **(more or {}),
        }
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self._busy.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body = bytearray(self._body)
        self._body = b""
        cycle.more_body = False
        cycle.message_event.set()
        if self.cycle is self._busy:  # type: ignore[comparison-overlap]
            self.cycle = cycle
        else:
            self._handed = cycle
        self._busy.response_complete = True
        self._start_asgi_task(cycle, self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        call, self._call = self._call, None
        if call is not None:
            call.on_left()
        self._wire = None
        if self._handed is not None and not self._handed.response_complete:
            self._handed.disconnected = True
            self._handed.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        if self._call is not None:
            self._call.pause()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        if self._call is not None:
            self._call.resume()


def lane_protocol(fast: FastLane) -> type[LaneProtocol]:
    """The protocol of a server whose connections share `fast`."""
    return type("BoundLaneProtocol", (LaneProtocol,), {"fast": fast})
