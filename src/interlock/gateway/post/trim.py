"""White space at both ends goes."""

from __future__ import annotations

from interlock.gateway.ports import Rewrite

__all__ = ["plugin"]


def plugin(options: object) -> Rewrite:
    """Takes no options. Raises: ValueError."""
    if options is not None:
        raise ValueError("trim takes no options")
    return str.strip
