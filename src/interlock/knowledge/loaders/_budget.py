"""Time for work that takes long by its nature: asked for before each page, granted by whoever watches the clock."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["grant_through", "more_time"]

_grants: list[Callable[[float], None]] = []


def grant_through(callback: Callable[[float], None]) -> None:
    """From now on `callback` hears of every request of this process."""
    _grants[:] = [callback]


def more_time(seconds: float) -> None:
    """Ask for `seconds` more before a piece of bounded work; nothing happens where no clock is watched."""
    for grant in _grants:
        grant(seconds)
