"""Columns and rows that a sheet hides, from its XML: the library that streams cells does not tell of them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Hidden", "hidden_in"]

_TAG = re.compile(rb"<(?:\w+:)?(col|row|autoFilter|filterColumn)\b([^<>]*)>")
_ATTRIBUTE = re.compile(rb"([\w:]+)\s*=\s*[\"']([^\"']*)")
_YES = frozenset({b"1", b"true"})
_STEP = 1024 * 1024
_MAX_COLUMNS = 16_384


class Hidden(NamedTuple):
    """Numbers from 1."""

    columns: frozenset[int]
    rows: frozenset[int]


def hidden_in(archive: zipfile.ZipFile, path: str) -> Hidden:
    """What a sheet hides for good: rows under a filter and what an outline folds away are shown by one click."""
    columns: set[int] = set()
    rows: set[int] = set()
    filtered: range = range(0)
    last = 0
    for tag, attributes in _tags(archive, path):
        if tag == b"autoFilter":
            filtered = _rows_of(attributes.get(b"ref", b""))
            continue
        if tag == b"row":
            last = _number(attributes.get(b"r", b"")) or last + 1
        if attributes.get(b"hidden") not in _YES or _number(attributes.get(b"outlineLevel", b"")):
            continue
        if tag == b"row":
            rows.add(last)
        elif tag == b"col":
            first = _number(attributes.get(b"min", b""))
            columns.update(range(first, min(_number(attributes.get(b"max", b"")), _MAX_COLUMNS) + 1))
    return Hidden(frozenset(columns), frozenset(row for row in rows if row not in filtered))


def _tags(archive: zipfile.ZipFile, path: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    with archive.open(path) as stream:
        rest = b""
        while piece := stream.read(_STEP):
            whole, cut, rest = (rest + piece).rpartition(b"<")
            for found in _TAG.finditer(whole):
                yield found.group(1), dict(_ATTRIBUTE.findall(found.group(2)))
            rest = cut + rest
        for found in _TAG.finditer(rest):
            yield found.group(1), dict(_ATTRIBUTE.findall(found.group(2)))


def _rows_of(reference: bytes) -> range:
    numbers = [_number(part) for part in re.findall(rb"\d+", reference)]
    return range(numbers[0], numbers[-1] + 1) if numbers else range(0)


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 9 else 0
