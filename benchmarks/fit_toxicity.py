"""Fits the metric `toxicity`, and measures it on held-out rows; `--write` writes the weights.

    INTERLOCK_DATA=… INTERLOCK_MODELS_DIR=… python -m benchmarks.fit_toxicity [--write]

Each category is one logistic regression over the embedder's vector and hashed words. Rows are held out by group: of
HateCheck by functionality, so that no template is on both sides, of the others by the request that was answered. The
threshold is where 1 % of the held-out ordinary texts (answers without a harm score, refusals, TruthfulQA's answers)
are called toxic; recall is what is then found of the held-out toxic ones. HateCheck's hard negatives (counter speech,
reclaimed slurs, negation) are reported beside it and do not set the threshold. A category is covered when Wilson's
lower bound of its recall, over all of its sources together, is 0.4 or more on 100 rows or more.

Sets: HateCheck (CC BY 4.0), XSTest completions (CC BY 4.0), PyRIT's scorer sets (MIT), TruthfulQA (Apache-2.0).
CrowS-Pairs is left out: CC BY-SA asks that what is derived be shared alike. AdvBench holds requests, not answers.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import interlock.evals.metrics
from benchmarks.grounding_data import open_embedder
from interlock.core.ports import Embedder
from interlock.evals.metrics._toxic import BUCKETS, lexical, windows
from interlock.stats.intervals import wilson

DATA = Path(os.environ["INTERLOCK_DATA"])
PLACE = Path(interlock.evals.metrics.__file__).with_name("_toxic.json")
CACHE = Path(".interlock") / "benchmarks"
CATEGORIES = ("hate", "violence", "sexual", "self_harm")
FOLDS = 5
FALSE = 0.01
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One text and what people said of it."""

    text: str
    source: str
    group: str
    toxic: frozenset[str]
    unclear: bool = False
    """People disagree, or said something in between: neither fitted on nor counted."""

    @property
    def fold(self) -> int:
        """The group's, so that none is on both sides."""
        return int.from_bytes(hashlib.sha256(f"{self.source}\0{self.group}".encode()).digest()[:4]) % FOLDS


def lines(path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / path).read_text("utf-8").splitlines()]


def rows() -> list[Row]:
    found = [
        Row(
            str(each["text"]),
            "hatecheck",
            str(each["functionality"]),
            frozenset({"hate"} if each["label"] == "hateful" else ()),
        )
        for each in lines("safety/hatecheck.jsonl")
    ]
    for each in lines("safety/xstest_completions_human.jsonl"):
        # A harmful request that was complied with may be anything; a safe one, or a refusal, is an ordinary answer.
        if each["label"] == "2_full_refusal" or not str(each["type"]).startswith("contrast"):
            found.append(Row(str(each["completion"]), "xstest", str(each["prompt"]), frozenset()))
    for each in lines("safety/pyrit_scorer_evals_human.jsonl"):
        named = str(each["set"])
        scores = each["human_scores"]
        assert isinstance(scores, dict)
        given = [float(score) for score in scores.values() if score not in {None, ""}]
        if not named.startswith("harm/") or not given or not each["response"]:
            continue
        mean = statistics.fmean(given)
        category = next((name for name in CATEGORIES if name in named), None)
        toxic = frozenset({category}) if category and mean >= 0.5 else frozenset[str]()
        unclear = 0 < mean < 0.5 or (mean >= 0.5 and category is None)
        found.append(Row(str(each["response"]), "pyrit", str(each["objective"]), toxic, unclear))
    for path in sorted((DATA / "grounding").glob("*truthful*")):
        for each in lines(f"grounding/{path.name}"):
            text = each.get("best_answer") or each.get("answer") or each.get("claim") or each.get("text")
            if text:
                found.append(Row(str(text), "truthfulqa", str(each.get("question") or text), frozenset()))
    return found


async def features(every: Sequence[Row]) -> tuple[list[list[int]], Array]:
    """Each row's windows, and their features."""
    parts = [windows(row.text) or [""] for row in every]
    flat = [part for each in parts for part in each]
    key = hashlib.sha256("\0".join(flat).encode()).hexdigest()[:16]
    cached = CACHE / f"toxicity-{key}.npy"
    if cached.exists():
        vectors = np.load(cached)
    else:
        embedder = open_embedder()
        made = []
        for at in range(0, len(flat), 64):
            texts = [_fitting(embedder, text) for text in flat[at : at + 64]]
            made.append(await embedder.embed(texts, "passage"))
        vectors = np.vstack(made)
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(cached, vectors)
    words = np.zeros((len(flat), BUCKETS), np.float32)
    for number, text in enumerate(flat):
        for bucket, value in lexical(text).items():
            words[number, bucket] = value
    at, places = 0, []
    for each in parts:
        places.append(list(range(at, at + len(each))))
        at += len(each)
    return places, np.hstack([vectors, words, np.ones((len(flat), 1), np.float32)])


def _fitting(embedder: Embedder, text: str) -> str:
    while embedder.count_tokens(text) > embedder.max_tokens - 16:
        text = text[: len(text) * 9 // 10]
    return text


def fit(x: Array, y: Array, weight: Array, *, ridge: float = 2e-3, steps: int = 400) -> Array:
    """Logistic regression by Nesterov's accelerated descent; the last column is the bias and is not shrunk."""
    w = np.zeros(x.shape[1], np.float32)
    ahead, shrink = w.copy(), np.full(x.shape[1], ridge, np.float32)
    shrink[-1] = 0
    weight = weight / weight.sum()
    rate = 1.0
    for step in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ ahead, -30, 30)))
        new = ahead - rate * (x.T @ (weight * (p - y)) + shrink * ahead)
        ahead = new + step / (step + 3) * (new - w)
        w = new
    return w


def fitted(every: Sequence[Row], places: list[list[int]], x: Array, category: str, train: Sequence[int]) -> Array:
    at = [place for number in train for place in places[number]]
    y = np.array([category in every[n].toxic for n in train for _ in places[n]], np.float32)
    shares = np.array([1 / len(places[n]) for n in train for _ in places[n]], np.float32)
    # Toxic and harmless rows, and among these the sources, count the same.
    sums: defaultdict[tuple[bool, str], float] = defaultdict(float)
    keys = [(category in every[n].toxic, every[n].source) for n in train for _ in places[n]]
    for key, share in zip(keys, shares, strict=True):
        sums[key] += float(share)
    sides = {side: sum(1 for key in sums if key[0] == side) for side in (True, False)}
    weight = np.array([s / sums[k] / sides[k[0]] for k, s in zip(keys, shares, strict=True)], np.float32)
    return fit(x[at], y, weight)


def scores(places: list[list[int]], x: Array, w: Array, which: Sequence[int]) -> dict[int, float]:
    return {n: float(1 / (1 + np.exp(-np.clip(max(x[places[n]] @ w), -30, 30)))) for n in which}


def measured(every: Sequence[Row], places: list[list[int]], x: Array, category: str) -> dict[str, object]:
    out: dict[int, float] = {}
    for fold in range(FOLDS):
        train = [n for n, row in enumerate(every) if row.fold != fold and not row.unclear]
        held = [n for n, row in enumerate(every) if row.fold == fold and not row.unclear]
        out |= scores(places, x, fitted(every, places, x, category, train), held)
    ordinary = sorted(out[n] for n in out if not every[n].toxic and every[n].source != "hatecheck")
    threshold = ordinary[-max(1, int(len(ordinary) * FALSE)) - 1] + 1e-6
    toxic = [n for n in out if category in every[n].toxic]
    hits = [n for n in toxic if out[n] >= threshold]
    interval = wilson(len(hits), len(toxic))
    hard = [n for n in out if not every[n].toxic and every[n].source == "hatecheck"]
    by_source = {}
    for source in sorted({every[n].source for n in toxic}):
        mine = [n for n in toxic if every[n].source == source]
        by_source[source] = f"{sum(out[n] >= threshold for n in mine)} of {len(mine)}"
    return {
        "threshold": round(threshold, 6),
        "toxic": len(toxic),
        "recall": round(len(hits) / len(toxic), 4),
        "recall_low": round(interval.low, 4),
        "recall_high": round(interval.high, 4),
        "by_source": by_source,
        "ordinary": len(ordinary),
        "false_positives_ordinary": round(sum(s >= threshold for s in ordinary) / len(ordinary), 4),
        "hard_negatives": len(hard),
        "false_positives_hard": round(sum(out[n] >= threshold for n in hard) / len(hard), 4),
        "covered": len(toxic) >= 100 and interval.low >= 0.4,
    }


async def work(*, write: bool) -> None:
    every = rows()
    places, x = await features(every)
    made: dict[str, object] = {}
    card: dict[str, object] = {
        "made_by": "benchmarks/fit_toxicity.py",
        "licence_of_data": "HateCheck CC BY 4.0 (Röttger et al. 2021); XSTest completions CC BY 4.0 (Röttger et al. "
        "2024); PyRIT scorer sets MIT (Microsoft); TruthfulQA Apache-2.0 (Lin et al. 2022)",
        "rows": len(every),
        "language": "English",
        "held_out": {},
    }
    for category in CATEGORIES:
        told = measured(every, places, x, category)
        print(category, json.dumps(told))
        held = card["held_out"]
        assert isinstance(held, dict)
        held[category] = told
        train = [n for n, row in enumerate(every) if not row.unclear]
        w = fitted(every, places, x, category, train)
        dense = x.shape[1] - BUCKETS - 1
        made[category] = {
            "covered": told["covered"],
            "threshold": told["threshold"],
            "bias": round(float(w[-1]) * 1000),
            # Of a category that is not covered no weight is of any use.
            "dense": [round(float(v) * 1000) for v in w[:dense]] if told["covered"] else [],
            "words": [round(float(v) * 1000) for v in w[dense:-1]] if told["covered"] else [],
        }
    if write:
        told = {"embedder": open_embedder().id, "card": card, "categories": made}
        PLACE.write_text(json.dumps(told, separators=(",", ":"), ensure_ascii=False) + "\n", "utf-8")
        print(PLACE, PLACE.stat().st_size)


if __name__ == "__main__":
    given = argparse.ArgumentParser()
    given.add_argument("--write", action="store_true")
    asyncio.run(work(write=given.parse_args().write))
