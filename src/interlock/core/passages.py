"""Knowledge as every floor sees it: passages with exact spans, and citations that point into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interlock.core.ids import DocumentId, PassageId

__all__ = ["Citation", "CitedBox", "Passage", "Span", "Support"]

Support = Literal["supported", "unsupported", "unchecked"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Character offsets ``[start, end)`` into a document's extracted text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of one version of one document, as found by a search."""

    id: PassageId
    document_id: DocumentId
    document_digest: str
    """``sha256:`` of the extracted text that the offsets point into."""
    source: str
    """Where it came from, as people know it: a path relative to its source, with `/`."""
    title: str
    heading: str
    """Headings above it, joined by `` › ``; empty when there are none."""
    text: str
    span: Span
    page: int | None = None
    """1-based page where the passage starts, for paged formats."""
    score: float = 0.0
    """Fused score of the search that found it, in [0, 1]: orders what one search found, and says nothing beyond it."""
    dense_score: float | None = None
    """Cosine similarity to the question, None when only the lexical leg found it."""
    lexical_score: float | None = None
    """BM25 score scaled to [0, 1] within this search, None when only the dense leg found it."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Sorted key-value facts about the document, e.g. ``("status", "withdrawn")``."""
    relevance: float | None = None
    """How near it is to the question by itself, in [0, 1], whatever else was found: for thresholds, and to compare what
    several questions found. None when no search found it."""


@dataclass(frozen=True, slots=True)
class CitedBox:
    """A line or table cell of a page that a cited span touches."""

    page: int
    """1-based."""
    left: float
    top: float
    right: float
    bottom: float
    """From the page's upper left corner, in PDF points, or pixels of a picture."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A claim of the answer tied to the exact span that backs it."""

    marker: int
    """The number shown inline, from 1, in order of first use."""
    passage_id: PassageId
    document_id: DocumentId
    document_digest: str
    source: str
    title: str
    page: int | None
    span: Span
    """Exact characters in the document's extracted text."""
    quote: str
    """The text at `span`."""
    support: Support
    score: float
    """Support score in [0, 1]."""
    boxes: tuple[CitedBox, ...] = ()
    """Where the span stands on its pages; empty for formats without a layout."""
