"""An answer that is one code fence becomes what is in it."""

from __future__ import annotations

import re

from interlock.gateway.ports import Rewrite

__all__ = ["plugin"]

_FENCE = re.compile(r"\s*```[^\n`]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


def plugin(options: object) -> Rewrite:
    """Takes no options. Raises: ValueError."""
    if options is not None:
        raise ValueError("strip_code_fence takes no options")

    def rewrite(text: str) -> str:
        match = _FENCE.fullmatch(text)
        return match.group(1) if match and "```" not in match.group(1) else text

    return rewrite
