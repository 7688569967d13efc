"""The text of a document grows here piece by piece, so that every block's offsets are right by construction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from interlock.core.errors import InvalidInput
from interlock.core.passages import Span
from interlock.knowledge.types import Block, BlockKind, Box, LoadedDocument, PageNote, PageSize

__all__ = [
    "CELL_SEPARATOR",
    "Rect",
    "TextBuilder",
    "clean",
    "labelled_row",
    "looks_like_header",
    "plain_number",
    "row_text",
    "squeeze",
]

CELL_SEPARATOR = " | "

_SPACES = re.compile(r"\s+")
# NUL and other control characters (not tab, newline), lone surrogates, and the marks PDFium leaves for soft hyphens.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Rect(NamedTuple):
    """A place on a page, from its top left corner."""

    page: int
    left: float
    top: float
    right: float
    bottom: float


Places = Sequence[tuple[int, int, Rect]]
"""(start, end, where) of pieces of a block's text, in order."""


def clean(text: str) -> str:
    """Without characters that no store or font can hold; line ends as line feeds."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def squeeze(text: str) -> str:
    """White space runs as one blank, none at the ends."""
    return _SPACES.sub(" ", clean(text)).strip()


def row_text(cells: Sequence[str]) -> str:
    """A table row as it is read and quoted: ``Team | 29``."""
    return CELL_SEPARATOR.join(squeeze(cell) for cell in cells).strip()


_NUMBER = re.compile(r"[-+]?[$€£]?\s?\d[\d.,\s]*%?$")
_MAX_NAME = 80


def plain_number(value: float, shape: str) -> str:
    """Percentages as people see them, whole floats without ``.0``, the noise of binary fractions rounded away.

    Args:
        shape: the number format of the cell or series, as office programs write them.
    """
    if "%" in shape:
        return f"{round(value * 100, 6):.10g}%"
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def looks_like_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first of several rows names the columns: filled, distinct, short, without numbers."""
    if len(rows) < 2:
        return False
    head = [cell.strip() for cell in rows[0]]
    named = [cell for cell in head if cell]
    if len(named) < max(1, len(head) - 1) or len(set(named)) != len(named):
        return False
    return not any(_NUMBER.match(cell) or len(cell) > _MAX_NAME for cell in named)


def captioned(rows: Sequence[Sequence[str]]) -> tuple[list[str], Sequence[Sequence[str]]]:
    """Lines of one cell above a table are its caption: they and the table below them."""
    width = max((len(row) for row in rows), default=0)
    captions: list[str] = []
    while width > 1 and len(rows) > 1 and len([cell for cell in rows[0] if cell.strip()]) == 1:
        captions.append(" ".join(cell.strip() for cell in rows[0] if cell.strip()))
        rows = rows[1:]
    return captions, rows


def labelled_row(columns: Sequence[str], cells: Sequence[str]) -> str:
    """A table row as it is searched: ``Plan: Team | Price: 29``; empty cells are left out."""
    pairs = [
        f"{squeeze(columns[i])}: {squeeze(cell)}" if i < len(columns) and squeeze(columns[i]) else squeeze(cell)
        for i, cell in enumerate(cells)
        if squeeze(cell)
    ]
    return CELL_SEPARATOR.join(pairs)


class TextBuilder:
    """Collects blocks in reading order.

    Args:
        name: file path, for messages and the fallback title.
        media_type: of the file.
    """

    def __init__(self, name: str, media_type: str) -> None:
        self._name = name
        self._media_type = media_type
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._headings: list[tuple[int, str]] = []
        self._boxes: list[Box] = []

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings in force, outermost first."""
        return tuple(text for _, text in self._headings)

    @property
    def is_empty(self) -> bool:
        """True while nothing was added."""
        return not self._blocks

    def heading(self, text: str, level: int, *, page: int | None = None, places: Places = ()) -> None:
        """Add a heading; it closes those of its own and deeper levels (1 is outermost).

        `places` need a text that is squeezed already.
        """
        text = squeeze(text)
        if not text:
            return
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, text))
        self._append("heading", text, page, "", places)

    def add(
        self, kind: BlockKind, text: str, *, page: int | None = None, labelled: str = "", places: Places = ()
    ) -> None:
        """Add a block; blank text adds nothing. White space inside is kept as given.

        `places` need a text that is clean already; what is cut off before it is allowed for.
        """
        cleaned = clean(text)
        kept = cleaned.strip("\n").rstrip() if kind == "code" else cleaned.strip()
        if kept.strip(" |"):
            moved = list(_moved(places, -cleaned.index(kept), len(kept))) if places else ()
            self._append(kind, kept, page, clean(labelled), moved)

    def table(self, rows: Sequence[Sequence[str]], *, has_header: bool, page: int | None = None) -> None:
        """Add rows; with a header, the others know their column names."""
        columns = rows[0] if has_header and rows else ()
        for number, cells in enumerate(rows):
            label = labelled_row(columns, cells) if columns and number else ""
            self.add("table_row", row_text(cells), page=page, labelled=label)

    def build(
        self,
        *,
        title: str = "",
        metadata: Mapping[str, str] | None = None,
        pages: int | None = None,
        page_sizes: Sequence[PageSize] = (),
        notes: Sequence[PageNote] = (),
    ) -> LoadedDocument:
        """The document. Without `title`, its first outermost heading, else the file's stem.

        Raises: InvalidInput: nothing readable was added.
        """
        if not self._blocks:
            raise InvalidInput(f"the file {self._name!r} has no text", param=self._name, code="empty_document")
        first = self._blocks[0]
        text = "".join(self._parts)
        own = text[first.span.start : first.span.end] if first.kind == "heading" else ""
        name = squeeze(title) or own or PurePosixPath(self._name).stem or self._name
        return LoadedDocument(
            text,
            tuple(self._blocks),
            name,
            self._media_type,
            dict(metadata or {}),
            pages,
            tuple(self._boxes),
            tuple(page_sizes) if self._boxes else (),
            tuple(notes),
        )

    def _append(self, kind: BlockKind, text: str, page: int | None, labelled: str, places: Places) -> None:
        if self._blocks:
            together = kind in {"list", "table_row"} and self._blocks[-1].kind == kind
            separator = "\n" if together else "\n\n"
            self._parts.append(separator)
            self._length += len(separator)
        span = Span(self._length, self._length + len(text))
        for start, end, rect in places:
            edges = (round(edge, 1) for edge in rect[1:])
            self._boxes.append(Box(span.start + start, span.start + end, rect.page, *edges))
        self._parts.append(text)
        self._length = span.end
        self._blocks.append(Block(kind, span, self.headings, page, labelled))


def _moved(places: Places, by: int, length: int) -> Iterator[tuple[int, int, Rect]]:
    """Places in a text of `length` that was cut at both ends."""
    for start, end, rect in places:
        start, end = max(0, start + by), min(length, end + by)
        if start < end:
            yield start, end, rect
