"""Plain text: kept verbatim; paragraphs by blank lines, list items by their markers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from interlock.core.errors import InvalidInput
from interlock.core.passages import Span
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.types import Block, BlockKind, LoadedDocument

__all__ = ["TextLoader", "plugin"]

_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦]|\(?\d{1,3}[.)]|[a-z][.)])[ \t]+\S")
_UNDERLINE = re.compile(r"[ \t]*([=\-~*#])\1{2,}[ \t]*$")
_CAPITALS = re.compile(r"[^a-z]*[A-Z]{2}[^a-z]*$")


class TextLoader:
    """The text is the file's own, so offsets are the file's character offsets."""

    version = "text/2"
    suffixes = frozenset({".txt", ".text", ".log", ".rst"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        text = decode(data, name)
        blocks = list(_blocks(text))
        if not blocks:
            raise InvalidInput(f"the file {name!r} has no text", param=name, code="empty_document")
        first = blocks[0]
        title = text[first.span.start : first.span.end] if first.kind == "heading" else PurePosixPath(name).stem
        return LoadedDocument(text, tuple(blocks), title, "text/plain")


def _blocks(text: str) -> Iterator[Block]:
    title, section = "", ""
    for start, end in _paragraphs(text):
        for kind, span in _pieces(text, start, end):
            words = text[span.start : span.end]
            if kind == "heading" and not title and start == _first(text):
                title = words
            elif kind == "heading":
                section = words
            headings = tuple(part for part in (title, section) if part)
            yield Block(kind, span, headings)


def _first(text: str) -> int:
    return len(text) - len(text.lstrip("\n"))


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    for gap in re.finditer(r"\n(?:[ \t]*\n)+", text):
        yield position, gap.start()
        position = gap.end()
    yield position, len(text)


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[BlockKind, Span]]:
    lines = list(_lines(text, start, end))
    rest = 0
    if _is_heading(text, lines):
        yield "heading", lines[0]
        rest = 2 if len(lines) > 1 and _UNDERLINE.match(text[lines[1].start : lines[1].end]) else 1
    kind: BlockKind = "paragraph"
    held: Span | None = None
    for line in lines[rest:]:
        item = _LIST_ITEM.match(text, line.start, line.end) is not None
        if held is not None and not item:
            held = Span(held.start, line.end)
            continue
        if held is not None:
            yield kind, held
        kind, held = ("list" if item else "paragraph"), line
    if held is not None:
        yield kind, held


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    position = start
    for line in text[start:end].split("\n"):
        left = len(line) - len(line.lstrip())
        if line.strip():
            yield Span(position + left, position + len(line.rstrip()))
        position += len(line) + 1


def _is_heading(text: str, lines: list[Span]) -> bool:
    """A short line underlined, or in capitals on its own or above its paragraph."""
    if not lines:
        return False
    first = text[lines[0].start : lines[0].end]
    if len(first) > 80 or _UNDERLINE.match(first):
        return False
    if len(lines) > 1 and _UNDERLINE.match(text[lines[1].start : lines[1].end]):
        return True
    return bool(_CAPITALS.match(first)) and first[-1] not in ".,;"


plugin = TextLoader()
