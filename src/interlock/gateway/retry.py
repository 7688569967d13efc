"""When to try again, and how long to wait before it."""

from __future__ import annotations

import random

from interlock.core.errors import InterlockError

__all__ = ["backoff_s", "worth_retrying"]

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
