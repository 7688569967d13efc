"""What a reader is given of a piece of evidence."""

from __future__ import annotations

from interlock.knowledge.grounding.types import Evidence
from interlock.knowledge.types import Reading

__all__ = ["reading"]

_BEFORE = 260
"""Characters of the text that leads up to a sentence: about 50 tokens."""


def reading(question: str, evidence: Evidence) -> Reading:
    """The sentence under its two innermost headings, and the text of its passage that leads up to it."""
    lead = " › ".join(evidence.heading.split(" › ")[-2:])
    sentence = f"{lead}: {evidence.readable}" if lead else evidence.readable
    start = evidence.span.start - evidence.passage.span.start
    before = " ".join(evidence.passage.text[:start].split())
    if len(before) > _BEFORE:
        before = before[-_BEFORE:].partition(" ")[2]
    return Reading(question, sentence, before)
