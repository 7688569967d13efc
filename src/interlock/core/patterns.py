"""Regular expressions that an operator or a caller wrote, tried on text that somebody else wrote, within a time limit.

Python's own `re` cannot be stopped: one pattern such as ``(a+)+$`` and thirty letters hold a whole server. `regex`
reads the same patterns and gives up in time. A pattern that was given up on is an error, never "no match": a rule
that could not be checked must not count as kept.
"""

from __future__ import annotations

from functools import lru_cache

import regex

from interlock.core.errors import Misconfigured
from interlock.core.passages import Span

__all__ = ["LIMIT_S", "check_pattern", "found_in", "replaced", "spans"]

LIMIT_S = 0.1
"""Longest time one pattern is tried on one text, in seconds of the processor."""


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
    try:
        return _compiled(pattern).search(text, timeout=LIMIT_S) is not None
    except TimeoutError as error:
        raise _too_slow() from error


def replaced(pattern: str, replacement: str, text: str) -> str:
    """Every match replaced. Raises: Misconfigured (`pattern_too_slow`); ValueError: a group that is not there."""
    try:
        return str(_compiled(pattern).sub(replacement, text, timeout=LIMIT_S))
    except TimeoutError as error:
        raise _too_slow() from error
    except (regex.error, IndexError) as error:
        raise ValueError(str(error)) from error


def spans(pattern: str, text: str) -> list[Span]:
    """Every match, whatever its case, first to last. Raises: Misconfigured (`pattern_too_slow`)."""
    try:
        matches = _compiled(pattern, ignore_case=True).finditer(text, timeout=LIMIT_S)
        return [Span(*match.span()) for match in matches]
    except TimeoutError as error:
        raise _too_slow() from error


def _too_slow() -> Misconfigured:
    return Misconfigured(
        "a regular expression of the configuration took too long on a text and was given up",
        code="pattern_too_slow",
        hint="write it without a repeat inside a repeat, or with upper bounds: {1,50} instead of +",
    )
