"""Globs over paths: ``*`` within a folder, ``**`` across folders."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["matches"]


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    special = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    return re.compile("".join(special.get(part) or _class_or_literal(part) for part in parts if part), re.DOTALL)


def _class_or_literal(part: str) -> str:
    if not (part.startswith("[") and part.endswith("]") and len(part) > 2):
        return re.escape(part)
    negated = part.startswith("[!") and len(part) > 3
    # One hyphen makes a range; two in a row would be another library's set difference.
    escaped = re.escape(part[2 if negated else 1 : -1])
    inner = re.sub(r"(?:\\-)+", lambda run: "-" if run[0] == r"\-" else run[0], escaped)
    pattern = f"[^/{inner}]" if negated else f"[{inner}]"
    try:
        re.compile(pattern)
    except re.error:  # a range the wrong way round is read as plain text
        return re.escape(part)
    return pattern


def matches(glob: str, path: str) -> bool:
    """Whether the whole `path` (with ``/``) matches; ``**`` crosses folders, ``**/`` also matches none."""
    return _pattern(glob).fullmatch(path) is not None
