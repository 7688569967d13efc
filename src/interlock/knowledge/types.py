"""What knowledge talks about: loaded documents and their blocks, chunks, stored documents, reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from interlock.core.ids import DocumentId, SnapshotId
from interlock.core.passages import Span
from interlock.knowledge.cleaning.settings import InjectionPolicy, ValuePolicy
from interlock.knowledge.cleaning.types import CleaningFacts

__all__ = [
    "HEADING_SEPARATOR",
    "Block",
    "BlockKind",
    "Box",
    "Chunk",
    "DocumentInfo",
    "DocumentState",
    "DocumentText",
    "FileFailure",
    "IngestReport",
    "LoadedDocument",
    "PageBoxes",
    "PageNote",
    "PageReview",
    "PageSize",
    "Progress",
    "SearchMode",
    "Snapshot",
    "SourceFailure",
    "SourceStatus",
    "SupportCase",
    "SupportScore",
    "join_headings",
]

BlockKind = Literal["heading", "paragraph", "list", "table_row", "code"]
DocumentState = Literal["ok", "failed", "held"]
SearchMode = Literal["hybrid", "dense", "lexical"]

HEADING_SEPARATOR = " › "
_NO_FACTS = CleaningFacts()


def join_headings(headings: tuple[str, ...]) -> str:
    """Headings as one line, outermost first: ``Refunds › Digital goods``."""
    return HEADING_SEPARATOR.join(headings)


@dataclass(frozen=True, slots=True)
class Block:
    """One structural piece of a document."""

    kind: BlockKind
    span: Span
    """Characters of the document's `text`; blocks are in order and never overlap."""
    headings: tuple[str, ...] = ()
    """Headings above, outermost first. A heading lists itself last."""
    page: int | None = None
    """1-based page where the block starts, for paged formats."""
    labelled: str = ""
    """A table row with its column names, ``Plan: Team | Price: 29``: for search only, never quoted."""


class PageSize(NamedTuple):
    """Of one page as it is shown, in PDF points (1/72 inch); of a picture, in pixels."""

    width: float
    height: float


class Box(NamedTuple):
    """Where a line of text or a table cell stands on its page, in the page's units, from its top left corner."""

    start: int
    """Characters of the document's `text`, from `start` up to `end`."""
    end: int
    page: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class PageBoxes:
    """The boxes of a span on one page."""

    page: int
    """1-based."""
    width: float
    height: float
    """Size of the page in the units of `boxes`: PDF points, or pixels of a picture."""
    boxes: tuple[Box, ...]
    """In reading order; a box is a line or a table cell, whole, also when the span covers a part of it."""


class PageNote(NamedTuple):
    """What a loader knows about the quality of one page."""

    page: int
    reason: str
    """``no_text``, ``text_recognised`` …; see :mod:`interlock.knowledge.quality`."""
    score: float
    """At most what this page is worth, 0 to 1."""


class PageReview(NamedTuple):
    """A page whose text a person should look at."""

    page: int | None
    """1-based; None for a document without pages."""
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """What a loader makes of bytes. Every offset anywhere in Interlock points into `text`."""

    text: str
    blocks: tuple[Block, ...]
    title: str
    """Never empty; the file's stem when the document names none."""
    media_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Facts the document states about itself (front matter). Never decides who may read it."""
    pages: int | None = None
    """Number of pages, for paged formats."""
    boxes: tuple[Box, ...] = ()
    """In the order of `text`, for formats with a layout."""
    page_sizes: tuple[PageSize, ...] = ()
    """One a page where there are boxes."""
    notes: tuple[PageNote, ...] = ()


class Reading(NamedTuple):
    """One question and one sentence for a reader."""

    question: str
    sentence: str
    """Under its innermost headings."""
    before: str
    """The text of the passage that leads up to it."""


@dataclass(frozen=True, slots=True)
class SupportCase:
    """One claim and the text that it is said to rest on, for a checker."""

    claim: str
    """One claim as a sentence of its own."""
    sentences: tuple[str, ...]
    """The passage, sentence by sentence; never empty."""
    nearest: int = 0
    """Which of them comes nearest to the claim."""
    heading: str = ""
    """Title and headings above the passage."""


class SupportScore(NamedTuple):
    """A checker's word on one claim."""

    probability: float
    """That the text says it, in [0, 1]; calibrated as far as the checker is."""
    reason: str
    """``ok``; a reason code of :mod:`interlock.knowledge.grounding.support`; or the checker's own word, as
    ``contradicted``, ``unstated``, ``unjudged``. Short, lower case, no text of the claim."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span that is indexed as one passage."""

    span: Span
    heading: str
    """Headings above, joined by `` › ``."""
    page: int | None
    search_text: str
    """What is embedded and analysed: title and headings, then the text with table rows labelled. Fits the embedder."""
    stressed: str = ""
    """What is analysed once more and not embedded: its words weigh more in the lexical leg."""


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document as the registry knows it."""

    id: DocumentId
    collection: str
    source: str
    """Path relative to its source folder, with ``/``."""
    title: str
    media_type: str
    raw_digest: str
    """``sha256:`` of the original bytes of the version that can be searched; empty when there is none."""
    text_digest: str
    """``sha256:`` of the extracted text that passages point into; empty when there is none."""
    size_bytes: int
    pages: int | None
    passages: int
    readers: frozenset[str]
    metadata: Mapping[str, str]
    languages: tuple[str, ...]
    """ISO 639-1 codes of what it is written in, the most used one first; words are read by them."""
    state: DocumentState
    """``failed`` when the newest bytes could not be read; an older version may still be searchable. ``held`` while a
    person has not released it, or has kept it out of the index."""
    error_code: str
    error_message: str
    ingested_at: datetime | None
    """When the searchable version was stored."""
    checked_at: datetime
    """When the source was last compared."""
    fingerprint: str
    """Digest of parser, chunker, analyser and embedder identity."""
    seen_digest: str
    """Digest of the newest bytes looked at, readable or not."""
    quality: float
    """How well its text could be read, 0 to 1: the mean over its pages."""
    review: tuple[PageReview, ...]
    """Pages whose text a person should look at, in order, with the reasons."""
    cleaning: CleaningFacts = _NO_FACTS
    """What was found in it and how it stands to the others of its collection."""


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The extracted text of one version."""

    document_id: DocumentId
    digest: str
    title: str
    source: str
    media_type: str
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The exact content of a collection: documents, texts, readers and pipeline."""

    id: SnapshotId
    collection: str
    documents: int
    passages: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest is."""

    done: int
    total: int
    message: str
    """For people: a count or a file name, never text of a document."""


@dataclass(frozen=True, slots=True)
class FileFailure:
    """One file that could not be ingested; the others went on."""

    source: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """One source that could not be listed or read to its end; the others went on, and nothing of it was deleted."""

    source: str
    """Its name."""
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Where one source stands, for those who answer for it."""

    collection: str
    name: str
    kind: str
    place: str
    """Its address as the source file gives it: a folder, a URL, a query."""
    owner: str
    licence: str
    pii: ValuePolicy
    secrets: ValuePolicy
    injection: InjectionPolicy
    documents: int
    failed: int
    """Documents whose newest version could not be read."""
    held: int
    """Documents that wait for a person, or that one keeps out of the index."""
    schedule_s: float | None
    fresh_within_s: float | None
    synced_at: datetime | None
    """When the last complete look began; None when there was none."""
    attempted_at: datetime | None
    full_at: datetime | None
    """When the last full listing began."""
    stale: bool | None
    """Whether the last complete look is older than `fresh_within`; None without such a target."""
    stale_since: datetime | None
    """When it became so; None when it is not, or was never looked at."""
    error_code: str
    """Of the last try, empty when it succeeded."""
    error_message: str
    set_back: bool
    """Its collection is held at an older snapshot: runs do not read it."""
    told: str
    """What was last told of it: `stale`, `failing`, `fresh`; empty when nothing was."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest changed. Counts are documents unless they say otherwise."""

    collection: str
    snapshot: SnapshotId
    added: int
    changed: int
    unchanged: int
    updated_facts: int
    """Only readers or metadata changed: no parsing, no embedding."""
    deleted: int
    skipped: int
    """Files no loader reads, and pictures without text."""
    skipped_suffixes: Mapping[str, int]
    """How many of them bear which suffix, lower case; empty for none."""
    failed: tuple[FileFailure, ...]
    passages: int
    """Passages written by this run."""
    embedding_tokens: int
    seconds: float
    away: tuple[SourceFailure, ...] = ()
    """Sources that could not be reached or broke off."""
    restored: int = 0
    """Put into an index that had lost them, from what was kept of them."""
    kept_out: int = 0
    """Listed by a source, and erased before: they stay out."""
    set_back: bool = False
    """The collection is held at an older snapshot: rights were applied, content was not."""
    held: int = 0
    """As the collection stands now, and so are the next ones: documents that are out of the index by a policy or a
    person."""
    flagged: int = 0
    """Documents in which something was found that nobody has decided on."""
    redacted: int = 0
    """Values that marks stand for."""
    repaired: int = 0
    """Words that normalisation changed."""
    duplicates: int = 0
    """Documents that are found through another with the same content."""
    versions: int = 0
    """Documents that are linked as versions of one thing."""
    left_out: int = 0
    """Blocks that many documents repeat and that are in the passages of one of them only."""
    without_context: int = 0
    """Passages without a context of their own, where one is asked for: the budget was spent, or the model away."""
