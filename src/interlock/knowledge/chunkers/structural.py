"""Sentence-packed chunks that follow the document's structure.

About 120 to 150 words, no overlap. A chunk never crosses a section (the two outermost headings); tables are cut between
rows and each row is searched with its column names. A slide is one chunk unless the embedder reads less. Measured in
`benchmarks/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from interlock.core.passages import Span
from interlock.knowledge.ports import CountTokens
from interlock.knowledge.sentences import sentences
from interlock.knowledge.types import HEADING_SEPARATOR, Block, Chunk, LoadedDocument, join_headings

if TYPE_CHECKING:
    from interlock.knowledge.settings import ChunkingSettings

__all__ = ["StructuralChunker", "plugin"]

_SECTION_DEPTH = 2
_DECKS = frozenset(
    {
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.oasis.opendocument.presentation",
    }
)
_CHARACTERS_A_TOKEN = 8
_PREFIX_SHARE = 4
"""Title and headings may take one quarter of the embedder's tokens."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """The smallest thing that is packed: a sentence, a row, or a slice of one too long for the embedder."""

    span: Span
    block: Block
    search: str
    words: int
    tokens: int
    starts_block: bool


class StructuralChunker:
    """Pack units until the next one would pass `max_words` or the embedder's limit.

    Args:
        max_words: upper bound of a chunk.
        soft_words: from here on a new paragraph starts a new chunk.
        lead_words: text of at most this many words stays with the table that follows it.
        overlap: sentences of the chunk before that are searched with a chunk of the same section.
        header: title and headings are searched with every chunk.
        heading_weight: times that their words count in the lexical leg, one of them by the header.
    """

    def __init__(
        self,
        *,
        max_words: int = 150,
        soft_words: int = 110,
        lead_words: int = 40,
        overlap: int = 0,
        header: bool = True,
        heading_weight: int = 1,
    ) -> None:
        self._max_words = max_words
        self._soft_words = soft_words
        self._lead_words = lead_words
        self._overlap = overlap
        self._header = header
        self._heading_weight = heading_weight
        self.version = f"structural/2:{max_words}:{soft_words}:{lead_words}"
        # Left out of it where they say nothing new, so that what was cut before they were there is not cut again.
        self.version += (f":overlap{overlap}" if overlap else "") + ("" if header else ":bare")
        self.version += f":headings{heading_weight}" if heading_weight > 1 else ""

    def tuned(self, settings: ChunkingSettings) -> StructuralChunker:
        """See :class:`~interlock.knowledge.ports.TunableChunker`."""
        most = settings.max_words
        return StructuralChunker(
            max_words=most,
            soft_words=max(1, most * self._soft_words // self._max_words),
            lead_words=self._lead_words,
            overlap=settings.overlap_sentences,
            header=settings.header,
            heading_weight=settings.heading_weight,
        )

    def chunk(self, document: LoadedDocument, *, count_tokens: CountTokens, max_tokens: int) -> Sequence[Chunk]:
        """See :class:`~interlock.knowledge.ports.Chunker`."""
        count_tokens = _counting(count_tokens)
        chunks: list[Chunk] = []
        is_deck = document.media_type in _DECKS
        for section in _slides(document.blocks) if is_deck else _sections(document.blocks):
            prefix = _prefix(document.title, section, count_tokens, max_tokens // _PREFIX_SHARE) if self._header else ""
            room = max_tokens - (count_tokens(prefix) if prefix else 0)
            units = [unit for block in section for unit in _units(document.text, block, count_tokens, room)]
            before: list[_Unit] = []
            for group in _packed_whole(units, room) if is_deck else self._pack(units, room):
                spare = room - sum(unit.tokens for unit in group)
                chunk = _chunk(group, prefix, _carried(before, self._overlap, spare))
                chunks.append(replace(chunk, stressed=self._stressed(document.title, chunk)))
                before = group
        if not chunks and document.blocks:
            # Nothing but a heading: it says what there is to say.
            units = [
                unit for block in document.blocks for unit in _units(document.text, block, count_tokens, max_tokens)
            ]
            chunks = [_chunk(group, "", "") for group in self._pack(units, max_tokens)]
        return chunks

    def _stressed(self, title: str, chunk: Chunk) -> str:
        headings = [heading for heading in chunk.heading.split(HEADING_SEPARATOR) if heading != title]
        return "\n".join([join_headings((title, *headings))] * (self._heading_weight - 1))

    def _pack(self, units: Sequence[_Unit], room: int) -> Iterator[list[_Unit]]:
        group: list[_Unit] = []
        for position, unit in enumerate(units):
            if group and self._starts_new(group, unit, units[position + 1 : position + 2], room):
                yield group
                group = []
            group.append(unit)
        if group:
            yield group

    def _starts_new(self, group: Sequence[_Unit], unit: _Unit, rest: Sequence[_Unit], room: int) -> bool:
        words, tokens = sum(member.words for member in group), sum(member.tokens for member in group)
        if words + unit.words > self._max_words or tokens + unit.tokens > room:
            return not all(member.block.kind == "heading" for member in group) or tokens + unit.tokens > room
        last = group[-1].block
        if last.kind == "heading":
            return False
        if unit.block.kind == "heading" and rest:
            # A sub-heading goes with what follows it.
            return words + unit.words + rest[0].words > self._max_words or words >= self._soft_words
        table_edge = (unit.block.kind == "table_row") != (last.kind == "table_row")
        if table_edge and words > self._lead_words:
            return True
        return unit.starts_block and unit.block.kind != "table_row" and words >= self._soft_words


def _counting(count_tokens: CountTokens) -> CountTokens:
    """A word-piece model reads a word of any length as one unknown token, but no reader can use it as one passage.

    Each text is counted once a document: every sentence and heading is asked for twice.
    """
    return cache(lambda text: max(count_tokens(text), len(text) // _CHARACTERS_A_TOKEN))


def _slides(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    for _, slide in groupby(blocks, key=lambda block: block.page):
        # A title slide has nothing under its heading, and still says what it says.
        whole = list(slide)
        yield from _without_own_headings(whole) if len(whole) > 1 else [whole]


def _packed_whole(units: Sequence[_Unit], room: int) -> Iterator[list[_Unit]]:
    """As few groups as the embedder's limit allows."""
    group: list[_Unit] = []
    for unit in units:
        if group and sum(member.tokens for member in group) + unit.tokens > room:
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _sections(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    section: list[Block] = []
    for block in blocks:
        if section and block.headings[:_SECTION_DEPTH] != section[-1].headings[:_SECTION_DEPTH]:
            yield from _without_own_headings(section)
            section = []
        section.append(block)
    if section:
        yield from _without_own_headings(section)


def _without_own_headings(section: list[Block]) -> Iterator[list[Block]]:
    """Drop the headings a section opens with: every chunk of it carries them already. A bare heading stays findable."""
    body = next((i for i, block in enumerate(section) if block.kind != "heading"), len(section))
    own = section[body].headings if body < len(section) else ()
    kept = [b for b in section[:body] if b.headings != own[: len(b.headings)]]
    if body < len(section):
        yield kept + section[body:]
    elif section[-1].headings[:_SECTION_DEPTH] and len(section[-1].headings) > 1:
        yield section[-1:]


def _prefix(title: str, section: Sequence[Block], count_tokens: CountTokens, limit: int) -> str:
    """Title and section headings, innermost kept when there is no room for all."""
    headings = [h for h in _shared_headings(section) if h != title]
    parts = [title, *headings]
    while parts:
        prefix = HEADING_SEPARATOR.join(parts)
        if count_tokens(prefix) <= limit:
            return prefix
        parts = parts[1:]
    return ""


def _shared_headings(section: Sequence[Block]) -> tuple[str, ...]:
    shared = section[0].headings
    for block in section[1:]:
        while shared != block.headings[: len(shared)]:
            shared = shared[:-1]
    return shared


def _units(text: str, block: Block, count_tokens: CountTokens, room: int) -> Iterator[_Unit]:
    if block.kind == "table_row":
        spans = [block.span]
    elif block.kind == "code":
        spans = list(_lines(text, block.span))
    else:
        spans = sentences(text, block.span.start, block.span.end)
    first = True
    for span in spans:
        for piece in _fitting(text, span, count_tokens, room):
            plain = text[piece.start : piece.end]
            search = block.labelled if block.labelled and piece == block.span else plain
            tokens = count_tokens(search)
            if tokens > room:
                search, tokens = plain, count_tokens(plain)
            yield _Unit(piece, block, search, len(plain.split()), tokens, first)
            first = False


def _lines(text: str, span: Span) -> Iterator[Span]:
    position = span.start
    while position < span.end:
        newline = text.find("\n", position, span.end)
        end = span.end if newline < 0 else newline
        if text[position:end].strip():
            yield Span(position, end)
        position = end + 1


def _fitting(text: str, span: Span, count_tokens: CountTokens, room: int) -> Iterator[Span]:
    """Halve a span at white space, or anywhere when it has none, until each piece fits."""
    if count_tokens(text[span.start : span.end]) <= room or span.end - span.start <= 1:
        yield span
        return
    middle = (span.start + span.end) // 2
    cut = text.rfind(" ", span.start + 1, middle)
    cut = middle if cut < 0 else cut
    right = cut + (text[cut] == " ")
    yield from _fitting(text, Span(span.start, cut), count_tokens, room)
    if right < span.end:
        yield from _fitting(text, Span(right, span.end), count_tokens, room)


def _carried(before: Sequence[_Unit], most: int, spare: int) -> str:
    """The last sentences of the chunk before, as many as there is room for; line breaks cost a token at most."""
    taken: list[str] = []
    for unit in reversed(before[-most:] if most else ()):
        spare -= unit.tokens + 1
        if spare < 0:
            break
        taken.insert(0, unit.search)
    return "\n".join(taken)


def _chunk(group: Sequence[_Unit], prefix: str, carried: str) -> Chunk:
    body = next((unit.block for unit in group if unit.block.kind != "heading"), group[0].block)
    search = "\n".join(([carried] if carried else []) + [unit.search for unit in group])
    return Chunk(
        span=Span(group[0].span.start, group[-1].span.end),
        heading=join_headings(body.headings),
        page=group[0].block.page,
        search_text=f"{prefix}\n{search}" if prefix else search,
    )


plugin = StructuralChunker()
