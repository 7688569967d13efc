"""What questions are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from interlock.core.ids import DocumentId
from interlock.core.passages import Span

__all__ = ["Answered", "Draft", "Origin", "Question", "QuestionId", "State", "Verdict", "Weakness"]

Origin = Literal["heading", "definition", "quantity", "model", "person"]
"""Out of what it was made: the first three without a model."""
State = Literal["proposed", "accepted", "rejected"]
Verdict = Literal["accepted", "rejected"]
QuestionId = str
Weakness = Literal[
    "too_short", "too_long", "not_quoted", "refers_to_passage", "copied", "answers_itself", "not_found", "duplicate"
]
"""Why a draft was thrown away."""


class Draft(NamedTuple):
    """A question as it was written, before it is looked at."""

    text: str
    quote: str
    """Words of the passage that answer it."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class Answered:
    """A document that answers a question."""

    document: DocumentId
    source: str
    """Its path now; empty when it is not found any more."""
    text_digest: str
    """Of the text that the span points into."""
    span: Span | None
    """Where the answer stands; None when only the document is known."""
    quote: str
    """The text of the span."""
    grade: int = 1


@dataclass(frozen=True, slots=True)
class Question:
    """One labelled question."""

    id: QuestionId
    collection: str
    text: str
    origin: Origin
    state: State
    answers: tuple[Answered, ...]
    stale: bool
    """A document of it has another text by now, or is not found any more."""
    withheld: bool = False
    """The caller may not read a document of it: `text` and quotes are empty."""
    user: str = ""
    """The end user it is asked as; empty for whoever evaluates."""
    model: str = ""
    """Which model wrote it."""
    edited: bool = False
    """A person changed its words."""
    made_at: datetime | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
