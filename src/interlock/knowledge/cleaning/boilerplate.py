"""What the documents of one source repeat: found by counting blocks, left out of all passages but one document's.

Counted among documents of one source with the same readers, so that whoever may read a document from which a block was
left out may also read the one that kept it. The text stays in the document; citations and offsets know nothing of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from interlock.core.ids import DocumentId
from interlock.knowledge.cleaning.signatures import block_hashes
from interlock.knowledge.types import Block, LoadedDocument

__all__ = ["Blocks", "Counting", "dropped", "left_out", "without"]

_LEAST = 8
"""Documents that must repeat a block before it counts as repeated by all."""
_SHARE = 0.3
_STAYS = 0.15
"""A block that was left out stays so down to this share: one new document must not change a thousand."""
_SAMPLE = 4_000
"""Documents of one source and readers that are counted: bounds memory, and a share needs no more."""
_LOOK_EVERY = 64
"""Documents after which a guess is made anew: looking through all blocks takes some milliseconds."""
_PAGES = 4
_PAGE_SHARE = 0.6


class Blocks(NamedTuple):
    """The blocks of one document."""

    id: DocumentId
    source: str
    """Its path."""
    group: tuple[str, frozenset[str]]
    """Name of its source, and its readers."""
    hashes: bytes
    left_out: frozenset[bytes]
    """As its passages were made."""


def left_out(documents: Sequence[Blocks]) -> dict[DocumentId, frozenset[bytes]]:
    """Which blocks each document leaves out. Depends on the documents alone, not on their order."""
    groups: dict[tuple[str, frozenset[str]], list[Blocks]] = defaultdict(list)
    for document in documents:
        groups[document.group].append(document)
    return {d: gone for members in groups.values() for d, gone in _of_group(members).items()}


def _of_group(members: Sequence[Blocks]) -> Mapping[DocumentId, frozenset[bytes]]:
    sample = sorted(members, key=lambda d: hashlib.sha256(d.id.encode()).digest())[:_SAMPLE]
    counts = Counter(block for document in sample for block in set(_split(document.hashes)))
    before = frozenset[bytes]().union(*(document.left_out for document in members))
    repeated = {block for block, count in counts.items() if _is_repeated(count, len(sample), block in before)}
    if not repeated:
        return {document.id: frozenset() for document in members}
    keepers: dict[bytes, DocumentId] = {}
    for document in sorted(members, key=lambda d: (len(d.source), d.source)):
        for block in set(_split(document.hashes)) & repeated:
            keepers.setdefault(block, document.id)
    return {
        document.id: _droppable(document.hashes, {b for b in repeated if keepers.get(b) != document.id})
        for document in members
    }


def _is_repeated(count: int, of: int, was: bool) -> bool:
    return count >= _LEAST and count >= (_STAYS if was else _SHARE) * of


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + 8] for at in range(0, len(hashes), 8) if hashes[at]]


def _droppable(hashes: bytes, repeated: Set[bytes]) -> frozenset[bytes]:
    """Without short lines that stand alone (an answer of one word), and without a heading that something follows."""
    row = [hashes[at : at + 8] for at in range(0, len(hashes), 8)]
    is_repeated = [block in repeated for block in row]
    gone = [long and block[:1] == b"l" for block, long in zip(row, is_repeated, strict=True)]
    for at, block in enumerate(row):
        if is_repeated[at] and block[:1] == b"s":
            gone[at] = any(is_repeated[max(0, at - 1) : at]) or any(is_repeated[at + 1 : at + 2])
    for at in range(len(row) - 2, -1, -1):
        # Nothing is left under it up to the next heading.
        if is_repeated[at] and row[at][:1] == b"h":
            gone[at] = gone[at + 1]
    if all(gone):
        return frozenset()
    stays = {block for block, one in zip(row, gone, strict=True) if not one}
    return frozenset(block for block, one in zip(row, gone, strict=True) if one and block not in stays)


def dropped(hashes: bytes, repeated: frozenset[bytes]) -> frozenset[bytes]:
    """What a document with these blocks leaves out when these are repeated."""
    own = repeated.intersection(_split(hashes))
    return _droppable(hashes, own) if own else frozenset()


def without(document: LoadedDocument, gone: frozenset[bytes]) -> list[LoadedDocument]:
    """The document in the pieces that are left between what is left out; its text stays whole.

    Args:
        gone: hashes of blocks that all documents repeat. What the pages of one document repeat is found here.
    """
    dropped = _positions(document, gone) | _running(document)
    if not dropped or len(dropped) == len(document.blocks):
        return [document]
    pieces: list[list[Block]] = [[]]
    for at, block in enumerate(document.blocks):
        if at in dropped:
            pieces.append([])
        else:
            pieces[-1].append(block)
    return [replace(document, blocks=tuple(piece)) for piece in pieces if piece]


def _positions(document: LoadedDocument, gone: frozenset[bytes]) -> set[int]:
    if not gone:
        return set()
    hashes = block_hashes(document)
    looked = len(hashes) // 8
    after = len(document.blocks) - looked
    half = looked // 2
    places = range(looked) if after == 0 else [*range(half), *range(half + after, len(document.blocks))]
    return {place for n, place in enumerate(places) if hashes[8 * n : 8 * n + 8] in gone}


def _running(document: LoadedDocument) -> set[int]:
    """Positions of lines that most pages begin or end with (page numbers aside), without the first of each."""
    if not document.pages or document.pages < _PAGES:
        return set()
    edges: dict[int, list[int]] = {}
    for at, block in enumerate(document.blocks):
        if block.page is not None:
            edges.setdefault(block.page, []).append(at)
    places: dict[str, list[int]] = defaultdict(list)
    for positions in edges.values():
        for at in {positions[0], positions[-1]}:
            block = document.blocks[at]
            if block.kind in {"paragraph", "list"}:
                said = document.text[block.span.start : block.span.end]
                places["".join("0" if c.isdigit() else c for c in " ".join(said.casefold().split()))].append(at)
    often = [at for at in places.values() if len(at) >= max(_PAGES, _PAGE_SHARE * len(edges))]
    return {place for at in often for place in sorted(at)[1:]}


class Counting:
    """The same, as a run goes along: what many documents before this one repeated is left out at once.

    The end of the run looks at all documents together; this saves it from making most passages twice.
    """

    def __init__(self, documents: Sequence[Blocks] = ()) -> None:
        self._seen: Counter[tuple[str, frozenset[str]]] = Counter()
        self._counts: dict[tuple[str, frozenset[str]], Counter[bytes]] = defaultdict(Counter)
        self._guesses: dict[str, tuple[int, frozenset[bytes]]] = {}
        """By source, each with how many documents had been seen then."""
        for document in documents:
            self.add(document.group, document.hashes)

    def repeated(self, source: str) -> frozenset[bytes]:
        """Blocks that documents of a source repeat, as of a while ago: good for a guess."""
        seen = self._seen.total()
        at, found = self._guesses.get(source, (-_LOOK_EVERY, frozenset[bytes]()))
        if seen - at >= _LOOK_EVERY:
            groups = [group for group in self._seen if group[0] == source]
            found = frozenset(
                block
                for group in groups
                for block, count in self._counts[group].items()
                if _is_repeated(count, self._seen[group], was=False)
            )
            self._guesses[source] = seen, found
        return found

    def add(self, group: tuple[str, frozenset[str]], hashes: bytes) -> frozenset[bytes]:
        """Count one more document; gives what it leaves out."""
        counts, own = self._counts[group], set(_split(hashes))
        # By those before it: one of them keeps the block.
        repeated = {block for block in own if _is_repeated(counts[block], self._seen[group], was=False)}
        if self._seen[group] < _SAMPLE:
            self._seen[group] += 1
            counts.update(own)
        return _droppable(hashes, repeated) if repeated else frozenset()
