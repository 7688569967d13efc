"""A longer answer is cut, at the last space before the bound where there is one."""

from __future__ import annotations

from interlock.gateway.ports import Rewrite

__all__ = ["plugin"]


def plugin(options: object) -> Rewrite:
    """Takes the number of characters. Raises: ValueError."""
    if not isinstance(options, int) or isinstance(options, bool) or options < 1:
        raise ValueError("max_chars takes a number of characters, as max_chars: 2000")
    most = options

    def rewrite(text: str) -> str:
        if len(text) <= most:
            return text
        cut = text[:most]
        space = cut.rfind(" ")
        return cut[:space] if space > most // 2 else cut

    return rewrite
