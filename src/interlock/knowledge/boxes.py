"""Where text stands on its pages, as it is stored beside the text: a blob of its own, found by its digest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby

import msgspec

from interlock.core.passages import Span
from interlock.knowledge.types import Box, LoadedDocument, PageBoxes, PageSize

__all__ = ["boxes_of", "encode_boxes"]

_TENTHS = 10
"""Coordinates are whole tenths of a point: finer than any eye, and three bytes instead of nine."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """Version 1. New fields go to the end with a default; older blobs then still decode."""

    version: int
    sizes: list[tuple[int, int]]
    """Width and height of each page."""
    rows: list[tuple[int, int, int, int, int, int, int]]
    """Start, end, page, left, top, right, bottom; in the order of the text."""


def encode_boxes(document: LoadedDocument) -> bytes:
    """The boxes of a document, about 20 bytes a line; nothing when it has none."""
    if not document.boxes:
        return b""
    sizes = [(round(size.width * _TENTHS), round(size.height * _TENTHS)) for size in document.page_sizes]
    return msgspec.msgpack.encode(_Stored(1, sizes, sorted(map(_row, document.boxes))))


def _row(box: Box) -> tuple[int, int, int, int, int, int, int]:
    left, top, right, bottom = (round(edge * _TENTHS) for edge in (box.left, box.top, box.right, box.bottom))
    return box.start, box.end, box.page, left, top, right, bottom


def boxes_of(data: bytes, span: Span) -> tuple[PageBoxes, ...]:
    """The boxes that `span` touches, page by page, out of what `encode_boxes` of this or an older version wrote."""
    stored = msgspec.msgpack.decode(data, type=_Stored)
    sizes = [PageSize(width / _TENTHS, height / _TENTHS) for width, height in stored.sizes]
    # Rows do not overlap, so the one before the first that starts after the span's start may still reach into it.
    first = max(0, bisect_right(stored.rows, span.start, key=lambda row: row[0]) - 1)
    found: list[Box] = []
    for start, end, page, *edges in stored.rows[first:]:
        if start >= span.end:
            break
        if end > span.start:
            left, top, right, bottom = (edge / _TENTHS for edge in edges)
            found.append(Box(start, end, page, left, top, right, bottom))
    return tuple(_page(page, sizes, list(boxes)) for page, boxes in groupby(found, key=lambda box: box.page))


def _page(page: int, sizes: Sequence[PageSize], boxes: Sequence[Box]) -> PageBoxes:
    size = sizes[page - 1] if 0 < page <= len(sizes) else PageSize(0.0, 0.0)
    return PageBoxes(page, size.width, size.height, tuple(boxes))
