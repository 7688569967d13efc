"""What the SDK gives back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

__all__ = [
    "Answer",
    "Box",
    "Citation",
    "Claim",
    "Contradiction",
    "Option",
    "Passage",
    "Quote",
    "Sentence",
    "StreamEvent",
]


class Box(msgspec.Struct, frozen=True):
    """A line or table cell that a cited span touches, from the upper left corner of its page."""

    page: int
    """1-based."""
    left: float
    top: float
    right: float
    bottom: float
    """PDF points, or pixels of a picture."""


class Citation(msgspec.Struct, frozen=True):
    """A claim tied to the exact characters that back it."""

    marker: int
    document: str
    digest: str
    """``sha256:`` of the extracted text that `start` and `end` point into."""
    source: str
    title: str
    page: int | None
    start: int
    end: int
    quote: str
    support: str
    score: float
    url: str
    """Path of the source page in the console, with the span highlighted."""
    boxes: tuple[Box, ...] = ()
    """Where the span stands on its pages; empty for formats without a layout."""


class Claim(msgspec.Struct, frozen=True):
    """One thing the answer says, with its verdict: a row of the claim support map."""

    start: int
    end: int
    """Characters of its sentence."""
    text: str
    support: str
    """supported or unsupported."""
    score: float
    reason: str
    """``ok``, or why it was refused."""
    checker: str
    """What judged it."""
    evidence: Citation | None = None
    """What it rests on; of a refused one what comes nearest, with marker 0."""
    sentence: int | None = None
    """Number of its sentence, from 0; None for a claim that was removed, and on a streamed sentence."""


class Contradiction(msgspec.Struct, frozen=True):
    """Two places that cannot both hold."""

    markers: tuple[int, ...]
    """The one to be believed first."""
    kind: str
    """number or negation."""
    decided_by: str | None
    """authority, date or version; None when nothing says which one holds."""


class Option(msgspec.Struct, frozen=True):
    """One way to read an underspecified question."""

    facet: str
    value: str


class Passage(msgspec.Struct, frozen=True):
    """A found passage: exact characters of a document's text."""

    id: str
    document: str
    digest: str
    """``sha256:`` of the extracted text that `start` and `end` point into."""
    source: str
    title: str
    heading: str
    page: int | None
    start: int
    end: int
    text: str
    score: float
    """In [0, 1], and holds by itself: passages come in an order that scores need not follow."""
    metadata: dict[str, str]
    """Facts of the document."""

    # Any: text and numbers.
    def facts(self) -> dict[str, Any]:
        """Everything but the text, flat; a fact of the document never hides one of the passage."""
        own = {
            "document": self.document,
            "digest": self.digest,
            "source": self.source,
            "title": self.title,
            "heading": self.heading,
            "start": self.start,
            "end": self.end,
            "score": self.score,
        }
        return {**self.metadata, **own, **({} if self.page is None else {"page": self.page})}


class Quote(msgspec.Struct, frozen=True):
    """The best supporting quote, sent before the first sentence."""

    citation: Citation


class Sentence(msgspec.Struct, frozen=True):
    """One checked sentence with its markers."""

    text: str
    origin: str
    """generated, repaired, extracted or notice."""
    citations: tuple[Citation, ...]
    support: str = ""
    """supported, unsupported (shown, and marked so), unchecked (a notice); empty for an app without documents."""
    claims: tuple[Claim, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """A finished answer."""

    text: str
    outcome: str
    """generated, repaired, extracted, flagged, clarify, declined; empty for an app without documents."""
    decline_reason: str | None
    citations: tuple[Citation, ...]
    model: str
    release: str | None
    snapshot: str | None
    trace_id: str
    cost_usd: Decimal | None
    """None when a model is unpriced."""
    input_tokens: int
    output_tokens: int
    support_map: tuple[Claim, ...] = ()
    """Which claim rests on what, and what was refused."""
    contradictions: tuple[Contradiction, ...] = ()
    options: tuple[Option, ...] = ()
    """What a question back (`clarify`) offers."""
    as_of: datetime | None = None
    """The cited sources were last seen whole at this time or later."""
    stale: bool = False
    """One of them is older than its owner promises, or could not be reached."""


StreamEvent = Quote | Sentence | Answer
