"""How each target is doing, as this worker sees it: circuit breaker, cool-down, latency, errors, calls in flight.

States of the breaker: *closed* lets calls through; *open* refuses them until a pause is over; *half-open* lets one
probe through, whose end closes or reopens it. Each time it reopens the pause doubles.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from interlock.core.errors import InterlockError, LimitExceeded, ProviderError

__all__ = ["FIRST_TOKEN_S", "BreakerState", "Health", "TargetHealth"]

BreakerState = Literal["closed", "open", "half-open"]
FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the classes in which times to a first token are counted; one more class has no bound."""
_MOST = 2000
_DECAY_S = 15.0
"""Weight of a latency falls to 1/e in this time, so that a target that was slow is tried again."""


@dataclass(slots=True)
class TargetHealth:
    """One target's recent past. Times are monotonic seconds."""

    failures_to_open: int
    failure_rate: float
    window_s: float
    pause_s: float
    max_pause_s: float
    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    rejected: int = 0
    served: int = 0
    abandoned: int = 0
    """Calls whose caller left."""
    refused: int = 0
    """Calls that failed by the request's own fault."""
    unanswered: int = 0
    """Calls in a row that failed by its own fault or that its provider's limits turned away."""
    fallbacks: int = 0
    """Times a request went on to its next target from here."""
    waits: list[int] = field(default_factory=lambda: [0] * (len(FIRST_TOKEN_S) + 1))
    """Calls by time to the first token, see `FIRST_TOKEN_S`."""
    waited_s: float = 0.0
    """Sum of those times."""
    latency_s: float | None = None
    """Decayed mean time to the first token of successful calls."""
    seen_at: float = 0.0
    last_error: str = ""
    opened_at: float | None = None
    cool_until: float = 0.0
    _pause: float = 0.0
    _row: int = 0
    _probing: bool = False
    _failed_at: float = -math.inf
    """When it last failed by its own fault."""
    _recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=512))

    def state(self, at: float) -> BreakerState:
        """Of the breaker."""
        if self.opened_at is None:
            return "closed"
        return "half-open" if at >= self.opened_at + self._pause else "open"

    def is_resting(self, at: float) -> bool:
        """True while the breaker lets no call through."""
        state = self.state(at)
        return state == "open" or (state == "half-open" and self._probing)

    def is_cooling(self, at: float) -> bool:
        """True while its provider's Retry-After lasts: it is asked last then."""
        return at < self.cool_until

    def free_at(self, at: float) -> float:
        """When a resting target may be probed."""
        return self.opened_at + self._pause if self.opened_at is not None else at

    def error_rate(self, at: float) -> float:
        """Share of failed calls within the window, 0 without any."""
        if self._failed_at <= at - self.window_s:
            return 0.0
        recent = [failed for when, failed in self._recent if when > at - self.window_s]
        return sum(recent) / len(recent) if recent else 0.0

    def expected_s(self, at: float) -> float:
        """What the next call is likely to wait: decayed latency times the calls in flight (0 when nothing is known)."""
        if self.latency_s is None:
            return 0.0
        # An old figure fades, so that a target nobody dares to ask is asked again.
        return self.latency_s * math.exp(-max(0.0, at - self.seen_at) / (4 * _DECAY_S)) * (self.in_flight + 1)

    def begin(self, at: float) -> None:
        """A call goes out."""
        self.in_flight += 1
        self.calls += 1
        if self.state(at) == "half-open":
            self._probing = True

    def first_token(self, at: float, waited_s: float) -> None:
        """Its first token came."""
        self.waits[bisect.bisect_left(FIRST_TOKEN_S, waited_s)] += 1
        self.waited_s += waited_s
        weight = 1.0 if self.latency_s is None else 1 - math.exp(-max(0.05, at - self.seen_at) / _DECAY_S)
        before = waited_s if self.latency_s is None else self.latency_s
        self.latency_s = before + weight * (waited_s - before)
        self.seen_at = at

    def succeeded(self, at: float) -> None:
        """It ended well."""
        self.in_flight -= 1
        self.served += 1
        self.unanswered = 0
        self._recent.append((at, False))
        self._row = 0
        self._probing = False
        self.opened_at = None
        self._pause = 0.0

    def left(self) -> None:
        """Its caller went away: says nothing about the target."""
        self.in_flight -= 1
        self.abandoned += 1
        self._probing = False

    def failed(self, at: float, error: InterlockError, *, own_key: bool = False) -> None:
        """It failed. Errors that are the request's own fault do not count against the target.

        Args:
            own_key: the call went out under a key of its tenant alone: that such a key is wrong or used up says nothing
                about the target as others call it.
        """
        self.in_flight -= 1
        self._probing = False
        self.last_error = error.code
        if own_key and _keys_fault(error):
            self.refused += 1
            return
        if isinstance(error, LimitExceeded):
            self.rejected += 1
            self.unanswered += 1
            self.cool_until = at + min(error.retry_after_s or 1.0, self.max_pause_s)
            return
        if not _targets_fault(error):
            self.refused += 1
            return
        self.failures += 1
        self.unanswered += 1
        self._row += 1
        self._failed_at = at
        self._recent.append((at, True))
        recent = [failed for when, failed in self._recent if when > at - self.window_s]
        often = len(recent) >= self.failures_to_open * 2 and sum(recent) / len(recent) >= self.failure_rate
        if self.opened_at is not None or self._row >= self.failures_to_open or often:
            self._pause = min(self._pause * 2 or self.pause_s, self.max_pause_s)
            self.opened_at = at


def _keys_fault(error: InterlockError) -> bool:
    if isinstance(error, LimitExceeded):
        return True
    return isinstance(error, ProviderError) and error.upstream_status in {401, 402, 403, 429}


def _targets_fault(error: InterlockError) -> bool:
    if isinstance(error, ProviderError) and error.upstream_status is not None:
        # 401 and 403 are a broken key: every call will fail until somebody mends it.
        return error.upstream_status >= 500 or error.upstream_status in {401, 403, 408, 425, 429}
    return error.status >= 500


class Health:
    """Of all targets, by name.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        failures: int,
        failure_rate: float,
        window_s: float,
        pause_s: float,
        max_pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._figures = (failures, failure_rate, window_s, pause_s, max_pause_s)
        self.clock = clock
        self.targets: dict[str, TargetHealth] = {}

    def use(
        self,
        *,
        failures: int,
        failure_rate: float,
        window_s: float,
        pause_s: float,
        max_pause_s: float,
        forget: Callable[[str], bool],
    ) -> None:
        """Judge by other figures from now on; targets that `forget` names are well again."""
        self._figures = (failures, failure_rate, window_s, pause_s, max_pause_s)
        self.targets = {name: state for name, state in self.targets.items() if not forget(name)}
        for state in self.targets.values():
            (state.failures_to_open, state.failure_rate, state.window_s, state.pause_s, state.max_pause_s) = (
                self._figures
            )

    def of(self, target: str) -> TargetHealth:
        """Health of one target; a new one is well."""
        if target not in self.targets:
            if len(self.targets) >= _MOST:
                # Callers name models: what nobody calls now and what never served goes first.
                for name in [name for name, state in self.targets.items() if not state.in_flight and not state.served]:
                    del self.targets[name]
            self.targets[target] = TargetHealth(*self._figures)
        return self.targets[target]
