"""The blocks of a document as they are stored, so that its passages can be made again without its file."""

from __future__ import annotations

import zlib

import msgspec

from interlock.core.passages import Span
from interlock.knowledge.types import Block, BlockKind, LoadedDocument

__all__ = ["decode_layout", "encode_layout"]

_MOST = 1 << 30


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """Version 1. New fields go to the end with a default; older rows then still decode."""

    version: int
    title: str
    media_type: str
    pages: int | None
    headings: list[tuple[str, ...]]
    """Each once; blocks name them by their place here."""
    blocks: list[tuple[BlockKind, int, int, int, int | None, str]]
    """Kind, start, end, headings, page, labelled."""


def encode_layout(document: LoadedDocument) -> bytes:
    """Everything but text, boxes and metadata; about 10 bytes a block."""
    known: dict[tuple[str, ...], int] = {}
    blocks = [
        (b.kind, b.span.start, b.span.end, known.setdefault(b.headings, len(known)), b.page, b.labelled)
        for b in document.blocks
    ]
    stored = _Stored(1, document.title, document.media_type, document.pages, list(known), blocks)
    return zlib.compress(msgspec.msgpack.encode(stored), 1)


def decode_layout(data: bytes, text: str) -> LoadedDocument:
    """The document as the chunker wants it, out of what `encode_layout` of this or an older version wrote."""
    stored = msgspec.msgpack.decode(zlib.decompressobj().decompress(data, _MOST), type=_Stored)
    blocks = [
        Block(kind, Span(start, end), stored.headings[headings], page, labelled)
        for kind, start, end, headings, page, labelled in stored.blocks
    ]
    return LoadedDocument(text, tuple(blocks), stored.title, stored.media_type, pages=stored.pages)
