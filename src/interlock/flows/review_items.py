"""Items to review, made of what a run has answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from interlock.core.errors import InvalidInput
from interlock.evals.review.types import Item
from interlock.evals.running.journal import read_rows
from interlock.evals.suite import Suite

__all__ = ["items_of_run"]


def items_of_run(suite: Suite, folder: Path, *, metric: str | None = None, below: float = 0.5) -> list[Item]:
    """Answers of a run's first repeat with their cases; sealed ones and failures are left out. Blocking.

    Args:
        suite: that was run: its cases hold the questions.
        metric: only answers that this metric gives less than `below`.

    Raises: InvalidInput: the run has no such metric, or none of its answers is left.
    """
    found = list(_items(suite, folder, metric, below))
    if not found:
        raise InvalidInput(f"the run {folder.name!r} has no answer to review", param="run")
    return found


def _items(suite: Suite, folder: Path, metric: str | None, below: float) -> Iterator[Item]:
    cases = {case.id: case for case in suite.cases if case.id not in suite.sealed_ids}
    for row in read_rows(folder):
        if row.repeat or row.failed or row.output is None or row.case not in cases:
            continue
        if metric is not None:
            if metric not in row.scores:
                raise InvalidInput(
                    f"the run has no metric {metric!r}", param="metric", hint=", ".join(sorted(row.scores))
                )
            value = row.scores[metric].value
            if value is None or value >= below:
                continue
        case = cases[row.case]
        yield Item(
            id=f"{folder.name}:{case.id}"[:200],
            question=case.question,
            answer=row.output.text,
            context=[found.text for found in row.output.found if found.text][:50],
            reference=next(iter(case.references), None),
            group=case.group,
            origin=folder.name,
            asker=case.user,
            documents=list(row.output.documents),
        )
