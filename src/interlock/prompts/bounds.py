"""How much a template may do: what it may repeat, how large its values grow, how much it writes, how long it takes.

Python can do a great deal in one step (``'a' * 10**9``, ``'%1000000000d' % 1``), and a thread cannot be stopped from
outside. So sizes are reckoned before the step, and every step is counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, MappingView, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from string import Formatter
from typing import Any

__all__ = [
    "MOST_SIZE",
    "Unbounded",
    "charge",
    "check_braces",
    "check_filter",
    "check_method",
    "check_operator",
    "counted",
    "ranged",
    "sized",
    "within",
    "written",
]

MOST_STEPS = 100_000
"""Turns of loops, calls, filters, tests and operators of one rendering."""
MOST_RANGE = 10_000
"""Numbers of all ranges of one rendering."""
MOST_SIZE = 1_000_000
"""Characters and entries of one value; also characters of what is rendered."""
MOST_WRITTEN = 4 * MOST_SIZE
"""Characters of all outputs, also of those in macros and blocks that go into others."""
MOST_MADE = 20 * MOST_SIZE
"""Characters and entries of all values that were made on the way."""
MOST_SECONDS = 5.0
_MOST_BITS = 20_000
_MOST_WIDTH = 9_999
_MOST_PARTS = 10_000

# Any in this module: values of templates.


class Unbounded(Exception):
    """A template does more than one may; the message says of what, and nothing of any value."""


@dataclass(slots=True)
class _Spent:
    until: float
    steps: int = 0
    ranged: int = 0
    made: int = 0
    written: int = 0


_spent: ContextVar[_Spent | None] = ContextVar("template_spent", default=None)
_until: ContextVar[float | None] = ContextVar("template_until", default=None)


@contextmanager
def within(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """All renderings inside have this time together."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


@contextmanager
def counted() -> Iterator[None]:
    """One rendering: what it does is counted from nothing."""
    token = _spent.set(_Spent(_until.get() or time.monotonic() + MOST_SECONDS))
    try:
        yield
    finally:
        _spent.reset(token)


def charge(made: int = 0) -> None:
    """Count one step. Raises: Unbounded."""
    spent = _spent.get()
    if spent is None:
        return
    spent.steps += 1
    spent.made += made
    if spent.steps > MOST_STEPS:
        raise Unbounded(f"loops and calls are bounded to {MOST_STEPS:,} steps")
    if spent.made > MOST_MADE:
        raise Unbounded(f"the values made on the way are bounded to {MOST_MADE:,} characters and entries")
    if time.monotonic() > spent.until:
        raise Unbounded(f"rendering is bounded to {MOST_SECONDS:g} seconds")


def ranged(*given: int) -> range:
    """Jinja's `range`. Raises: Unbounded."""
    found = range(*given)
    spent = _spent.get()
    # `len` of a huge range does not fit a C integer.
    count = max(0, (found.stop - found.start + found.step - (1 if found.step > 0 else -1)) // found.step)
    total = count + (0 if spent is None else spent.ranged)
    if total > MOST_RANGE:
        raise Unbounded(f"ranges are bounded to {MOST_RANGE:,} numbers together")
    if spent is not None:
        spent.ranged = total
    return found


def written(value: Any) -> Any:
    """`value`, which is put out. Raises: Unbounded."""
    size = weight(value)
    spent = _spent.get()
    if spent is not None:
        spent.written += size
        if spent.written > MOST_WRITTEN:
            raise Unbounded(f"what is written is bounded to {MOST_WRITTEN:,} characters")
    return value


def sized(value: Any) -> Any:
    """`value`, which was made. Raises: Unbounded."""
    charge(weight(value))
    return value


def weight(value: Any) -> int:
    """Characters and entries of a value, of one that stands in it twice both times. Raises: Unbounded."""
    if isinstance(value, str | bytes):
        return _at_most(len(value))
    if value is None or isinstance(value, bool | float):
        return 1
    total, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, str | bytes):
            total += len(each) or 1
        elif isinstance(each, int):
            total += 1 + each.bit_length() // 4
        else:
            total += 1
            if isinstance(each, list | tuple):
                _at_most(total + len(left) + len(each))
                left += each
            elif isinstance(each, Mapping):
                _at_most(total + len(left) + len(each))
                left += each.keys()
                left += each.values()
            elif isinstance(each, MappingView):
                _at_most(total + len(left) + len(each))
                left += each  # type: ignore[arg-type]  # every view of a dict is iterable
            elif hasattr(each, "__html__"):
                # An imported template stands for all that it writes.
                total += len(str(each))
        _at_most(total)
    return total


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Before ``*``, ``**`` and ``%``. Raises: Unbounded."""
    if operator == "%" and isinstance(left, str):
        check_percent(left, right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() * abs(right))
    elif operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            _bits(left.bit_length() + right.bit_length())
        elif isinstance(left, int):
            _at_most(left * weight(right))
        elif isinstance(right, int):
            _at_most(right * weight(left))


def check_percent(text: str, given: Any) -> None:
    """Before ``text % given``. Raises: Unbounded."""
    specs = _PERCENT.findall(text)
    _widths(len(text), [part for spec in specs for part in spec], len(specs), given)


def check_braces(text: str, given: Any) -> None:
    """Before ``text.format(…)``. Raises: Unbounded; ValueError: it is no format."""
    specs = [spec or "" for _, name, spec, _ in Formatter().parse(text) if name is not None]
    _widths(len(text), [part for spec in specs for part in _STEPS.findall(spec)], len(specs), given)


_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d+)?(?:\.(\*|\d+))?")
_STEPS = re.compile(r"\d+|\{")


def _widths(length: int, parts: list[str], count: int, given: Any) -> None:
    total = 0
    for part in filter(None, parts):
        # A width that is itself a value is as wide as the caller likes.
        if not part.isdecimal() or len(part.lstrip("0")) > 4:
            raise Unbounded(f"widths in formats are bounded to {_MOST_WIDTH:,} and written as digits")
        total += int(part)
    _at_most(length + total + count * weight(given))


def check_method(name: str, owner: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Before a method of a text. Raises: Unbounded."""
    if isinstance(owner, str) and name in _METHODS:
        _fitting(_METHODS[name], owner, given, named)


def check_filter(name: str, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Before a filter: its arguments as the template gives them, the value first. Raises: Unbounded."""
    if name in _FILTERS and given:
        _fitting(_FILTERS[name], given[0], given[1:], named)


def _fitting(check: Callable[..., None], value: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    # What the arguments cannot be, the method or filter itself says.
    try:
        check(value, *given, **named)
    except (TypeError, ValueError, AttributeError):
        return


def _width(_: Any, width: Any = 80, *__: Any) -> None:
    _at_most(int(width))


def _replace(text: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> None:
    text = str(text)
    _at_most(len(text) + text.count(str(old)) * len(str(new)))


def _join(value: Any, d: Any = "", *_: Any, **__: Any) -> None:
    # Of what is made one by one nobody knows how many there are.
    count = len(value) if isinstance(value, Sized) else MOST_RANGE
    _at_most(count * len(str(d)))


def _expandtabs(text: str, tabsize: int = 8) -> None:
    _at_most(len(text) + text.count("\t") * tabsize)


def _strip(_: Any, chars: Any = None, *__: Any) -> None:
    _parts(len(chars or ""))


def _indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    text = str(text)
    _at_most(len(text) + (len(text.splitlines()) + 1) * _length(width))


def _wordwrap(text: Any, width: Any = 79, _: Any = True, wrapstring: Any = None, *__: Any, **___: Any) -> None:
    text = str(text)
    lines = len(text) // max(int(width), 1) + 1
    _at_most(len(text) * len(wrapstring or ""))
    # A long word is cut off at its beginning and copied, line by line.
    _at_most(lines * len(text) // 1000)


def _batch(_: Any, linecount: Any = 1, fill_with: Any = None) -> None:
    _parts(linecount)
    _at_most(linecount * weight(fill_with))


def _slice(_: Any, slices: Any = 1, fill_with: Any = None) -> None:
    _parts(slices)
    _at_most(slices * weight(fill_with))


def _round(_: Any, precision: Any = 0, *__: Any, **___: Any) -> None:
    _bits(abs(precision) * 100)


def _tojson(value: Any, indent: Any = None) -> None:
    _at_most(weight(value) * (1 + _depth(value) * _length(indent or 0)))


def _pprint(value: Any) -> None:
    _parts(weight(value))


def _sum(_: Any, attribute: Any = None, start: Any = 0) -> None:
    if isinstance(start, list | tuple):
        raise Unbounded("sums are of numbers: lists are joined by +")


def _map(_: Any, *__: Any, default: Any = None, **___: Any) -> None:
    _at_most(weight(default) * 1000)


def _urlize(_: Any, *given: Any, **named: Any) -> None:
    _at_most(weight([*given, *named.values()]) * 1000)


def _format(text: Any, *given: Any, **named: Any) -> None:
    check_percent(str(text), [*given, *named.values()])


_METHODS: dict[str, Callable[..., None]] = {
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "zfill": _width,
    "expandtabs": _expandtabs,
    "replace": _replace,
    "join": lambda text, parts: _join(parts, text),
    "strip": _strip,
    "lstrip": _strip,
    "rstrip": _strip,
}
_FILTERS: dict[str, Callable[..., None]] = {
    "batch": _batch,
    "center": _width,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "map": _map,
    "pprint": _pprint,
    "replace": _replace,
    "round": _round,
    "slice": _slice,
    "sum": _sum,
    "tojson": _tojson,
    "trim": _strip,
    "urlize": _urlize,
    "wordwrap": _wordwrap,
}


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [each for each in level if isinstance(each, list | tuple | dict)]
        level = [each for outer in inner for each in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _length(width: Any) -> int:
    return len(width) if isinstance(width, str) else int(width)


def _at_most(size: int) -> int:
    if size > MOST_SIZE:
        raise Unbounded(f"a value is bounded to {MOST_SIZE:,} characters and entries")
    return size


def _parts(count: int) -> None:
    if count > _MOST_PARTS:
        raise Unbounded(f"parts of a value are bounded to {_MOST_PARTS:,}")


def _bits(count: int) -> None:
    if count > _MOST_BITS:
        raise Unbounded(f"numbers are bounded to {_MOST_BITS:,} bits")
