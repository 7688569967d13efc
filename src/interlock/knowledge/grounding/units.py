"""Passages into the things that can be quoted: sentences, and table rows that know their column names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from interlock.core.passages import Passage, Span
from interlock.knowledge.grounding.types import Cell, Evidence
from interlock.knowledge.sentences import sentences

__all__ = ["SEPARATOR", "units"]

SEPARATOR = " | "
_CELL_EDGE = re.compile(r"\s\|(?:\s|$)")
_NUMERIC = re.compile(r"^[-+±]?[$€£]?\s?\d[\d.,\s]*(?:%|[a-zA-Z]{0,3})?$")
_ITEM = re.compile(r"^(?:[-*+•‣◦]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+")
_WORD = re.compile(r"\w")
_TERMINATED = (".", "!", "?", ":", ";", "。", "！", "？", ")", '"', "”")
_WRAP_SHARE = 0.7


def units(passages: Sequence[Passage], texts: Mapping[str, str]) -> list[Evidence]:
    """Every quotable sentence and row of `passages`, in their order, without repeats.

    Args:
        passages: best first.
        texts: document digest to whole extracted text, for the header of a table that starts before its passage;
            a missing one is made up for by the other passages of that document.
    """
    found: dict[tuple[str, int, int], Evidence] = {}
    for rank, passage in enumerate(passages, start=1):
        heading = _heading(passage)
        headers = _headers(passage, passages, texts.get(passage.document_digest))
        for span in _spans(passage.text):
            evidence = _unit(passage, rank, heading, span, headers)
            if evidence is not None:
                found.setdefault((passage.document_digest, evidence.span.start, evidence.span.end), evidence)
    return list(found.values())


def _heading(passage: Passage) -> str:
    parts = [passage.title, *passage.heading.split(" › ")]
    return " › ".join(dict.fromkeys(part for part in parts if part))


def _unit(passage: Passage, rank: int, heading: str, span: Span, headers: Mapping[int, list[str]]) -> Evidence | None:
    text = passage.text[span.start : span.end]
    if not _WORD.search(text):
        return None
    absolute = Span(passage.span.start + span.start, passage.span.start + span.end)
    if not _CELL_EDGE.search(text):
        marker = _ITEM.match(text)
        if marker and len(text) > marker.end():
            # A list item is quoted without its bullet or number.
            text = text[marker.end() :]
            absolute = Span(absolute.start + marker.end(), absolute.end)
        return Evidence(passage, rank, absolute, text, heading)
    values = _cells(text)
    columns = headers.get(absolute.start, [])
    if columns == values:
        return None  # the header itself says nothing
    cells = tuple(Cell(columns[i] if i < len(columns) else "", value) for i, value in enumerate(values))
    return Evidence(passage, rank, absolute, text, heading, cells)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in _CELL_EDGE.split(row.strip().strip("|"))]


def _spans(text: str) -> Iterator[Span]:
    widest = max((len(line) for line in text.splitlines()), default=0)
    for span in sentences(text):
        if "\n" in text[span.start : span.end]:
            yield from _unwrapped(text, span, widest)
        else:
            yield span


def _unwrapped(text: str, span: Span, widest: int) -> Iterator[Span]:
    """Split where a line ends early and the next starts anew: short lines of a list that lost its bullets."""
    begin, position = span.start, span.start
    lines = [line.strip() for line in text[span.start : span.end].splitlines() if line.strip()]
    if len(lines) < 3 or any(line[0].islower() for line in lines):
        yield span
        return
    while (newline := text.find("\n", position, span.end)) >= 0:
        line = text[position:newline].rstrip()
        following = text[newline + 1 : span.end].lstrip()
        fresh = following[:1].isupper() or following[:1].isdigit()
        if fresh and len(line) < _WRAP_SHARE * widest and not line.endswith((",", "-")):
            yield Span(begin, position + len(line))
            begin = newline + 1 + len(text[newline + 1 : span.end]) - len(following)
        position = newline + 1
    yield Span(begin, span.end)


def _headers(passage: Passage, passages: Sequence[Passage], text: str | None) -> dict[int, list[str]]:
    """Absolute start of each row of `passage` to the column names of its table."""
    if text is not None and text[passage.span.start : passage.span.end] == passage.text:
        return dict(_from_document(passage, text))
    same = [p for p in passages if p.document_digest == passage.document_digest]
    return dict(_from_passages(passage, sorted(same, key=lambda p: p.span.start)))


def _from_document(passage: Passage, text: str) -> Iterator[tuple[int, list[str]]]:
    start = text.rfind("\n\n", 0, passage.span.start + 1)
    for table in _tables(text, start + 2 if start >= 0 else 0, passage.span.end):
        header = _header([_cells(text[a:b]) for a, b in table])
        for a, _ in table:
            if header and a >= passage.span.start:
                yield a, header


def _from_passages(passage: Passage, same: Iterable[Passage]) -> Iterator[tuple[int, list[str]]]:
    known: dict[int, list[str]] = {}
    for other in same:
        for table in _tables(other.text, 0, len(other.text)):
            rows = [_cells(other.text[a:b]) for a, b in table]
            header = _header(rows)
            if header:
                known[len(header)] = header
            if other is passage:
                for (a, _), row in zip(table, rows, strict=True):
                    if len(row) in known:
                        yield passage.span.start + a, known[len(row)]


def _tables(text: str, start: int, end: int) -> Iterator[list[tuple[int, int]]]:
    """Runs of neighbouring rows, as line ranges."""
    table: list[tuple[int, int]] = []
    position = start
    while position < end:
        newline = text.find("\n", position)
        stop = len(text) if newline < 0 else newline
        if _CELL_EDGE.search(text[position:stop]):
            table.append((position, stop))
        elif table:
            yield table
            table = []
        position = stop + 1
    if table:
        yield table


def _header(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """The first row when it names columns: filled, distinct, no numbers, and another row follows."""
    if len(rows) < 2:
        return None
    head = list(rows[0])
    named = [cell for cell in head if cell]
    if len(named) < max(2, len(head) - 1) or len(set(named)) != len(named):
        return None
    if any(_NUMERIC.match(cell) or len(cell) > 80 or cell.endswith(".") for cell in named):
        return None
    return head
