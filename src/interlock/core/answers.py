"""What an app with knowledge answers: sentences that were checked, with the spans that back them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interlock.core.passages import Citation, Passage

__all__ = ["Answer", "AnswerEvent", "AnswerSentence", "DeclineReason", "Origin", "Outcome", "Quote"]

Origin = Literal["generated", "repaired", "extracted", "notice"]
"""Where a sentence came from: the model's own words; the model's second try; a verbatim quote; our own fixed words."""
Outcome = Literal["generated", "repaired", "extracted", "declined"]
"""How the whole answer came about: the least direct origin of its cited sentences, or `declined`."""
DeclineReason = Literal["", "no_passages", "weak_evidence", "unsupported"]


@dataclass(frozen=True, slots=True)
class Quote:
    """The best supporting quote, sent as soon as it is known, before any sentence is written."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """One sentence that passed its checks. `text` ends with its markers: ``… within 30 days [1].``"""

    text: str
    citations: tuple[Citation, ...]
    origin: Origin


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


AnswerEvent = Quote | AnswerSentence | Answer
