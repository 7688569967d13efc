"""What people ask about, found in their questions, and which of it cases cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from interlock.evals.monitoring.watching import cluster
from interlock.stats.drift import psi_test
from interlock.stats.paired import holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Asked", "Intent", "intents_of"]

NEAR_CASE = 0.6
"""Cosine from which a case asks what a question asks."""
_EXAMPLES = 3
_TRACES = 10
_P = 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """One question."""

    text: str
    trace: str
    at: datetime | None
    poor: bool | None
    """Its answer declined, was refused, or scored below a half; None where nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Questions that ask about the same."""

    name: str
    """The question in their middle."""
    count: int
    share: float
    poor: int
    """Of them: answers that declined, were refused, or scored below a half."""
    near_case: float
    """Share of its questions that a case asks too."""
    nearest: str
    """The case nearest to its middle; empty without cases."""
    cosine: float
    """Of that case."""
    share_before: float | None = None
    """In the older half of the time; None without times."""
    share_now: float | None = None
    p: float | None = None
    """That its share has not changed, adjusted for the number of intents (Holm)."""
    examples: Sequence[str] = ()
    traces: Sequence[str] = ()
    """Poor answers first."""
    middle: int = field(default=0)
    """Row of the question in their middle."""

    @property
    def covered(self) -> bool:
        """Cases ask half of its questions or more."""
        return self.near_case >= 0.5

    @property
    def drifting(self) -> bool:
        """Its share has changed."""
        return self.p is not None and self.p <= _P


def intents_of(
    asked: Sequence[Asked],
    vectors: NDArray[np.float32],
    cases: Sequence[str],
    case_vectors: NDArray[np.float32],
) -> list[Intent]:
    """Intents of questions; uncovered ones first, then by poor answers, then by how often they are asked.

    Args:
        vectors: of the questions, ``(len(asked), d)`` of length 1.
        cases: ids.
        case_vectors: of the cases' questions, ``(len(cases), d)``.
    """
    import numpy as np

    labels = np.array(cluster(vectors))
    near = vectors @ case_vectors.T if len(cases) else np.zeros((len(asked), 0), dtype=np.float32)
    best = near.max(axis=1) if len(cases) else np.zeros(len(asked), dtype=np.float32)
    late = _late(asked)
    found: list[Intent] = []
    for label in range(int(labels.max()) + 1):
        rows: list[int] = np.flatnonzero(labels == label).tolist()
        own = vectors[rows]
        middle = rows[int((own @ own.mean(axis=0)).argmax())]
        order = sorted(rows, key=lambda row: asked[row].poor is not True)
        nearest = int(near[middle].argmax()) if len(cases) else -1
        found.append(
            Intent(
                name=asked[middle].text,
                count=len(rows),
                share=len(rows) / len(asked),
                poor=sum(asked[row].poor is True for row in rows),
                near_case=float((best[rows] >= NEAR_CASE).mean()),
                nearest=cases[nearest] if nearest >= 0 else "",
                cosine=float(near[middle, nearest]) if nearest >= 0 else 0.0,
                examples=tuple(dict.fromkeys(asked[row].text for row in order))[:_EXAMPLES],
                traces=tuple(asked[row].trace for row in order if asked[row].trace)[:_TRACES],
                middle=middle,
            )
        )
    if late is not None:
        found = _moved(found, labels, late)
    return sorted(found, key=lambda each: (each.covered, -each.poor, -each.count))


def _late(asked: Sequence[Asked]) -> NDArray[np.bool_] | None:
    """Which questions are of the newer half of the time; None where one has no time, or half has none."""
    import numpy as np

    times = [each.at for each in asked]
    known = [at for at in times if at is not None]
    if len(known) < len(times) or len(known) < 2:
        return None
    half = min(known) + (max(known) - min(known)) / 2
    late = np.array([at >= half for at in known])
    return late if 0 < int(late.sum()) < len(late) else None


def _moved(intents: Sequence[Intent], labels: NDArray[np.int_], late: NDArray[np.bool_]) -> list[Intent]:
    from dataclasses import replace

    before, now = int((~late).sum()), int(late.sum())
    counts = []
    for label in range(len(intents)):
        own = labels == label
        counts.append((int((own & ~late).sum()), int((own & late).sum())))
    # Of an intent with fewer than five questions nothing can be told.
    tested = [at for at, (old, new) in enumerate(counts) if old + new >= 5]
    adjusted = holm(
        [psi_test([counts[at][0], before - counts[at][0]], [counts[at][1], now - counts[at][1]]).p for at in tested]
    )
    p = dict(zip(tested, adjusted, strict=True))
    return [
        replace(each, share_before=counts[at][0] / before, share_now=counts[at][1] / now, p=p.get(at))
        for at, each in enumerate(intents)
    ]
