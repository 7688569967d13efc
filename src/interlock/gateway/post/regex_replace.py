"""What matches a regular expression is replaced."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.core.patterns import check_pattern, replaced
from interlock.gateway.ports import Rewrite

__all__ = ["plugin"]


def plugin(options: object) -> Rewrite:
    r"""Takes ``{pattern, with}``; `with` may name groups as ``\1``. Raises: ValueError."""
    if not isinstance(options, Mapping) or set(options) - {"pattern", "with"} or "pattern" not in options:
        raise ValueError("regex_replace takes {pattern: …, with: …}")
    replacement = str(options.get("with", ""))
    pattern = str(options["pattern"])
    try:
        check_pattern(pattern)
        # A group that the pattern does not have shows only when something matches; better now.
        replaced(f"(?:{pattern})|", replacement, "")
    except ValueError as error:
        raise ValueError(f"regex_replace: {error}") from error

    def rewrite(text: str) -> str:
        return replaced(pattern, replacement, text)

    return rewrite
