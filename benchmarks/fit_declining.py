"""Answerable or not, on questions that a set itself declares unanswerable; fits the decision where no reader reads.

    INTERLOCK_DATA=… INTERLOCK_MODELS_DIR=… python -m benchmarks.fit_declining

All 300 questions of clapnq_dev and the 195 of mtrag_un that are plainly answerable or not (the last turn, searched as
the chat flow searches a follow-up), beside the three sets of `benchmarks/fit_answerability.py`. Each set is held out
in turn: its figure comes from a model that saw none of its questions. Intervals are bootstrapped over questions, of
mtrag_un over conversations. The reader has no part: it was trained on questions of clapnq_dev. The printed weights
are fitted on all sets, each set and each label counting the same. Selections are kept in `.interlock/benchmarks`; a
first run takes minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit_answerability import CACHE, auroc, fit, predict, selections
from benchmarks.grounding_data import Library as Corpus
from benchmarks.grounding_data import _documents, open_embedder
from benchmarks.retrieval import embed
from interlock.core.messages import ChatRequest, text_message
from interlock.flows.chat import standalone
from interlock.knowledge.grounding.answerability import ALONE, features
from interlock.knowledge.grounding.select import Selector
from interlock.knowledge.grounding.types import AnswerSpec, Selection

DECLARED = ("clapnq_dev", "mtrag_un")
BESIDE = ("xquad", "tatqa_dev", "chunking_eval")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Declared:
    """A question, and whether its set says that it can be answered."""

    question: str
    answerable: bool
    group: str
    """The conversation it is from; its own id where there are none."""


def declared(name: str) -> list[Declared]:
    """Questions of a set. Of mtrag_un those that are partly answerable or underspecified are left out."""
    path = Path(os.environ["INTERLOCK_DATA"]) / "retrieval" / name / "queries.jsonl"
    found: list[Declared] = []
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        facts = row["metadata"]
        if name == "clapnq_dev":
            found.append(Declared(row["text"] + "?", bool(facts["answerable"]), row["_id"]))
            continue
        label = facts["answerability"][0]
        if label in {"ANSWERABLE", "UNANSWERABLE"}:
            turns = [
                text_message("user" if turn["speaker"] == "user" else "assistant", turn["text"])
                for turn in facts.get("history") or []
            ]
            request = ChatRequest("app/a", (*turns, text_message("user", row["text"])))
            text = standalone(request, row["text"])
            found.append(Declared(text, label == "ANSWERABLE", facts["conversation_id"]))
    return found


async def selected(name: str) -> list[tuple[Declared, Selection]]:
    """Questions of a set with what is selected for them, from the cache when they were computed before."""
    path = CACHE / f"declared-{name}.pkl"
    if path.exists():
        kept: list[tuple[Declared, Selection]] = pickle.loads(path.read_bytes())
        return kept
    embedder = open_embedder()
    corpus = await Corpus.read(name, _documents(Path(os.environ["INTERLOCK_DATA"]) / "retrieval" / name), embedder)
    questions = declared(name)
    vectors = await embed(embedder, [one.question for one in questions], f"{name} declared")
    selector = Selector(embedder)
    found: list[tuple[Declared, Selection]] = []
    for one, vector in zip(questions, vectors, strict=True):
        passages = corpus.search(one.question, vector)
        selection = await selector.select(one.question, passages, AnswerSpec(), texts={})
        found.append((one, replace(selection, units=())))
    CACHE.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(found))
    return found


def interval(scores: Array, y: Array, groups: NDArray[np.str_], rounds: int = 1000) -> tuple[float, float]:
    """95 % bootstrap of the AUROC over groups."""
    draw = np.random.default_rng(7)
    names, place = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(place == i) for i in range(len(names))]
    values = []
    for _ in range(rounds):
        chosen = np.concatenate([rows[i] for i in draw.integers(0, len(rows), len(rows))])
        if 0 < y[chosen].sum() < len(chosen):
            values.append(auroc(scores[chosen], y[chosen]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def even(source: NDArray[np.str_], y: Array) -> Array:
    """Weights under which every set and every label counts the same."""
    weights = np.zeros(len(y))
    names = np.unique(source)
    for name in names:
        for label in (0, 1):
            rows = (source == name) & (y == label)
            weights[rows] = 1000 / len(names) / 2 / max(1, rows.sum())
    return weights


async def main() -> None:
    """Hold each set out, print, fit."""
    rows: list[tuple[str, str, dict[str, float], bool]] = []
    for name in DECLARED:
        rows += [
            (name, one.group, features(one.question, selection), one.answerable)
            for one, selection in await selected(name)
            if selection.evidence
        ]
    for name in BESIDE:
        rows += [
            (name, f"{name}:{number}", features(case.question, selection), case.answerable)
            for number, (case, selection) in enumerate(await selections(name, 32))
            if selection.evidence
        ]
    source = np.array([name for name, *_ in rows])
    groups = np.array([group for _, group, *_ in rows])
    x = np.array([[values[name] for name in ALONE] for *_, values, _ in rows])
    y = np.array([float(answerable) for *_, answerable in rows])
    held = np.zeros(len(y))
    for name in (*DECLARED, *BESIDE):
        inside = source != name
        b = fit(x[inside], y[inside], even(source[inside], y[inside]))
        held[~inside] = predict(b, x[~inside])
        low, high = interval(held[~inside], y[~inside], groups[~inside])
        figure = auroc(held[~inside], y[~inside])
        print(f"{name:<16} held out: n {(~inside).sum():>4}  AUROC {figure:.3f} [{low:.3f}, {high:.3f}]")
    both = np.isin(source, DECLARED)
    low, high = interval(held[both], y[both], groups[both])
    print(f"{'both declared':<16} in one ranking: AUROC {auroc(held[both], y[both]):.3f} [{low:.3f}, {high:.3f}]")
    b = fit(x, y, even(source, y))
    print(f"_ALONE_INTERCEPT = {b[0]:.2f}")
    print("ALONE =", {name: round(float(v), 2) for name, v in zip(ALONE, b[1:], strict=True)})


if __name__ == "__main__":
    asyncio.run(main())
