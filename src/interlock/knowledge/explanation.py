"""What a search did, stage by stage, for people: `interlock knowledge explain`, the API and the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage
from interlock.knowledge.legs import LegOff
from interlock.knowledge.retrieval.types import StepTold
from interlock.knowledge.types import SearchMode

__all__ = ["ExplainedPassage", "Explanation", "Fate", "Place", "Removed", "Stage", "WhyNot"]

Fate = Literal["context", "merged", "repeat", "withdrawn", "over_budget", "below_limit"]
"""What became of a candidate: it is in the context, part of another passage there, said by a better one already, of a
withdrawn document while a current one was found, too long for what was left of the budget, or behind the last that
the search gives."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leg put a passage."""

    rank: int
    """From 1."""
    score: float
    """Cosine similarity of the dense leg, BM25 of the lexical one."""


@dataclass(frozen=True, slots=True)
class ExplainedPassage:
    """A candidate that the caller may read."""

    rank: int
    """Among all candidates after fusion, from 1."""
    passage: Passage
    dense: Place | None
    lexical: Place | None
    words: tuple[str, ...]
    """Terms of the question in it, as the analyser has them."""
    fate: Fate


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the search, in order."""

    name: str
    seconds: float
    rows: int
    """What came out of it: passages, or documents where it chose documents."""


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why one document is not among the results, or that it is."""

    document_id: DocumentId
    source: str
    reason: Literal[
        "found", "unreadable", "filtered", "failed", "not_indexed", "nothing_in_common", "behind_others", "left_out"
    ]
    told: str
    """For people, with the figures that decided."""
    best: PassageId | None = None
    """Its passage that came nearest."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A document that would be among the candidates if rights did not keep the asker from it."""

    document_id: DocumentId
    rank: int
    """Of its best passage, as if rights did not hold, from 1."""
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One search and what became of everything it found."""

    query: str
    embedded: str
    """What the embedder read: the question's first sentences where it is longer than the embedder reads."""
    languages: tuple[str, ...]
    terms: tuple[str, ...]
    """What the lexical leg looked for."""
    mode: SearchMode
    fusion: str
    """The method with its figures: ``convex, dense weight 0.4``."""
    documents: int | None
    """Documents the filter left; None without a filter."""
    stages: tuple[Stage, ...]
    candidates: Sequence[ExplainedPassage]
    """Best first."""
    context: Sequence[Passage]
    """What a prompt would get, merged and under the budget."""
    context_tokens: int
    budget_tokens: int
    why_not: WhyNot | None = None
    steps: Sequence[StepTold] = ()
    """What every step beside the search did, in order."""
    searched: str = ""
    """The question after the steps that change it."""
    off: tuple[LegOff, ...] = ()
    """Legs that a search by both left out, and why."""
    removed: Sequence[Removed] | None = None
    """What rights kept from the asker, best first; None for all but those who may see facts of all documents."""
    hint: str = ""
    """What to mend in the question's filter; empty for nothing."""
    oversees: bool = False
    """Told to somebody who may see facts of all documents."""
    space: str = ""
    """The embedding space that was searched; empty for a collection in an index elsewhere."""
