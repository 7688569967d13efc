"""Whether the found passages hold the answer: a calibrated logistic model over a few general features."""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.core.passages import Passage
from interlock.knowledge.grounding.asks import asked_kind, holds
from interlock.knowledge.grounding.types import Assessment, Selection

__all__ = ["FEATURES", "assess"]

# Fitted by: python -m benchmarks.fit_answerability
_INTERCEPT = -4.0
_WEIGHTS: dict[str, float] = {
    "similarity": 4.0,
    "coverage": 2.0,
    "kind": 1.0,
}
FEATURES = tuple(_WEIGHTS)


def features(question: str, selection: Selection, passages: Sequence[Passage]) -> dict[str, float]:
    """The model's inputs by name, each about [0, 1]."""
    best = selection.evidence[0] if selection.evidence else None
    if best is None:
        return dict.fromkeys(FEATURES, 0.0)
    return {
        "similarity": best.similarity,
        "coverage": best.coverage,
        "kind": float(holds(asked_kind(question), best.readable)),
    }


def assess(question: str, selection: Selection, passages: Sequence[Passage]) -> Assessment:
    """Probability that the selected evidence answers `question`. Pure, microseconds."""
    if not selection.evidence:
        return Assessment(0.0, ())
    values = features(question, selection, passages)
    logit = _INTERCEPT + sum(_WEIGHTS[name] * value for name, value in values.items())
    return Assessment(1.0 / (1.0 + math.exp(-logit)), tuple(values.items()))
