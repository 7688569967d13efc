"""When to try again, and how long to wait before it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from interlock.core.errors import InterlockError

__all__ = ["RetryBudget", "backoff_s", "worth_retrying"]

_BASE_S = 0.25
_CAP_S = 8.0


def worth_retrying(error: InterlockError) -> bool:
    """True for errors that the same call may not meet again. Only asked before the first token."""
    return error.retryable


def backoff_s(attempt: int, error: InterlockError, *, draw: float | None = None) -> float:
    """Seconds to wait after failed try `attempt` (1-based).

    Full jitter over an exponential cap (Brooker, 2015); a Retry-After from the provider is a lower bound, because
    coming back sooner only earns another refusal.

    Args:
        draw: a number in [0, 1) instead of a random one, for tests.
    """
    ceiling = min(_CAP_S, _BASE_S * 2.0 ** (attempt - 1))
    jittered = (random.random() if draw is None else draw) * ceiling  # noqa: S311 (no secret depends on it)
    return max(jittered, error.retry_after_s or 0.0)


class RetryBudget:
    """Keeps retries a small share of calls, so that they do not drown a provider that is already failing.

    Args:
        ratio: retries allowed for each call.
        per_s: retries allowed each second besides, so that a quiet caller may retry at all.
        clock: monotonic seconds.
    """

    def __init__(self, ratio: float, *, per_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.ratio = ratio
        self._per_s = per_s
        self._clock = clock
        self._most = max(10.0, per_s * 10)
        self._tokens = self._most
        self._at = clock()
        self.taken = 0
        """Retries made since start."""

    def call(self) -> None:
        """A first try is made."""
        self._tokens = min(self._most, self._tokens + self.ratio)

    def take(self) -> bool:
        """True when one retry may be made."""
        at = self._clock()
        self._tokens = min(self._most, self._tokens + (at - self._at) * self._per_s)
        self._at = at
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self.taken += 1
        return True
