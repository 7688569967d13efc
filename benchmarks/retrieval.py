"""Retrieval quality on public sets: nDCG@10 of each leg and of both fusions, through our chunker and analyser.

    INTERLOCK_DATA=… python -m benchmarks.retrieval scifact anthropic_docs

Passages are ranked and a document counts at its best passage, as in a search. BM25 here has FTS5's k1 and b; no index
back end is involved. Vectors are kept in `.interlock/benchmarks` so that a second run takes seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from interlock.core.passages import Span
from interlock.knowledge.analysers import analyse
from interlock.knowledge.chunkers.structural import StructuralChunker
from interlock.knowledge.embedders.minilm import MiniLM
from interlock.knowledge.fusion import convex, rrf
from interlock.knowledge.types import Block, LoadedDocument
from interlock.serving.service import default_models_dir

Vectors = NDArray[np.float32]
DEPTH = 50
"""Rows a leg hands to fusion, as `knowledge.candidates`."""
CACHE = Path(".interlock/benchmarks")


@dataclass(frozen=True)
class Collection:
    """One evaluation set, cut into passages."""

    owners: list[str]
    texts: list[str]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]


class Bm25:
    """BM25 over term lists, k1 1.2 and b 0.75 as in FTS5."""

    def __init__(self, rows: Sequence[Sequence[str]]) -> None:
        lengths = np.array([len(row) for row in rows], dtype=np.float32)
        self._norm = 1.2 * (0.25 + 0.75 * lengths / max(1.0, float(lengths.mean())))
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, row in enumerate(rows):
            for term, count in Counter(row).items():
                postings[term].append((number, count))
        self._size = len(rows)
        self._postings = {term: np.array(found, dtype=np.int64) for term, found in postings.items()}

    def top(self, terms: Sequence[str], k: int) -> dict[int, float]:
        """The `k` best rows with a positive score, best first."""
        scores = np.zeros(self._size, dtype=np.float32)
        for term in set(terms):
            found = self._postings.get(term)
            if found is None:
                continue
            rows, counts = found[:, 0], found[:, 1]
            idf = math.log(1 + (self._size - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += idf * counts * 2.2 / (counts + self._norm[rows])
        best = np.argsort(-scores)[:k]
        return {int(row): float(scores[row]) for row in best if scores[row] > 0}


def read(folder: Path, embedder: MiniLM) -> Collection:
    """Read one set and cut its documents with the default chunker."""
    chunker = StructuralChunker()
    owners: list[str] = []
    texts: list[str] = []
    for line in (folder / "corpus.jsonl").read_text().splitlines():
        row = json.loads(line)
        document = as_document(row["title"] or "", row["text"])
        for chunk in chunker.chunk(document, count_tokens=embedder.count_tokens, max_tokens=embedder.max_tokens):
            owners.append(row["_id"])
            texts.append(chunk.search_text)
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels.tsv").open() as file:
        for judged in csv.DictReader(file, delimiter="\t"):
            relevant[judged["query-id"]][judged["corpus-id"]] = int(judged["score"])
    lines = (folder / "queries.jsonl").read_text().splitlines()
    queries = {row["_id"]: row["text"] for row in map(json.loads, lines) if row["_id"] in relevant}
    return Collection(owners, texts, queries, relevant)


def as_document(title: str, text: str) -> LoadedDocument:
    """Plain text as paragraphs."""
    blocks: list[Block] = []
    position = 0
    for part in text.split("\n\n"):
        if part.strip():
            blocks.append(Block("paragraph", Span(position, position + len(part))))
        position += len(part) + 2
    return LoadedDocument(text, tuple(blocks), title, "text/plain")


def _cache() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


async def embed(embedder: MiniLM, texts: Sequence[str], label: str) -> Vectors:
    """Vectors of `texts`, from the cache when the same texts were embedded before."""
    key = hashlib.sha256("\0".join([embedder.id, *texts]).encode()).hexdigest()[:24]
    path = _cache() / f"{key}.npy"
    if path.exists():
        kept: Vectors = np.load(path)
        return kept
    parts: list[Vectors] = []
    for start in range(0, len(texts), 512):
        parts.append(await embedder.embed(texts[start : start + 512], "passage"))
        print(f"  {label}: {min(start + 512, len(texts))}/{len(texts)} embedded", flush=True)
    vectors = np.concatenate(parts)
    np.save(path, vectors)
    return vectors


def ndcg(ranking: Sequence[str], relevant: Mapping[str, int], k: int = 10) -> float:
    """nDCG@k with linear gain."""
    gain = sum(relevant.get(d, 0) / math.log2(rank + 2) for rank, d in enumerate(ranking[:k]))
    ideal = sum(g / math.log2(rank + 2) for rank, g in enumerate(sorted(relevant.values(), reverse=True)[:k]))
    return gain / ideal if ideal else 0.0


def documents(rows: Sequence[int], owners: Sequence[str]) -> list[str]:
    """Passage numbers to documents, each at its best passage."""
    return list(dict.fromkeys(owners[row] for row in rows))


async def measure(name: str, folder: Path, embedder: MiniLM) -> dict[str, list[float]]:
    """nDCG@10 of every question under each method."""
    data = read(folder, embedder)
    vectors = await embed(embedder, data.texts, name)
    lexical_leg = Bm25([analyse(text) for text in data.texts])
    ids = list(data.queries)
    questions = await embed(embedder, [data.queries[i] for i in ids], f"{name} questions")
    results: dict[str, list[float]] = defaultdict(list)
    for row, question_id in enumerate(ids):
        similar = vectors @ questions[row]
        near = np.argsort(-similar)[:DEPTH]
        dense = {int(r): float(similar[r]) for r in near}
        lexical = lexical_leg.top(analyse(data.queries[question_id]), DEPTH)
        rankings = {
            "bm25": list(lexical),
            "dense": list(dense),
            "rrf k=60": [r for r, _ in rrf([list(dense), list(lexical)])],
            **{f"convex {w}": [r for r, _ in convex(dense, lexical, w)] for w in (0.3, 0.4, 0.5)},
        }
        for method, ranking in rankings.items():
            results[method].append(ndcg(documents(ranking, data.owners), data.relevant[question_id]))
    print(f"{name}: {len(set(data.owners))} documents, {len(data.texts)} passages, {len(ids)} questions")
    return results


def difference(a: Sequence[float], b: Sequence[float]) -> str:
    """Mean of ``a - b`` with its 95 % paired bootstrap interval (2,000 draws, fixed seed)."""
    gaps = np.array(a) - np.array(b)
    draws = np.random.default_rng(7).choice(gaps, (2000, len(gaps))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{gaps.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


async def main() -> None:
    """Measure the sets named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=["scifact", "anthropic_docs"])
    args = parser.parse_args()
    embedder = MiniLM(
        Path(os.environ.get("INTERLOCK_MODELS_DIR") or default_models_dir()) / "minilm-l6-int8",
        threads=os.cpu_count() or 1,
    )
    for name in args.sets:
        results = await measure(name, Path(os.environ["INTERLOCK_DATA"]) / "retrieval" / name, embedder)
        for method, scores in results.items():
            print(f"  {method:<12} nDCG@10 {np.mean(scores):.4f}")
        for other in ("bm25", "rrf k=60"):
            print(f"  convex 0.4 - {other}: {difference(results['convex 0.4'], results[other])}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
