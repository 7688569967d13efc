"""Regular expressions that an operator or a caller wrote, tried on text that somebody else wrote, within a time limit.

Python's own `re` cannot be stopped: one pattern such as ``(a+)+$`` and thirty letters hold a whole server. `regex`
reads the same patterns and gives up in time. A pattern that was given up on is an error, never "no match": a rule
that could not be checked must not count as kept.

What runs on an event loop tries patterns by :func:`aside`: in one of a few threads, where a slow one does not hold the
loop, and with one limit for all patterns of a text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import pairwise
from typing import TypeVar

import regex

from interlock.core.errors import Misconfigured
from interlock.core.passages import Span

__all__ = ["LIMIT_S", "aside", "check_pattern", "found_in", "replaced", "slow_on", "spans"]

LIMIT_S = 0.1
"""Longest time that one pattern, or all patterns of one `aside`, are tried on a text, in seconds of the processor."""
_AT_ONCE = 2
"""Threads that try patterns: slow ones wait for one another and leave the rest of the machine alone."""
_PROBE_CHARS = 40
_T = TypeVar("_T")


class _Left:
    """What is left of the time that several patterns share."""

    __slots__ = ("s",)

    def __init__(self) -> None:
        self.s = LIMIT_S


_left: ContextVar[_Left | None] = ContextVar("patterns_left", default=None)


async def aside(work: Callable[[], _T]) -> _T:
    """Run `work`, which tries patterns, beside the event loop. All its patterns together have `LIMIT_S`.

    Raises: what `work` raises; Misconfigured (`pattern_too_slow`).
    """

    def run() -> _T:
        with _shared():
            return work()

    return await asyncio.get_running_loop().run_in_executor(_threads(), run)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="patterns")


@contextmanager
def _shared() -> Iterator[None]:
    token = _left.set(_Left())
    try:
        yield
    finally:
        _left.reset(token)


def _timed(run: Callable[[float, bool], _T]) -> _T:
    """Run one pattern: `run` takes its limit in seconds, and whether other threads may run meanwhile."""
    left = _left.get()
    began = time.thread_time()
    limit = LIMIT_S if left is None else left.s
    try:
        if limit <= 0:
            raise TimeoutError
        return run(limit, left is not None)
    except TimeoutError as error:
        raise _too_slow() from error
    finally:
        if left is not None:
            left.s -= time.thread_time() - began


@lru_cache(maxsize=1024)
def _compiled(pattern: str, ignore_case: bool = False) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


def check_pattern(pattern: str) -> str:
    """`pattern` itself. Raises: ValueError: it is no regular expression."""
    try:
        _compiled(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


def found_in(pattern: str, text: str) -> bool:
    """Whether `pattern` matches anywhere. Raises: Misconfigured (`pattern_too_slow`)."""
    compiled = _compiled(pattern)
    return _timed(lambda limit, aside: compiled.search(text, timeout=limit, concurrent=aside) is not None)


def replaced(pattern: str, replacement: str, text: str) -> str:
    """Every match replaced. Raises: Misconfigured (`pattern_too_slow`); ValueError: a group that is not there."""
    compiled = _compiled(pattern)
    try:
        return str(_timed(lambda limit, aside: compiled.sub(replacement, text, timeout=limit, concurrent=aside)))
    except (regex.error, IndexError) as error:
        raise ValueError(str(error)) from error


def spans(pattern: str, text: str) -> list[Span]:
    """Every match, whatever its case, first to last. Raises: Misconfigured (`pattern_too_slow`)."""
    compiled = _compiled(pattern, ignore_case=True)
    return _timed(
        lambda limit, aside: [Span(*match.span()) for match in compiled.finditer(text, timeout=limit, concurrent=aside)]
    )


def slow_on(pattern: str) -> str | None:
    """A short text on which `pattern` takes too long, in words; None when no such text was found.

    Tries runs of the pattern's own characters with something after them that cannot match, which is what patterns with
    a repeat inside a repeat never finish.
    """
    compiled = _compiled(pattern)
    own = list(dict.fromkeys(char for char in pattern if char.isalnum()))[:8]
    runs = [*own, *(one + two for one, two in pairwise(own)), "a", "1", " ", "-", ".", "a1", "a "]
    for run in dict.fromkeys(runs):
        times = _PROBE_CHARS // len(run)
        # What a pattern needs at its end must stand somewhere, or the search is given up before it began.
        for end in ("\x00", "\x00" + "".join(own)):
            try:
                compiled.search(run * times + end, timeout=LIMIT_S)
            except TimeoutError:
                return f"{times} times {run!r} and a character that does not match"
    return None


def _too_slow() -> Misconfigured:
    return Misconfigured(
        "a regular expression of the configuration took too long on a text and was given up",
        code="pattern_too_slow",
        hint="write it without a repeat inside a repeat, or with upper bounds: {1,50} instead of +",
    )
