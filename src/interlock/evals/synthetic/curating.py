"""Made cases before people, and what these accepted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from interlock.evals.adding import Added, Shape, add_cases, stem_of
from interlock.evals.review.types import Item, QueueSpec, Reviewed
from interlock.evals.synthetic.types import Candidate
from interlock.evals.types import Case

__all__ = ["ACCEPT", "Accepted", "accepted_of", "item_of", "planted_suite", "queue_for", "queue_of", "write_accepted"]

ACCEPT, REJECT = "accept", "reject"
_RUBRIC = """Would this be a good test of an assistant that answers from these documents?
Accept it when somebody might really ask it, when the texts below give the answer that stands here (or, where none \
should be given, when they do not), and when that answer is the only right one. Reject it otherwise."""
_METRICS = ("facts", "citation_recall", "declines")


def queue_of(suite: Path) -> str:
    """The name of the queue whose accepted cases go to a suite. Raises: InvalidInput: no YAML file."""
    name = re.sub(r"[^a-z0-9_-]+", "-", stem_of(suite).casefold()).strip("-_")
    return f"{name[:50] or 'cases'}-cases"


def queue_for(name: str) -> QueueSpec:
    """What reviewers of made cases are asked."""
    return QueueSpec(queue=name, rubric=_RUBRIC, labels=[REJECT, ACCEPT], ordered=True, overlap=0.0)


def item_of(candidate: Candidate, origin: str) -> Item:
    """As reviewers get it."""
    case = candidate.case
    answer = next(iter(case.references), "")
    if case.answerable is False:
        answer = "(the documents do not say: it should decline)"
    elif "contradiction" in case.tags:
        answer = "(the documents contradict each other: it should give both) " + answer
    asked = case.input if isinstance(case.input, str) else "\n".join(f"{t.role}: {t.content}" for t in case.input)
    return Item(
        id=case.id,
        question=asked,
        answer=answer,
        context=list(candidate.texts[:50]),
        group=case.group[:200],
        origin=origin,
        asker=case.user,
        documents=list(candidate.documents),
        collection=candidate.collection,
        case=case.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    )


class Accepted(NamedTuple):
    """Cases of a queue by what people said."""

    items: Sequence[tuple[Item, Case]]
    rejected: int
    waiting: int
    """Nobody has decided, or people disagree."""


def accepted_of(reviewed: Iterable[Reviewed]) -> Accepted:
    """What people accepted. Items that are no made cases are passed over."""
    items: list[tuple[Item, Case]] = []
    rejected = waiting = 0
    for each in reviewed:
        if each.item.case is None:
            continue
        if each.final == ACCEPT:
            items.append((each.item, Case.model_validate(each.item.case)))
        elif each.final is None:
            waiting += 1
        else:
            rejected += 1
    return Accepted(items, rejected, waiting)


def planted_suite(suite: Path) -> Path:
    """Where cases go that bring their own documents: an app then searches these alone, so they stand apart."""
    return suite.with_name(f"{stem_of(suite)}-planted.suite.yaml")


def write_accepted(cases: Sequence[Case], suite: Path) -> list[Added]:
    """Add accepted cases to a suite, those with documents of their own to one beside it. Blocking.

    Raises: InvalidInput, NotFound; then nothing of that suite is changed.
    """
    done = []
    for place, planted in ((suite, False), (planted_suite(suite), True)):
        own = [case for case in cases if ("planted" in case.metadata) == planted]
        if own:
            metrics = tuple(name for name in _METRICS if not planted or name != "citation_recall")
            description = "questions made from the documents, each accepted by a person"
            done.append(add_cases(own, place, Shape("synthetic", description, metrics)))
    return done
