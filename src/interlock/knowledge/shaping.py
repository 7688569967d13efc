"""What can be said of a document by itself, whatever else its collection holds: this part runs on any worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput
from interlock.core.ports import Embedder
from interlock.knowledge.boxes import encode_boxes
from interlock.knowledge.cleaning.boilerplate import dropped, without
from interlock.knowledge.cleaning.layout import encode_layout
from interlock.knowledge.cleaning.normalise import normalised
from interlock.knowledge.cleaning.policy import Policy, apply_policy
from interlock.knowledge.cleaning.ports import Scanner
from interlock.knowledge.cleaning.signatures import Signature, block_hashes, signature_of
from interlock.knowledge.cleaning.types import CleaningFacts
from interlock.knowledge.languages import languages_of
from interlock.knowledge.ports import Chunker
from interlock.knowledge.quality import Quality, assess
from interlock.knowledge.types import Chunk, LoadedDocument

__all__ = ["Cut", "Cutter", "Shaped", "shape"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A document's passages without what it shares with many others."""

    gone: frozenset[bytes]
    """Hashes of the blocks that are left out."""
    chunks: Sequence[Chunk]
    tokens: int
    """Of all chunks, as the embedder counts them."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """A document cleaned and looked at."""

    document: LoadedDocument
    quality: Quality
    facts: CleaningFacts
    """Without a person's decision."""
    text_digest: str
    languages: tuple[str, ...]
    signature: Signature
    blocks: bytes
    boxes: bytes
    layout: bytes
    cut: Cut | None
    """Passages as they will be if the guess was right; None for no guess, or when it cannot be cut."""


class Cutter:
    """Cuts a document into passages that the embedder reads whole.

    Args:
        chunker: cuts.
        embedder: counts.
        reserve: tokens left free in every passage, for its context.
    """

    def __init__(self, chunker: Chunker, embedder: Embedder, *, reserve: int = 0) -> None:
        self._chunker = chunker
        self._embedder = embedder
        self._room = embedder.max_tokens - reserve

    def cut(self, document: LoadedDocument, gone: frozenset[bytes], name: str) -> Cut:
        """The passages of what is left of a document.

        Raises: InvalidInput: a passage is longer than the embedder reads.
        """
        count = self._embedder.count_tokens
        chunks = [
            chunk
            for piece in without(document, gone)
            for chunk in self._chunker.chunk(piece, count_tokens=count, max_tokens=self._room)
        ]
        tokens = [count(chunk.search_text) for chunk in chunks]
        longest = max(tokens, default=0)
        if longest > self._embedder.max_tokens:
            at = chunks[tokens.index(longest)].span
            raise InvalidInput(
                f"a passage of {name!r} (characters {at.start} to {at.end}) has {longest} tokens; "
                f"the embedder reads {self._embedder.max_tokens}",
                param=name,
                code="passage_too_long",
                hint="no chunker may give such passages: use `knowledge.chunker: structural`, or mend the plug-in",
            )
        return Cut(gone, chunks, sum(tokens))


def shape(
    loaded: LoadedDocument,
    policy: Policy,
    scanner: Scanner | None,
    name: str,
    *,
    languages: tuple[str, ...] = (),
    cutter: Cutter | None = None,
    repeated: frozenset[bytes] = frozenset(),
) -> Shaped:
    """Clean a document and look at it. CPU only.

    Args:
        loaded: as its loader gave it.
        policy: of its source.
        scanner: looks for what the policy names; None looks for nothing.
        name: path, for messages.
        languages: of the collection, when its file says so.
        cutter: cuts it at once, None does not.
        repeated: a guess at what many documents repeat, for the cutter.

    Raises: InvalidInput: its source refuses it.
    """
    quality = assess(loaded)
    document, repaired = normalised(loaded)
    scanned = apply_policy(document, policy, scanner, name)
    document = scanned.document
    blocks = block_hashes(document)
    cut = None
    if cutter is not None:
        with suppress(InvalidInput):  # told by whoever cuts it for good
            cut = cutter.cut(document, dropped(blocks, repeated), name)
    return Shaped(
        document=document,
        quality=quality,
        facts=replace(scanned.facts, repaired=repaired),
        text_digest=digest_bytes(document.text.encode()),
        languages=languages or languages_of(document.text),
        signature=signature_of(document.text),
        blocks=blocks,
        boxes=encode_boxes(document),
        layout=encode_layout(document),
        cut=cut,
    )
