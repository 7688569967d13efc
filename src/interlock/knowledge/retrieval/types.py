"""What retrieval steps talk about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Outcome", "Said", "StepFailed", "StepName", "StepTold", "Turn"]

StepName = Literal[
    "conversation",
    "spelling",
    "acronyms",
    "self_query",
    "multi_query",
    "hyde",
    "decompose",
    "graph",
    "hop",
    "freshness",
    "authority",
    "rerank",
    "mmr",
    "per_document",
]

Outcome = Literal["applied", "nothing", "skipped", "failed"]
"""It changed something; there was nothing to change; it could not be taken, and why; it broke, and the result before it
stands."""


@dataclass(frozen=True, slots=True)
class StepTold:
    """What one step did."""

    name: StepName
    outcome: Outcome
    seconds: float
    before: int
    """What it was given: words, passages, texts to search."""
    after: int
    """What came out, or how many of it changed."""
    told: str
    """For the one who asked; nothing in it comes from a document this caller may not read."""


class Turn(NamedTuple):
    """One earlier turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


class Said(NamedTuple):
    """A model's answer."""

    text: str
    tokens: int
    """Read and written."""


class StepFailed(Exception):
    """A step cannot be taken now. The search goes on without it.

    Args:
        told: why, without any text of the question, a document or a model.
        skipped: nothing broke: it was not configured, or its allowance is spent.
    """

    def __init__(self, told: str, *, skipped: bool = False) -> None:
        super().__init__(told)
        self.told = told
        self.skipped = skipped
