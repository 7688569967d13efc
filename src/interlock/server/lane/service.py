"""The lane of one server: what its connections share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from interlock.app import App
from interlock.server.access_log import AccessLine, AccessLog
from interlock.server.lane.call import LaneCall
from interlock.server.lane.facts import Facts
from interlock.server.lane.upstream import Pools

__all__ = ["FastLane"]

_log = logging.getLogger("interlock.lane")
_TICK_S = 0.05
_SWEEP_TICKS = 20


class FastLane:
    """Shared by all connections of a server process.

    Args:
        count: told of each finished request: path, status, seconds.
    """

    def __init__(
        self, app: App, *, count: Callable[[str, int, float], None], access_log: AccessLog | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.pools = Pools(self.loop)
        self.facts = Facts(app, self.pools, self.loop)
        self.costs = app.parts.cost
        self.governance = app.parts.governance
        self.observe = app.parts.observe
        self.count = count
        self.access_log = access_log
        self.calls: set[LaneCall] = set()
        self.max_body_bytes = app.workspace.settings.server.max_body_bytes
        self.is_on = not app.parts.cost.waits_for_ledger
        """False while an answer's last byte must wait for its ledger row, which the lane does not do."""
        self._ticks = 0
        self._lines: tuple[object, bytes] = (None, b"")
        self._timer = self.loop.call_later(_TICK_S, self._tick)

    def status_line(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Status line and the headers that every answer of the server has, which uvicorn makes anew each second."""
        if headers is not self._lines[0]:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
            self._lines = (headers, b"HTTP/1.1 200 OK\r\n" + lines)
        return self._lines[1]

    def gave_up(self, path: str, seconds: float) -> None:
        """The body of a request did not come in time."""
        self.count(path, 408, seconds)
        if self.access_log is not None:
            self.access_log.add(AccessLine(time.time() - seconds, "POST", path, 408, seconds, None, ""))

    def _tick(self) -> None:
        """One timer for the deadlines of all calls."""
        # First of all, so that nothing below can stop the clock.
        self._timer = self.loop.call_later(_TICK_S, self._tick)
        at = time.monotonic()
        for call in [call for call in self.calls if at >= call.deadline]:
            try:
                call.on_tick(at)
            except Exception as error:  # noqa: BLE001 - a border: the other calls have deadlines too
                _log.error("a call could not be ended in time: %s", type(error).__name__, exc_info=error)
                call.abandon()
        self._ticks += 1
        if self._ticks % _SWEEP_TICKS == 0:
            self.pools.close_idle()

    def close(self) -> None:
        """Hang up on all upstreams."""
        self._timer.cancel()
        self.pools.close_idle(all_of_them=True)
