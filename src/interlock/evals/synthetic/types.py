"""What made cases are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from interlock.evals.types import Case

__all__ = ["KINDS", "MODEL_ONLY", "Candidate", "Fault", "Hand", "Kind", "KindReport", "Made"]

Kind = Literal[
    "single_hop", "multi_hop", "unanswerable", "contradiction", "paraphrase", "typo", "language", "conversation"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
MODEL_ONLY: frozenset[Kind] = frozenset({"language"})
"""No rule makes these: without a model that can they are refused."""
Hand = Literal["rule", "model"]
"""Who wrote a case."""
Fault = Literal[
    # of what was written
    "malformed",
    "too_short",
    "too_long",
    "not_quoted",
    "refers_to_passage",
    "copied",
    "answers_itself",
    "duplicate",
    "not_found",
    # of what a model that reads finds
    "not_answerable",
    "known_without",
    "one_passage_is_enough",
    "still_answerable",
    # of variants
    "same_words",
    "changed_numbers",
    "other_language",
    # of conversations
    "stands_alone",
    # of passages
    "nothing_to_ask",
    "nothing_left",
]
"""Why a candidate was thrown away."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A case that people have to accept."""

    case: Case
    documents: tuple[str, ...]
    """Ids of the documents it is made of."""
    texts: tuple[str, ...]
    """The passages, for whoever judges it."""
    collection: str
    """Where the documents are."""


@dataclass(slots=True)
class KindReport:
    """What became of one kind."""

    wanted: int
    sent: int = 0
    """Put before people."""
    thrown: Counter[Fault] = field(default_factory=Counter)
    hand: Hand = "rule"
    note: str = ""
    """Why there are fewer than wanted, or none, for people."""


@dataclass(slots=True)
class Made:
    """What a run gave."""

    queue: str
    kinds: dict[Kind, KindReport]
    passages: int = 0
    """Looked at."""
    taken_over: int = 0
    """Steps that an earlier run of the same command had done."""
    calls: int = 0
    spent_nano: int = 0
    unpriced: bool = False
    """The model has no price, so the budget bounds nothing."""
    model_note: str = ""
    """Why the model that was named is not used."""
    stopped: str = ""
    """Why it ended before its number: ``budget``, ``passages``, or an error's code."""
