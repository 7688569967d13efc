"""Fit the coefficients of answerability beside a reader, and how well they carry over to a set that was held out.

    INTERLOCK_DATA=… INTERLOCK_MODELS=… python -m benchmarks.fit_answerability [--limit 32]

Questions come from four public sets (see `benchmarks/grounding_data.py` for how unanswerable ones are made). Each set
is held out in turn; the printed coefficients are fitted on all of them, answerable questions weighted to one half.
The handbook's golden set is never fitted on; `benchmarks.eval_demo` measures it.
Selections are kept in `.interlock/benchmarks`; delete them after a change of selection.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.grounding_data import Case, cases, open_embedder
from interlock.knowledge.grounding.answerability import features
from interlock.knowledge.grounding.select import Selector
from interlock.knowledge.grounding.types import AnswerSpec, Selection

CACHE = Path(".interlock/benchmarks")
SETS = ("xquad", "clapnq_dev", "tatqa_dev", "chunking_eval")
Array = NDArray[np.float64]


async def selections(name: str, limit: int) -> list[tuple[Case, Selection]]:
    """Cases of a set with what is selected for them, from the cache when they were computed before."""
    path = CACHE / f"selections-{name}-{limit}.pkl"
    if path.exists():
        kept: list[tuple[Case, Selection]] = pickle.loads(path.read_bytes())
        return kept
    embedder = open_embedder()
    selector = Selector(embedder)
    found: list[tuple[Case, Selection]] = []
    for case in await cases(name, embedder, limit=limit):
        selection = await selector.select(case.question, case.passages, AnswerSpec(), texts={})
        found.append((replace(case, passages=()), replace(selection, units=())))
    CACHE.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(found))
    print(f"  {name}: {len(found)} questions selected for", flush=True)
    return found


def fit(x: Array, y: Array, weights: Array, ridge: float = 10.0) -> Array:
    """Logistic regression by Newton's method with an L2 penalty on standardised inputs. Intercept first."""
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = np.c_[np.ones(len(x)), (x - mean) / scale]
    b = np.zeros(z.shape[1])
    penalty = np.eye(len(b)) * ridge
    penalty[0, 0] = 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ b))
        gradient = z.T @ (weights * (p - y)) + penalty @ b
        hessian = (z * (weights * p * (1 - p))[:, None]).T @ z + penalty
        b -= np.linalg.solve(hessian, gradient)
    slope = b[1:] / scale
    return np.r_[b[0] - (slope * mean).sum(), slope]


def predict(b: Array, x: Array) -> Array:
    """Probabilities."""
    return 1 / (1 + np.exp(-(b[0] + x @ b[1:])))


def auroc(scores: Array, y: Array) -> float:
    """Area under the ROC curve; ties count one half."""
    positive, negative = scores[y == 1], scores[y == 0]
    wins = (positive[:, None] > negative[None, :]).mean() + 0.5 * (positive[:, None] == negative[None, :]).mean()
    return float(wins)


async def main() -> None:
    """Fit and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=32, help="answerable questions of each set")
    args = parser.parse_args()
    rows = [pair for name in SETS for pair in await selections(name, args.limit)]
    rows = [(case, selection) for case, selection in rows if selection.evidence]
    inputs = [features(case.question, selection) for case, selection in rows]
    names = [name for name in inputs[0] if name != "covered"]
    x = np.array([[values[n] for n in names] for values in inputs])
    y = np.array([float(case.answerable) for case, _ in rows])
    source = np.array([case.source for case, _ in rows])
    origin = np.array([case.origin for case, _ in rows])
    weights = np.where(y == 1, (y == 0).sum() / y.sum(), 1.0)
    out = np.zeros(len(y))
    for name in SETS:
        held = source == name
        out[held] = predict(fit(x[~held], y[~held], weights[~held]), x[held])
        print(f"{name:<16} held out: n {held.sum():>4}  AUROC {auroc(out[held], y[held]):.3f}")
    for kind in ("declared", "removed", "exchanged"):
        chosen = (y == 1) | (origin == kind)
        print(f"answerable against {kind:<10} AUROC {auroc(out[chosen], y[chosen]):.3f}")
    brier = float(np.average((out - y) ** 2, weights=weights))
    print(f"all held out      AUROC {auroc(out, y):.3f}  Brier {brier:.3f} (0.25 knows nothing), n {len(y)}")
    b = fit(x, y, weights)
    print(f"_INTERCEPT = {b[0]:.2f}")
    print("_WEIGHTS =", {n: round(float(v), 2) for n, v in zip(names, b[1:], strict=True)})


if __name__ == "__main__":
    asyncio.run(main())
