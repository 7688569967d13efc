"""What the index keeps with each passage. Stored, therefore versioned and readable for ever."""

from __future__ import annotations

import hashlib

import msgspec

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Span

__all__ = ["PassagePayload", "passage_id"]


class PassagePayload(msgspec.Struct, frozen=True, array_like=True):
    """Version 1. New fields go to the end with a default; older rows then still decode."""

    version: int
    digest: str
    """Of the extracted text that `start` and `end` point into."""
    start: int
    end: int
    page: int | None
    heading: str
    text: str

    def encode(self) -> bytes:
        """MessagePack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> PassagePayload:
        """Read what `encode` of this or an older version wrote."""
        return msgspec.msgpack.decode(data, type=cls)


def passage_id(document: DocumentId, digest: str, span: Span) -> PassageId:
    """The same span of the same text is the same passage, run after run."""
    key = f"{document}\0{digest}\0{span.start}\0{span.end}"
    return PassageId("psg_" + hashlib.sha256(key.encode()).hexdigest()[:26])
