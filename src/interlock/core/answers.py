"""What an app with knowledge answers: sentences that were checked, with the spans that back them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from interlock.core.passages import Citation, Passage, Span, Support

__all__ = [
    "Answer",
    "AnswerEvent",
    "AnswerSentence",
    "Claim",
    "Contradiction",
    "DeclineReason",
    "Option",
    "Origin",
    "Outcome",
    "Quote",
]

Origin = Literal["generated", "repaired", "extracted", "notice"]
"""Where a sentence came from: the model's own words; the model's second try, or its first less what failed its check; a
verbatim quote; our own fixed words."""
Outcome = Literal["generated", "repaired", "extracted", "flagged", "clarify", "declined"]
"""How the whole answer came about: the least direct origin of its cited sentences; `flagged` when a sentence is shown
that its check refused, and is marked so; `clarify` when the answer is a question back; `declined`."""
DeclineReason = Literal["", "no_passages", "weak_evidence", "unsupported"]


@dataclass(frozen=True, slots=True)
class Quote:
    """The best supporting quote, sent as soon as it is known, before any sentence is written."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing a sentence says, with its verdict: an edge of the claim support map."""

    span: Span
    """Its characters in the sentence's `text`, without markers."""
    text: str
    """The text at `span`."""
    support: Support
    score: float
    """In [0, 1]."""
    reason: str
    """``ok``, or why it was refused; see :mod:`interlock.knowledge.grounding.support`."""
    checker: str
    """What judged it: ``rules``, or the kind of the app's checker."""
    evidence: Citation | None
    """What it rests on; of a refused claim what comes nearest, with marker 0. None when nothing does."""


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """One sentence after its checks. `text` ends with its markers: ``… within 30 days [1].``"""

    text: str
    citations: tuple[Citation, ...]
    origin: Origin
    claims: tuple[Claim, ...] = ()
    """What it says, in order. Empty for a notice."""

    @property
    def support(self) -> Support:
        """`unsupported` when one of its claims is; `unchecked` for a notice."""
        if not self.claims:
            return "unchecked"
        return "supported" if all(claim.support == "supported" for claim in self.claims) else "unsupported"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two places that cannot both hold."""

    citations: tuple[Citation, ...]
    """The one to be believed first: by authority, then date, then version."""
    kind: Literal["number", "negation"]
    """In what they differ."""
    decided_by: Literal["authority", "date", "version", ""]
    """Why the first is first; empty when nothing says which one to believe."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to read an underspecified question, from documents the asker may read."""

    facet: str
    """What the readings differ in: ``title``, or a key of the documents' metadata."""
    value: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The finished answer: the last event of a successful stream."""

    text: str
    sentences: tuple[AnswerSentence, ...]
    citations: tuple[Citation, ...]
    """Distinct, by marker."""
    outcome: Outcome
    decline_reason: DeclineReason
    answerability: float
    """Calibrated probability in [0, 1] that the passages hold the answer."""
    passages: tuple[Passage, ...]
    """What was retrieved, best first."""
    snapshot: str
    """Knowledge snapshot that answered."""
    conflicts: tuple[str, ...] = ()
    """Sources that say otherwise and were set aside, e.g. a withdrawn version."""
    degraded: str = ""
    """Why the model wrote less than it should, as an error code such as ``model_missing``; empty when all was well."""
    contradictions: tuple[Contradiction, ...] = ()
    """Places among the readable sources that cannot both hold. The text says so too."""
    options: tuple[Option, ...] = ()
    """What a question back (outcome `clarify`) offers."""
    as_of: datetime | None = None
    """The sources of what is cited were last seen whole at this time or later; None when nothing is cited."""
    stale: bool = False
    """One of these sources is older than its owner promises, or could not be reached: the answer may be out of date."""
    removed: tuple[Claim, ...] = ()
    """Claims the model wrote that are not in the text, because their check refused them. `span` is that of the model's
    own sentence."""
    space: str = ""
    """Embedding space whose vectors found the passages; empty for documents in an index elsewhere."""


AnswerEvent = Quote | AnswerSentence | Answer
