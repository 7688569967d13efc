"""How long a run still takes, by its pace of late: unchanged documents pass a hundred times faster than new ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

__all__ = ["Pace", "told"]

_WINDOW_S = 60.0
_EVERY_S = 1.0
_LEAST_S = 5.0
"""Before that nothing can be said."""


class Pace:
    """Watches one run.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def left_s(self, done: int, total: int) -> float | None:
        """Seconds until `total` at the pace of the last minute; None while that cannot be said."""
        at = self._clock()
        if at - self._seen[-1][0] >= _EVERY_S:
            self._seen.append((at, done))
            while len(self._seen) > 2 and at - self._seen[1][0] > _WINDOW_S:
                self._seen.popleft()
        began, before = self._seen[0]
        if at - began < _LEAST_S or done <= before or done > total:
            return None
        return (total - done) * (at - began) / (done - before)


def told(seconds: float | None) -> str:
    """For people: ``about 3 min left``; empty when it is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"
