"""One request on the lane, from its body to its last byte: admitted, sent, followed, settled, written down.

Everything happens in callbacks of the event loop; nothing is awaited but a new connection. Whatever does not go the
plain way (an error, a limit that must be asked for, an answer of another kind) is handed to the ordinary path with the
request as it came, as long as the client has been given nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from interlock.core.errors import DeadlineExceeded, InterlockError, ProviderError, StorageFull, Unavailable
from interlock.core.ids import TraceId, new_trace_id, ulid
from interlock.core.messages import Usage
from interlock.cost.terms import Hold
from interlock.cost.types import Outcome
from interlock.gateway.failures import status_error, stream_error
from interlock.server.lane.bodies import Scan, Sent, StreamFailed, Wire, spliced
from interlock.server.lane.facts import Caller, Lane, Route
from interlock.server.lane.http1 import Head
from interlock.server.lane.notes import note
from interlock.server.lane.replies import extension, last_event, refusal, response_head
from interlock.server.lane.upstream import Connection

if TYPE_CHECKING:
    from interlock.server.lane.protocol import LaneProtocol
    from interlock.server.lane.service import FastLane

__all__ = ["LaneCall"]

_log = logging.getLogger("interlock.lane")
_MAX_ERROR_BYTES = 64_000
_MAX_ANSWER_BYTES = 128_000_000
_PIECE = 256 * 1024
_UNFIT_S = 30.0


class LaneCall:
    """A request under way. Implements :class:`interlock.server.lane.upstream.Caller`."""

    __slots__ = (
        "_body", "_connection", "_dialling", "_head", "_is_over", "_limit_s", "_pieces", "_scan", "_size", "_waiting",
        "asked", "began", "caller", "client", "deadline", "failure", "hold", "lane", "passed", "request_id", "route",
        "sent", "server", "settled", "started", "trace_id", "until", "wire",
    )  # fmt: skip

    def __init__(
        self,
        server: FastLane,
        client: LaneProtocol,
        wire: Wire,
        sent: Sent,
        *,
        caller: Caller,
        route: Route,
        lane: Lane,
        hold: Hold,
        at: float,
    ) -> None:
        self.server = server
        self.client = client
        self.wire = wire
        self.sent = sent
        self.caller = caller
        self.route = route
        self.lane = lane
        self.passed = ""
        """Targets that were passed over, and why, as the route's header tells them."""
        self.asked = sent.model
        self.hold = hold
        self.request_id = f"req_{hold.id[4:]}"
        self.trace_id = TraceId(hold.trace_id)
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._head: Head | None = None
        self._scan: Scan | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self.started = at
        self.settled = False
        self._is_over = False
        self.failure: InterlockError | None = None
        self._body: list[bytes] = []
        self.began = False
        """The client was given something."""
        spec = route.spec
        self.until = at + spec.total_timeout_s
        """Monotonic time after which nobody waits any more."""
        if spec.try_timeout_s is not None and spec.try_timeout_s < spec.total_timeout_s:
            self.until = at + spec.try_timeout_s
        self._limit_s = lane.to.connect_timeout_s
        self.deadline = at + self._limit_s
        """Monotonic time of the next thing that must have happened."""
        self._waiting = "connect"

    @staticmethod
    def begin(server: FastLane, client: LaneProtocol, wire: Wire, authorization: bytes, body: bytes) -> LaneCall | None:
        """Admit a request and send it. None: the ordinary path must take it, and nothing has happened."""
        at = time.monotonic()
        caller = server.facts.caller(authorization, at)
        if caller is None:
            return None
        sent = wire.read(body)
        if sent is None:
            return None
        route = server.facts.route(caller, wire.name, sent.model, at)
        if route is None:
            return None
        # As `gateway.estimate`: three bytes a token, and what is no text in the body counts a little as well.
        inputs = len(body) // 3 + 8
        chosen = route.choose(at, inputs, sent.limit, caller)
        if chosen is None:
            return None
        lane, passed = chosen
        spec = route.spec
        if spec.strategy != "fallback":
            client.drawn = lane.target
        outgoing = wire.outgoing(body, sent, lane.target.model, lane.to, spec)
        if outgoing is None or not lane.turns.try_enter():
            return None
        outputs = 0 if sent.limit == 0 else spec.limit(sent.limit) or lane.most_output_tokens
        try:
            terms = lane.terms_of(caller, server.costs)
            hold = terms.take(f"led_{ulid()}", new_trace_id(), time.time_ns(), inputs, outputs)
        except (StorageFull, Unavailable):
            hold = None
        except BaseException:
            lane.turns.leave()
            raise
        if hold is None:
            lane.turns.leave()
            return None
        call = LaneCall(server, client, wire, sent, caller=caller, route=route, lane=lane, hold=hold, at=at)
        call.passed = passed
        lane.health.begin(at)
        lane.retries.call()
        server.calls.add(call)
        head = b"%b%d\r\n\r\n" % (lane.head, len(outgoing))
        call._body = [head + outgoing] if len(outgoing) <= _PIECE else [head, outgoing]
        try:
            connection = lane.pool.take()
            if connection is None:
                call._dialling = server.loop.create_task(call._dial())
            else:
                call._send(connection, at)
        except BaseException:
            call._give_back()
            lane.health.left()
            raise
        return call

    async def _dial(self) -> None:
        try:
            connection = await self.lane.pool.connect()
            if self._is_over:
                # Its caller has gone, but the connection is good: the next one may have it.
                self.lane.pool.give_back(connection)
            else:
                self._send(connection, time.monotonic())
        except Exception as error:  # noqa: BLE001 - a border: whoever waits must hear of it
            _log.debug("no connection: %s", type(error).__name__)
            if self._is_over:
                return
            provider = self.lane.target.provider
            self._fail(
                ProviderError(
                    f"provider {provider!r} cannot be reached",
                    provider=provider,
                    retryable=True,
                    code="provider_unreachable",
                    hint=f"check gateway.providers.{provider}.base_url and that the server runs",
                )
            )

    def _send(self, connection: Connection, at: float) -> None:
        self._connection = connection
        self._waiting = "sending a first token"
        self._limit_s = self.route.spec.first_token_timeout_s
        self.deadline = min(at + self._limit_s, self.until)
        body, self._body = self._body, []
        connection.send(self, body)

    # What the upstream does.

    def on_whole(self, head: Head, body: bytes) -> None:
        """See `Caller`."""
        if head.status == 200 and not self.sent.stream and head.kind == b"application/json":
            self._connection = None
            self._end_whole(body)
            return
        # Its connection is free again: nobody may hang it up.
        self._connection = None
        self.on_head(head)
        if not self._is_over and body:
            self.on_data(body)
        if not self._is_over:
            self.on_end()

    def on_head(self, head: Head) -> None:
        """See `Caller`."""
        self._head = head
        if head.status != 200:
            return
        wanted = b"text/event-stream" if self.sent.stream else b"application/json"
        if head.kind != wanted:
            # It answers in another way than it was asked to. The ordinary path can read that.
            self.route.unfit_until = time.monotonic() + _UNFIT_S
            self._hand_over(None)
            return
        if self.sent.stream:
            self._scan = self.wire.scan(self.sent, lambda usage: extension(self, usage))

    def on_data(self, data: bytes) -> None:
        """See `Caller`."""
        at = time.monotonic()
        scan = self._scan
        if scan is None:
            self._size += len(data)
            self._pieces.append(data)
            self.deadline = min(at + self.lane.to.idle_timeout_s, self.until)
            assert self._head is not None
            if self._size > (_MAX_ANSWER_BYTES if self._head.status == 200 else _MAX_ERROR_BYTES):
                if self._head.status == 200:
                    self._fail(self._broken("an answer over 128 MB"))
                else:
                    self.on_end()
            return
        try:
            out = scan.feed(data)
        except OverflowError:
            self._fail(self._broken("an event over 8 MB"))
            return
        self._waiting = "answering"
        self.deadline = min(at + self.lane.to.idle_timeout_s, self.until)
        if out:
            self._forward(scan, out, at)
            if self._is_over:
                return
        failure = scan.failure
        if isinstance(failure, StreamFailed):
            self._fail(stream_error(self.lane.target.provider, failure.error))
        elif failure is not None:
            self._fail(self._broken("an event that is no JSON"))

    def _forward(self, scan: Scan, out: bytes, at: float) -> None:
        """Give the client a piece of the stream; its end only once what it cost is written down."""
        if scan.ended and not self.settled and not self._settle(scan.usage):
            return
        if not self.began:
            self.began = True
            self.lane.health.first_token(at, at - self.started)
            head = response_head(self, "text/event-stream; charset=utf-8", time.time())
            self.client.write(
                b"%bcache-control: no-store\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n"
                % (head, len(out), out)
            )
            return
        self.client.write(b"%x\r\n%b\r\n" % (len(out), out))

    def on_end(self) -> None:
        """See `Caller`."""
        head = self._head
        assert head is not None
        if head.status != 200:
            connection, self._connection = self._connection, None
            if connection is not None and self._size > _MAX_ERROR_BYTES:
                connection.abort()
            if head.status in {401, 403}:
                # The key may just have been rotated: the ordinary path reads it anew before it gives up.
                self.server.facts.forget()
                self._hand_over(None)
            elif head.status < 400:
                self._hand_over(None)
            else:
                body = b"".join(self._pieces)
                self._fail(status_error(self.lane.target.provider, head.status, head.mapping(), body))
            return
        self._connection = None
        if self._scan is not None:
            self._end_stream(self._scan)
        else:
            self._end_whole(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))

    def _end_whole(self, body: bytes) -> None:
        try:
            usage = self.wire.usage(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._fail(self._broken("it is no answer"))
            return
        at = time.monotonic()
        # Where no figures come, four characters a token is the usual rule of thumb.
        used = usage or Usage(self.hold.inputs, -(-len(body) // 8), estimated=True)
        if not self._settle(used):
            return
        self.began = True
        self.lane.health.first_token(at, at - self.started)
        if self.wire.extends:
            body = spliced(body, extension(self, used))
        client = self.client
        client.write(
            b"%bcontent-length: %d\r\n\r\n%b" % (response_head(self, "application/json", time.time()), len(body), body)
        )
        self._over("ok", at)
        client.done()

    def _end_stream(self, scan: Scan) -> None:
        if not scan.ended:
            self._fail(
                Unavailable(
                    f"provider {self.lane.target.provider!r} ended its answer without finishing it",
                    code="provider_incomplete",
                )
            )
            return
        if not self.settled and not self._settle(scan.usage):
            return
        self.client.write(b"0\r\n\r\n")
        self._over("ok", time.monotonic())
        self.client.done()

    def on_broken(self, reason: str, *, stale: bool) -> None:
        """See `Caller`."""
        self._connection = None
        if self._is_over:
            return
        if self._scan is not None and self._scan.ended:
            self._end_stream(self._scan)
        elif stale:
            # The other side closed a kept connection as we took it: nobody's failure, and nothing was done.
            self._hand_over(None)
        else:
            self._fail(self._broken(reason))

    # What the client and the clock do.

    def on_tick(self, at: float) -> None:
        """Look whether what must have happened has."""
        if at < self.deadline:
            return
        if self._waiting == "connect":
            self._fail(
                ProviderError(
                    f"provider {self.lane.target.provider!r} fell silent",
                    provider=self.lane.target.provider,
                    retryable=True,
                    code="provider_timeout",
                )
            )
            return
        self._fail(
            DeadlineExceeded(
                f"{self.lane.name} took more than {at - self.started:.1f} s {self._waiting}",
                hint="raise the route's first_token_timeout_s, try_timeout_s or total_timeout_s",
            )
        )

    def on_left(self) -> None:
        """The client went away: the work upstream is stopped; what was sent, and what it had answered, is charged."""
        if self._is_over:
            return
        if not self.settled and (self.began or self._connection is not None) and not self._settle(self._so_far()):
            return
        self._over("cancelled", time.monotonic())

    def abandon(self) -> None:
        """Let go of everything at once, where a step of this call failed in a way that nobody foresaw."""
        self.server.calls.discard(self)
        if not self._is_over:
            self._is_over = True
            self.lane.turns.leave()
            self.lane.health.left()
        self._hang_up()
        self.client.abort()

    def pause(self) -> None:
        """The client reads too slowly."""
        if self._connection is not None:
            self._connection.pause()
            # Its silence is ours now.
            self.deadline = self.until

    def resume(self) -> None:
        """The client reads again."""
        if self._connection is not None:
            self._connection.resume()
            self.deadline = min(time.monotonic() + self.lane.to.idle_timeout_s, self.until)

    # Ends.

    def _settle(self, usage: Usage | None) -> bool:
        """Charge what was used. False: it cannot be written down, and the call is over, its client told."""
        self.settled = True
        try:
            self.hold.charge(usage or self._so_far())
        except InterlockError as error:
            self._unsettled(error)
            return False
        return True

    def _unsettled(self, error: InterlockError) -> None:
        """What the answer cost cannot be written down: its end is not given, and it stands at its reservation's
        estimate: the hold stays open, as a crash would leave it.
        """
        self._is_over = True
        self._hang_up()
        self.lane.turns.leave()
        self.lane.health.left()
        self.server.calls.discard(self)
        self.failure = error
        note(self, "error", time.monotonic())
        if self.client.is_gone:
            return
        if self.began:
            self.client.write(last_event(self, error))
        else:
            self.client.write(refusal(self, error))
        self.client.hang_up()

    def _so_far(self) -> Usage:
        """Estimate of an answer that told no usage: about a token an event."""
        scan = self._scan
        if scan is not None and scan.usage is not None and scan.usage.output_tokens:
            return scan.usage
        return Usage(self.hold.inputs, scan.events if scan is not None else 0, estimated=True)

    def _broken(self, reason: str) -> ProviderError:
        provider = self.lane.target.provider
        return ProviderError(f"provider {provider!r} broke off: {reason}", provider=provider, retryable=True)

    def _fail(self, error: InterlockError) -> None:
        """The target failed: another try while nothing was sent, else the client is told in its stream."""
        if not self.began:
            self._hand_over(error)
            return
        if not self.settled and not self._settle(self._so_far()):
            return
        self.failure = error
        self.client.write(last_event(self, error))
        self._over("error", time.monotonic())
        self.client.done()

    def _hand_over(self, error: InterlockError | None) -> None:
        """Let the ordinary path answer: this try is given back, and counts as the target's first when it failed."""
        self._give_back()
        if error is None:
            self.lane.health.left()
        else:
            self.lane.health.failed(time.monotonic(), error, own_key=self.lane.own_key)
        self.client.to_ordinary(None if error is None else (self.lane.target, error), self.trace_id)

    def _give_back(self) -> None:
        self._is_over = True
        self._hang_up()
        self.hold.drop(uncount=True)
        self.lane.turns.leave()
        self.server.calls.discard(self)

    def _hang_up(self) -> None:
        if self._dialling is not None and not self._dialling.done() and self._connection is None:
            self._dialling.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _over(self, outcome: Outcome, at: float) -> None:
        """Write down what happened."""
        self._is_over = True
        if self._connection is not None or self._dialling is not None:
            self._hang_up()
        lane, server = self.lane, self.server
        lane.turns.leave()
        if self.failure is not None:
            lane.health.failed(at, self.failure, own_key=lane.own_key)
        elif outcome == "ok":
            lane.health.succeeded(at)
        else:
            lane.health.left()
        server.calls.discard(self)
        self.hold.close(outcome)
        note(self, outcome, at)
