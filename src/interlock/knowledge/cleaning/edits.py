"""Changes to a text before it becomes the one text: everything that points into it moves along."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from interlock.core.passages import Span
from interlock.knowledge.types import Block, Box, LoadedDocument

__all__ = ["Edit", "Moves", "edited"]


class Edit(NamedTuple):
    """Characters `start` to `end` become `text`."""

    start: int
    end: int
    text: str


class Moves:
    """Where offsets of the old text are in the new one.

    Args:
        edits: by start, without overlap.
    """

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits
        self._starts = [edit.start for edit in edits]
        self._ends = [edit.end for edit in edits]
        grown = [len(edit.text) - (edit.end - edit.start) for edit in edits]
        self._shift = [0, *accumulate(grown)]

    def start(self, at: int) -> int:
        """Of a span's start: one inside an edit moves to where the new characters begin."""
        done = bisect_right(self._ends, at)
        if done < len(self._edits) and self._starts[done] < at:
            at = self._starts[done]
        return at + self._shift[done]

    def end(self, at: int) -> int:
        """Of a span's end: one inside an edit moves behind the new characters."""
        begun = bisect_left(self._starts, at)
        if begun and self._ends[begun - 1] > at:
            at = self._ends[begun - 1]
        return at + self._shift[begun]

    def span(self, span: Span) -> Span:
        """Both."""
        return Span(self.start(span.start), max(self.start(span.start), self.end(span.end)))


def edited(document: LoadedDocument, edits: Sequence[Edit], beside: Callable[[str], str]) -> LoadedDocument:
    """The document with its text changed, and blocks and boxes moved; what became empty is gone.

    Args:
        document: as it was loaded or edited before.
        edits: by start, without overlap.
        beside: the same change for what is said beside the text: title, headings, labelled rows, metadata.
    """
    known: dict[str, str] = {}

    def told(text: str) -> str:
        # The same headings stand at many blocks.
        if text not in known:
            known[text] = beside(text)
        return known[text]

    text, moves = _applied(document.text, edits), Moves(edits)
    blocks: list[Block] = []
    for block in document.blocks:
        moved = _block(block, moves, told)
        if blocks and moved.span.start < blocks[-1].span.end:
            # An edit that reaches over the border between two blocks belongs to the first.
            start = blocks[-1].span.end
            moved = replace(moved, span=Span(start, max(start, moved.span.end)))
        if text[moved.span.start : moved.span.end].strip():
            blocks.append(moved)
    boxes = [box._replace(start=moves.start(box.start), end=moves.end(box.end)) for box in document.boxes]
    return replace(
        document,
        text=text,
        blocks=tuple(blocks),
        title=told(document.title) or document.title,
        metadata={key: told(value) for key, value in document.metadata.items()},
        boxes=tuple(_apart(box for box in boxes if box.start < box.end)),
    )


def _applied(text: str, edits: Sequence[Edit]) -> str:
    parts: list[str] = []
    at = 0
    for edit in edits:
        parts += (text[at : edit.start], edit.text)
        at = edit.end
    return "".join((*parts, text[at:]))


def _block(block: Block, moves: Moves, told: Callable[[str], str]) -> Block:
    return replace(
        block,
        span=moves.span(block.span),
        headings=tuple(map(told, block.headings)),
        labelled=told(block.labelled) if block.labelled else "",
    )


def _apart(boxes: Iterable[Box]) -> list[Box]:
    """Boxes of a joined word would overlap: the first keeps it."""
    kept: list[Box] = []
    for box in sorted(boxes):
        start = max(box.start, kept[-1].end) if kept else box.start
        if start < box.end:
            kept.append(box._replace(start=start))
    return kept
