"""Fit the default checker on BEGIN, and report how it does on what it was not fitted on.

    INTERLOCK_DATA=… python -m benchmarks.fit_support

Cross-validation holds out whole documents (ten parts, by the digest of the document, so that no document is on both
sides), then whole sets. The printed weights are fitted on everything; the figures are never those of the fit itself.
The same held-out models judge perturbed sentences (`benchmarks/support.py`), every accepted one a mistake.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit_answerability import auroc, fit, predict
from benchmarks.support import PERTURBATIONS
from interlock.knowledge.grounding.support_features import FEATURES, nearest, objection, support_features
from interlock.knowledge.sentences import sentences
from interlock.knowledge.types import SupportCase
from interlock.stats.intervals import wilson

SETS = ("cmu", "tc", "wow")
FOLDS = 10
THRESHOLD = 0.5
_RIDGE = 3.0
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def case_of(claim: str, document: str) -> SupportCase:
    """A claim against a whole document, as the flow puts it against a passage."""
    given = tuple(document[s.start : s.end] for s in sentences(document)) or (document,)
    return SupportCase(claim, given, nearest(claim, given))


def fold_of(document: str) -> int:
    """The part that a document is in; the same in every run."""
    return hashlib.sha256(document.encode()).digest()[0] % FOLDS


def begin(folder: Path) -> list[dict[str, str]]:
    """Rows of the three sets, each with its set's name."""
    return [
        {**json.loads(line), "set": name}
        for name in SETS
        for line in (folder / f"begin__begin_{name}_dev.jsonl").read_text("utf-8").splitlines()
    ]


def perturbed(documents: list[str], seed: int = 7) -> list[tuple[str, SupportCase, int]]:
    """Kind, case and fold of sentences with one thing changed, put against their own document."""
    draw = random.Random(seed)
    found: list[tuple[str, SupportCase, int]] = []
    for document in sorted(documents):
        for span in sentences(document):
            text = document[span.start : span.end]
            if not (6 <= len(text.split()) <= 40 and text.isascii() and " ," not in text):
                continue
            for change in (*PERTURBATIONS, None):
                made = text if change is None else change(text, draw)
                if made and (made != text or change is None):
                    name = "unchanged" if change is None else change.__name__
                    found.append((name, case_of(made, document), fold_of(document)))
    return found


def balanced_accuracy(y: Array, accepted: Mask) -> float:
    """Mean of the shares of attributable claims accepted and of others refused."""
    return float((accepted[y == 1].mean() + (~accepted[y == 0]).mean()) / 2)


def interval(y: Array, accepted: Mask, groups: NDArray[np.str_], rounds: int = 2000) -> tuple[float, float]:
    """95 % bootstrap of the balanced accuracy over documents, not over claims."""
    draw = np.random.default_rng(7)
    names, place = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(place == i) for i in range(len(names))]
    values = []
    for _ in range(rounds):
        chosen = np.concatenate([rows[i] for i in draw.integers(0, len(rows), len(rows))])
        values.append(balanced_accuracy(y[chosen], accepted[chosen]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def weights_of(y: Array) -> Array:
    """Both labels count the same in all: what a balanced accuracy asks for."""
    return np.where(y == 1, (y == 0).sum() / y.sum(), 1.0)


def main() -> None:
    """Fit, hold out, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows = begin(Path(os.environ["INTERLOCK_DATA"]) / "grounding")
    given = [case_of(row["claim"] or " ", row["doc"]) for row in rows]
    x = np.array([support_features(case) for case in given])
    y = np.array([float(row["label"] == "Fully attributable") for row in rows])
    free = np.array([objection(case) is None for case in given])
    folds = np.array([fold_of(row["doc"]) for row in rows])
    source = np.array([row["set"] for row in rows])
    documents = np.array([hashlib.sha256(row["doc"].encode()).hexdigest() for row in rows])

    changed = perturbed(list({row["doc"] for row in rows}))
    changed_x = np.array([support_features(case) for _, case, _ in changed])
    changed_free = np.array([objection(case) is None for _, case, _ in changed])
    changed_fold = np.array([fold for *_, fold in changed])

    held, changed_held = np.zeros(len(y)), np.zeros(len(changed))
    for fold in range(FOLDS):
        inside = folds != fold
        b = fit(x[inside], y[inside], weights_of(y[inside]), _RIDGE)
        held[~inside] = predict(b, x[~inside])
        changed_held[changed_fold == fold] = predict(b, changed_x[changed_fold == fold])
    across = np.zeros(len(y))
    for name in SETS:
        inside = source != name
        across[~inside] = predict(fit(x[inside], y[inside], weights_of(y[inside]), _RIDGE), x[~inside])

    report: dict[str, object] = {"claims": len(y), "attributable": int(y.sum())}
    for label, scores in (("documents held out", held), ("sets held out", across)):
        likely = scores >= THRESHOLD
        both = likely & free
        report[label] = {
            "auroc, likeness": round(auroc(scores, y), 3),
            "balanced accuracy, likeness": [
                round(balanced_accuracy(y, likely), 3), *np.round(interval(y, likely, documents), 3).tolist()
            ],
            "balanced accuracy, verdict": [
                round(balanced_accuracy(y, both), 3), *np.round(interval(y, both, documents), 3).tolist()
            ],
            "verdict by set": {n: round(balanced_accuracy(y[source == n], both[source == n]), 3) for n in SETS},
            "accepted": [round(float(both[y == 1].mean()), 3), round(float(both[y == 0].mean()), 3)],
        }  # fmt: skip
    kinds: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for (kind, _, _), score, clear in zip(changed, changed_held, changed_free, strict=True):
        kinds[kind].append((bool(score >= THRESHOLD), bool(score >= THRESHOLD and clear)))
    report["perturbed, accepted by likeness, by the verdict, of"] = {
        kind: [sum(a for a, _ in found), sum(b for _, b in found), len(found)]
        for kind, found in kinds.items()
    }  # fmt: skip
    wrong = [b for kind, found in kinds.items() if kind != "unchanged" for _, b in found]
    report["perturbed, all"] = [sum(wrong), len(wrong), *[round(v, 4) for v in wilson(sum(wrong), len(wrong))]]
    b = fit(x, y, weights_of(y), _RIDGE)
    report["INTERCEPT"] = round(float(b[0]), 3)
    report["WEIGHTS"] = {name: round(float(v), 3) for name, v in zip(FEATURES, b[1:], strict=True)}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
