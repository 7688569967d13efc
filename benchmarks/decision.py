"""The decision to answer, on organisations that the reader was not trained on: without it and with it.

    INTERLOCK_MODELS_DIR=… python -m benchmarks.decision [ORGANISATION …]

Prints for each: AUROC of answerability, and how often the evidence holds a gold sentence. Then for all of them: the
AUROC, also without what the manner of asking gives away (`benchmarks/manner.py`), and what each threshold of
`answer.min_answerability` gives. `_READ_OFFSET` in `answerability.py` puts .40 where both error rates are equal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import numpy as np

from benchmarks.fit_answerability import auroc
from benchmarks.grounding_data import open_embedder
from benchmarks.manner import balanced_auroc
from benchmarks.organisations import read_organisation
from benchmarks.reader_data import is_gold
from benchmarks.retrieval import embed
from interlock.knowledge.grounding.answerability import assess
from interlock.knowledge.grounding.select import Selector
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.readers import readers

HELD_OUT = ("ebike-maker", "university-admin", "online-grocer", "coworking", "security-software")
"""Organisations that the shipped reader never saw."""


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=HELD_OUT)
    options = parser.parse_args()
    embedder = open_embedder()
    reader = readers.get("minilm").open(Path(os.environ["INTERLOCK_MODELS_DIR"]), threads=1)
    selectors = {"nine features": Selector(embedder), "with reader": Selector(embedder, reader)}
    rows: list[tuple[str, str, bool, dict[str, tuple[float, bool]]]] = []
    for name in options.names:
        library, questions, _ = await read_organisation(name, embedder)
        vectors = await embed(embedder, [text for text, _, _ in questions], name)
        for (text, gold, answerable), vector in zip(questions, vectors, strict=True):
            passages = library.search(text, vector)
            found = {}
            for label, selector in selectors.items():
                selection = await selector.select(text, passages, AnswerSpec(), texts={})
                held = any(is_gold(e, gold) for e in selection.evidence)
                found[label] = (assess(text, selection).probability, held)
            rows.append((name, text, answerable, found))
        for label in selectors:
            mine = [(found[label], answerable) for owner, _, answerable, found in rows if owner == name]
            y = np.array([float(answerable) for _, answerable in mine])
            held = [hit for (_, hit), answerable in mine if answerable]
            area = auroc(np.array([p for (p, _), _ in mine]), y)
            print(f"{name:20} {label:14} AUROC {area:.3f}  gold in evidence {np.mean(held):.3f}", flush=True)
    y = np.array([answerable for _, _, answerable, _ in rows])
    for label in selectors:
        p = np.array([found[label][0] for _, _, _, found in rows])
        asked = [text for _, text, _, _ in rows]
        print(f"{label}: AUROC of all {auroc(p, y.astype(float)):.3f}, balanced {balanced_auroc(p, asked, y):.3f}")
        for threshold in np.arange(0.1, 0.95, 0.1):
            answered, declined = (p[y] >= threshold).mean(), (p[~y] < threshold).mean()
            print(f"  {threshold:.2f}  answered {answered:.2f}  declined {declined:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
