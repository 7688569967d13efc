"""What the SDK gives back."""

from __future__ import annotations

from decimal import Decimal

import msgspec

__all__ = ["Answer", "Citation", "Quote", "Sentence", "StreamEvent"]


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


class Quote(msgspec.Struct, frozen=True):
    """The best supporting quote, sent before the first sentence."""

    citation: Citation


class Sentence(msgspec.Struct, frozen=True):
    """One checked sentence with its markers."""

    text: str
    origin: str
    """generated, repaired, extracted or notice."""
    citations: tuple[Citation, ...]


class Answer(msgspec.Struct, frozen=True):
    """A finished answer."""

    text: str
    outcome: str
    """generated, repaired, extracted, declined; empty for an app without documents."""
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


StreamEvent = Quote | Sentence | Answer
