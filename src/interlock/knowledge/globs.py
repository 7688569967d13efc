"""Globs over paths: ``*`` within a folder, ``**`` across folders."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["matches"]

_TOKEN = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])")
_SPECIAL = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
_STARS = frozenset({"**/", "**", "*"})
_FEW = 1
"""Stars up to which a regular expression is quick whatever it meets: each one more multiplies its worst time by the
length of the path."""
_SHORT = 1_000
"""Characters of a path up to which it is: what a pattern repeats is looked for at each of them."""
_KEPT_BYTES = 50_000
"""Of what a pattern remembers of its way, for as many as are kept."""


class _Steps:
    """A glob as a machine that is in all of its states at once, one bit each: its time grows with the path's length
    alone. Filters of callers are globs too, and nobody's pattern may keep a process busy.
    """

    def __init__(self, tokens: list[str]) -> None:
        self._literal: dict[str, int] = {}
        ruled: dict[str, int] = {}
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
            if _is_one(token):
                ruled[_source(token)] = ruled.get(_source(token), 0) | 1 << place
                place += 1
                continue
            for sign in token:
                self._literal[sign] = self._literal.get(sign, 0) | 1 << place
                place += 1
        self._ruled = [(re.compile(source, re.DOTALL), places) for source, places in ruled.items()]
        self._end = 1 << place
        self._begin = self._rested(1)
        self._known: dict[tuple[int, str], int] = {}
        self._room = max(32, _KEPT_BYTES // (150 + place // 3))

    def match(self, path: str) -> bool:
        now, known = self._begin, self._known
        for sign in path:
            then = known.get((now, sign))
            if then is None:
                then = self._after(now, sign)
                if len(known) >= self._room:
                    known = self._known = {}
                known[now, sign] = then
            if not then:
                return False
            now = then
        return bool(now & self._end)

    def _after(self, now: int, sign: str) -> int:
        wanted = self._literal.get(sign, 0)
        for pattern, places in self._ruled:
            if now & places and pattern.fullmatch(sign):
                wanted |= places
        then = (now & wanted) << 1 | now & self._any
        if sign == "/":
            then |= (now & self._folder) >> 1
        else:
            then |= now & self._inside | (now & self._enters) << 1 | now & self._folder
        return self._rested(then)

    def _rested(self, now: int) -> int:
        """With all states that a star which takes nothing leads to."""
        while (more := now | (now & self._skips) << 1 | (now & self._enters) << 2) != now:
            now = more
        return now


class _Glob(NamedTuple):
    """A glob as it is tried."""

    quick: re.Pattern[str] | None
    """For short paths, where that is quick."""
    steps: _Steps


def _is_one(token: str) -> bool:
    """Whether a token stands for one character of a path by a rule of its own."""
    return token in _SPECIAL or _source(token) != re.escape(token)


@lru_cache(maxsize=2048)
def _pattern(glob: str) -> _Glob:
    tokens: list[str] = []
    for token in filter(None, _TOKEN.split(glob)):
        last = tokens[-1] if tokens else ""
        if token in _STARS and last in _STARS and (token == last or "**" in {token, last}):
            # Stars side by side are as many as the one that takes most.
            tokens[-1] = "**" if "**" in {token, last} else token
        else:
            tokens.append(token)
    few = sum(token in _STARS for token in tokens) <= _FEW
    quick = re.compile("".join(_source(token) for token in tokens), re.DOTALL) if few else None
    return _Glob(quick, _Steps(tokens))


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
    if found.quick is not None and len(path) <= _SHORT:
        return found.quick.fullmatch(path) is not None
    return found.steps.match(path)
