"""What cleaning talks about: concerns and findings, the facts it leaves on a document, and decisions of people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from interlock.core.ids import DocumentId

__all__ = ["CleaningFacts", "Concern", "Decision", "Finding", "ReviewItem", "Verdict", "VersionFacts"]

Concern = Literal["pii", "secrets", "injection"]
"""What a document is scanned for."""
Verdict = Literal["released", "kept"]
"""What a person said: it may be found, or it stays out of the index."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scanner saw. Carries no text: `start` and `end` point into the document's text as it is stored."""

    concern: Concern
    label: str
    """Its kind: ``email``, ``aws_access_key``, ``injection`` …"""
    start: int
    end: int
    """Of a redacted value: the mark that stands in its place."""


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One document among the versions of one thing, as far as all of its own readers may know of them."""

    group: str
    """The same for all versions of the thing; says nothing about it."""
    rank: int
    """1 is the newest and most authoritative."""
    of: int
    newer: DocumentId | None = None
    """The newest, when that is another one and the documents say in which order they stand."""


@dataclass(frozen=True, slots=True)
class CleaningFacts:
    """What cleaning knows of a document. Stored as JSON; unknown fields are passed over on read."""

    findings: tuple[Finding, ...] = ()
    """The first of each concern, in order, at most 100 of each."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many were found, by ``concern:label``, in the text and in everything said beside it."""
    noted: tuple[Concern, ...] = ()
    """What was found and still stands in it."""
    suspended: tuple[Concern, ...] = ()
    """Why the policy of its source wants a person to look before it is found; empty when it does not."""
    decision: Literal["", "released", "kept"] = ""
    """What a person said about this very text."""
    redacted: int = 0
    """Values that were replaced by marks."""
    repaired: int = 0
    """Words that normalisation changed."""
    left_out: int = 0
    """Blocks that every document around it repeats and that are not in its passages."""
    duplicate_of: DocumentId | None = None
    """The document that is found in its place."""
    duplicate_digest: str = ""
    """Text of that document when they were compared."""
    versions: VersionFacts | None = None
    without_context: int = 0
    """Passages for which no context was written yet, where one is asked for."""

    @property
    def held(self) -> bool:
        """Whether it is kept out of the index until, or because, a person says so."""
        return self.decision == "kept" or (bool(self.suspended) and self.decision != "released")

    def why_no_passages(self) -> str:
        """For people who ask why a document is not found."""
        if self.held:
            return "it is held back: a person releases it with `interlock knowledge review`"
        if self.duplicate_of is not None:
            return "it is a copy, found through another document with the same content"
        return "the index holds no passage of it: ingest the collection again"

    @property
    def flagged(self) -> bool:
        """Whether something was found on which nobody has decided."""
        return bool(self.noted) and not self.decision


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said about one text of a document."""

    document: DocumentId
    text_digest: str
    verdict: Verdict
    by: str
    """The principal's id."""
    at: datetime


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A document that a person decides on. Facts, never text."""

    id: DocumentId
    collection: str
    source: str
    title: str
    text_digest: str
    held: bool
    """Out of the index now."""
    suspended: tuple[Concern, ...]
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    decision: Literal["", "released", "kept"]
    copies: int = 0
    """Documents that were found through this one when it was decided on."""
