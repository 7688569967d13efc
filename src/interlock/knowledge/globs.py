"""Globs over paths: ``*`` within a folder, ``**`` across folders."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["matches"]

_TOKEN = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])")
_SPECIAL = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
_STARS = frozenset({"**/", "**", "*"})
_FEW = 2
"""Stars up to which a regular expression is quick whatever it meets: each one more multiplies its worst time by the
length of the path."""


class _Steps:
    """A glob as a machine that is in all of its states at once, one bit each: its time grows with the path's length
    alone. Filters of callers are globs too, and nobody's pattern may keep a process busy.
    """

    def __init__(self, tokens: list[str]) -> None:
        self._fixed: list[tuple[int, re.Pattern[str]]] = []
        self._any = self._inside = self._skips = self._enters = self._folder = 0
        place = 0
        for token in tokens:
            if token == "**/":
                # Two states: before a folder's name, and within it.
                self._enters |= 1 << place
                self._folder |= 2 << place
                place += 2
                continue
            if token in _STARS:
                self._skips |= 1 << place
                if token == "**":
                    self._any |= 1 << place
                else:
                    self._inside |= 1 << place
                place += 1
                continue
            for one in [token] if _is_one(token) else list(token):
                self._fixed.append((1 << place, re.compile(_source(one), re.DOTALL)))
                place += 1
        self._end = 1 << place
        self._known: dict[str, int] = {}

    def match(self, path: str) -> bool:
        now = self._rested(1)
        for sign in path:
            wanted = self._known.get(sign)
            if wanted is None:
                wanted = sum(bit for bit, pattern in self._fixed if pattern.fullmatch(sign))
                if len(self._known) < 512:
                    self._known[sign] = wanted
            then = (now & wanted) << 1 | now & self._any
            if sign == "/":
                then |= (now & self._folder) >> 1
            else:
                then |= now & self._inside | (now & self._enters) << 1 | now & self._folder
            if not then:
                return False
            now = self._rested(then)
        return bool(now & self._end)

    def _rested(self, now: int) -> int:
        """With all states that a star which takes nothing leads to."""
        while (more := now | (now & self._skips) << 1 | (now & self._enters) << 2) != now:
            now = more
        return now


def _is_one(token: str) -> bool:
    """Whether a token stands for one character of a path by a rule of its own."""
    return token in _SPECIAL or _source(token) != re.escape(token)


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str] | _Steps:
    tokens: list[str] = []
    for token in _TOKEN.split(glob):
        # A star behind one of its kind adds nothing.
        if token and not (token in _STARS and tokens and tokens[-1] == token):
            tokens.append(token)
    if sum(token in _STARS for token in tokens) > _FEW:
        return _Steps(tokens)
    return re.compile("".join(_source(token) for token in tokens), re.DOTALL)


def _source(token: str) -> str:
    if token in _SPECIAL:
        return _SPECIAL[token]
    if not (token.startswith("[") and token.endswith("]") and len(token) > 2):
        return re.escape(token)
    negated = token.startswith("[!") and len(token) > 3
    # One hyphen makes a range; two in a row would be another library's set difference.
    escaped = re.escape(token[2 if negated else 1 : -1])
    inner = re.sub(r"(?:\\-)+", lambda run: "-" if run[0] == r"\-" else run[0], escaped)
    pattern = f"[^/{inner}]" if negated else f"[{inner}]"
    try:
        re.compile(pattern)
    except re.error:  # a range the wrong way round is read as plain text
        return re.escape(token)
    return pattern


def matches(glob: str, path: str) -> bool:
    """Whether the whole `path` (with ``/``) matches; ``**`` crosses folders, ``**/`` also matches none.

    The time it takes grows with the lengths of both and no faster, whoever wrote them.
    """
    found = _pattern(glob)
    if isinstance(found, _Steps):
        return found.match(path)
    return found.fullmatch(path) is not None
