"""How a question is put, apart from what it asks.

Whoever writes questions writes the answerable ones as stories and the unanswerable ones short, or the other way round;
a model that is trained on them learns that before it learns to read. `weights` takes it away: unanswerable questions
that are put as answerable ones mostly are count more, those that give themselves away count less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_auroc", "betrayal", "weights"]

_MOST = 5.0
"""No question counts more often than this, nor less than its inverse."""
_FIRST = (
    "how", "what|which", "when", "who|whom|whose", "why", "where",
    "can|could|may|must|do|does|did|is|are|will|should|has|have",
)  # fmt: skip
_SELF = re.compile(r"\b(?:i|i'm|i've|we|we're|we've|my|our|us|me)\b", re.IGNORECASE)
_STOP = re.compile(r"[.?!,:;-](?:\s|$)")


def _put(question: str) -> list[float]:
    return [
        1.0,
        float(np.log(len(question.split()) or 1)),
        len(_STOP.findall(question)) / 2,
        float(_SELF.search(question) is not None),
        float(any(c.isdigit() for c in question)),
        float(question[:1].islower()),
        *(float(re.match(rf"(?:{words})\b", question, re.IGNORECASE) is not None) for words in _FIRST),
    ]


def betrayal(questions: Sequence[str], answerable: Sequence[bool]) -> NDArray[np.float64]:
    """Log odds that a question is answerable by the way it is put, from a logistic model of these questions."""
    x, y = np.array([_put(q) for q in questions]), np.array(answerable, dtype=np.float64)
    ridge = np.diag([1e-6] + [2.0] * (x.shape[1] - 1))
    beta = np.zeros(x.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-x @ beta))
        beta += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, x.T @ (y - p) - ridge @ beta)
    odds: NDArray[np.float64] = x @ beta
    return odds


def weights(questions: Sequence[str], answerable: Sequence[bool]) -> NDArray[np.float64]:
    """One weight a question: 1 for an answerable one; the unanswerable ones have a mean of 1."""
    y = np.array(answerable, dtype=bool)
    odds = np.exp(np.clip(betrayal(questions, answerable), -np.log(_MOST), np.log(_MOST)))
    return np.where(y, 1.0, odds / odds[~y].mean())


def balanced_auroc(scores: Sequence[float], questions: Sequence[str], answerable: Sequence[bool]) -> float:
    """AUROC of `scores` with every question weighted by how little the way it is put gives away."""
    s, y = np.asarray(scores), np.array(answerable, dtype=bool)
    p = 1 / (1 + np.exp(-betrayal(questions, answerable)))
    w = np.where(y, 1 - p, p)
    a, b = s[y][:, None], s[~y][None]
    wins = ((a > b) + 0.5 * (a == b)) * w[y][:, None] * w[~y][None]
    return float(wins.sum() / (w[y].sum() * w[~y].sum()))
