"""Time: aware UTC datetimes for people, integer nanoseconds for spans, a monotonic deadline for waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from interlock.core.errors import DeadlineExceeded

__all__ = ["Deadline", "now", "now_ns"]


def now() -> datetime:
    """Current time, aware, UTC."""
    return datetime.now(UTC)


def now_ns() -> int:
    """Nanoseconds since the Unix epoch (wall clock)."""
    return time.time_ns()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock after which nobody waits for the result."""

    at: float
    """Seconds of :func:`time.monotonic`."""

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    def check(self, doing: str) -> None:
        """Raise :class:`DeadlineExceeded` when the deadline has passed while `doing` something."""
        if self.at <= time.monotonic():
            raise DeadlineExceeded(
                f"the deadline passed while {doing}", hint="raise the timeout or ask for a shorter answer"
            )
