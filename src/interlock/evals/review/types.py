"""What human review talks about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["PAIR_LABELS", "Item", "ItemState", "Label", "Progress", "QueueSpec", "Reviewed", "Task"]

PAIR_LABELS = ("a", "b", "tie")
_Label = Annotated[str, StringConstraints(pattern=r"^[\w][\w .+-]{0,63}$")]
_Text = Annotated[str, StringConstraints(max_length=200_000)]
_Person = Annotated[str, StringConstraints(pattern=r"^\S{1,128}$")]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QueueSpec(_Written):
    """A queue: what is asked of reviewers, and of how many."""

    queue: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(description="its name")
    rubric: str = Field(min_length=1, max_length=20_000, description="what reviewers look at, in words for people")
    labels: list[_Label] = Field(
        default=["bad", "good"], max_length=12, description="from the worst to the best where they are ordered"
    )
    ordered: bool = Field(default=True, description="near misses of labels count less")
    pairwise: bool = Field(default=False, description="two answers stand beside each other: a, b or tie")
    overlap: float = Field(default=0.2, ge=0, le=1, description="share of the items that several people see")
    raters: int = Field(default=2, ge=2, le=10, description="so many people see these")
    reviewers: list[_Person] = Field(
        default_factory=list, max_length=100, description="only they get items; empty: all"
    )

    @model_validator(mode="after")
    def _labels_differ(self) -> QueueSpec:
        if not self.pairwise and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise ValueError("labels are two or more, each once")
        return self

    @property
    def choices(self) -> tuple[str, ...]:
        """What a reviewer may say."""
        return PAIR_LABELS if self.pairwise else tuple(self.labels)


class Item(_Written):
    """One thing to review."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    question: _Text = Field(min_length=1)
    answer: _Text = Field(default="", description="of a pair the first answer")
    other: _Text | None = Field(default=None, description="of a pair the second answer")
    context: list[_Text] = Field(default_factory=list, max_length=50, description="what the answer should rest on")
    reference: _Text | None = None
    group: str = Field(default="", max_length=200, description="items of one conversation are one piece of evidence")
    origin: str = Field(default="", max_length=300, description="run, trace or file it comes from")
    asker: str = Field(default="", max_length=200, description="end user who asked: erased with that person")
    documents: list[str] = Field(default_factory=list, max_length=1000, description="ids it was written from")
    gold: _Label | None = Field(default=None, description="known label: everybody sees it and is checked by it")
    assigned: list[_Person] = Field(
        default_factory=list, max_length=10, description="for all of these, and nobody else"
    )
    collection: str = Field(default="", max_length=200, description="where its documents are")
    # Any: JSON values; the case is validated where it is used.
    case: dict[str, Any] | None = Field(default=None, description="the case of a suite that it becomes when accepted")


ItemState = Literal["open", "agreed", "disputed", "decided"]
"""`agreed` when all who should see it said the same, `disputed` when not, `decided` by an adjudicator."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one person said of one item."""

    item: str
    rater: str
    label: str
    note: str
    seconds: float | None
    """It took them, as far as their page told."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Task:
    """An item as a reviewer gets it: blind, without what others said and without what is known of it."""

    item: Item
    spec: QueueSpec
    done: int
    """Items this person has labelled in this queue."""
    left: int
    """Items that wait for this person."""
    said: Label | None = None
    """What they said of it before, where they look at it again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a queue is, and what of it waits for one person."""

    spec: QueueSpec
    states: Mapping[ItemState, int]
    done: int
    """Items this person has labelled."""
    left: int
    """Items that wait for this person."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An item with all that was said of it, for who oversees the queue."""

    item: Item
    state: ItemState
    final: str | None
    """What holds: the adjudicator's word, else what all said; None while it is open or disputed."""
    labels: tuple[Label, ...]
    wanted: int
    """People who should see it."""
    decided_by: str = ""
    note: str = ""
