"""Questions with found passages, gold sentences and answerability, made from public sets. Shared by the fits.

Unanswerable questions are of three kinds: those a set declares (clapnq_dev, mtrag_un), questions whose gold text was
taken away before the search, and questions in which one name or number was exchanged for another of the same set.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.retrieval import Bm25, Vectors, as_document, embed
from interlock.core.passages import Passage, Span
from interlock.knowledge.analysers import analyse
from interlock.knowledge.chunkers.structural import StructuralChunker
from interlock.knowledge.embedders.minilm import MiniLM
from interlock.knowledge.fusion import convex
from interlock.knowledge.types import LoadedDocument

__all__ = ["Case", "Library", "cases", "open_embedder"]

LIMIT = 10
"""Passages a search gives, as in the demo."""
_NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][a-z]{2,}|\d{2,4})\b")


@dataclass(frozen=True)
class Gold:
    """Characters of a document that hold the answer."""

    document: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Case:
    """A question and what a search found for it."""

    source: str
    question: str
    answerable: bool
    origin: str
    """`asked`, `declared`, `removed` or `exchanged`."""
    passages: tuple[Passage, ...]
    gold: tuple[Gold, ...]


def open_embedder() -> MiniLM:
    """The default embedder from INTERLOCK_MODELS_DIR."""
    return MiniLM(Path(os.environ["INTERLOCK_MODELS_DIR"]) / "minilm-l6-int8", threads=1)


class Library:
    """One corpus, cut and indexed in memory."""

    def __init__(self, passages: Sequence[Passage], texts: Sequence[str], vectors: Vectors) -> None:
        self.passages = passages
        self._vectors = vectors
        self._lexical = Bm25([analyse(text) for text in texts])

    @classmethod
    async def read(
        cls, name: str, documents: Mapping[str, tuple[str, str] | LoadedDocument], embedder: MiniLM
    ) -> Library:
        """Cut `documents` (id to title and text, or loaded) with the default chunker."""
        passages, texts = [], []
        for key, given in documents.items():
            document = given if isinstance(given, LoadedDocument) else as_document(*given)
            chunks = StructuralChunker().chunk(
                document, count_tokens=embedder.count_tokens, max_tokens=embedder.max_tokens
            )
            for chunk in chunks:
                body = document.text[chunk.span.start : chunk.span.end]
                number = f"{key}#{len(passages)}"
                facts = tuple(sorted(document.metadata.items()))
                passages.append(
                    Passage(number, key, key, key, document.title, chunk.heading, body, chunk.span, metadata=facts)
                )
                texts.append(chunk.search_text)
        return cls(passages, texts, await embed(embedder, texts, name))

    def search(self, question: str, vector: Vectors, hidden: Sequence[Gold] = ()) -> tuple[Passage, ...]:
        """The ten best passages, without those that touch `hidden`."""
        from dataclasses import replace

        similar = self._vectors @ vector
        dense = {int(i): float(similar[i]) for i in np.argsort(-similar)[:60]}
        lexical = self._lexical.top(analyse(question), 60)
        best = max(lexical.values(), default=1.0)
        found = []
        for i, score in convex(dense, lexical, 0.5):
            passage = self.passages[i]
            if any(touches(passage.document_id, passage.span, gold) for gold in hidden):
                continue
            found.append(
                replace(passage, score=score, dense_score=float(similar[i]), lexical_score=lexical.get(i, 0.0) / best)
            )
        return tuple(found[:LIMIT])


def touches(document: str, span: Span, gold: Gold) -> bool:
    """True when `span` overlaps the gold text; gold without spans is the whole document."""
    if document != gold.document:
        return False
    return not gold.spans or any(s.start < span.end and span.start < s.end for s in gold.spans)


async def cases(name: str, embedder: MiniLM, *, limit: int, seed: int = 7) -> list[Case]:
    """Up to `limit` questions of a set, with the unanswerable ones made from them."""
    folder = Path(os.environ["INTERLOCK_DATA"]) / "retrieval" / name
    documents, questions = _READERS[name](folder)
    library = await Library.read(name, documents, embedder)
    draw = random.Random(seed)
    draw.shuffle(questions)
    # Declared unanswerable questions and answerable ones in equal parts.
    declared = [q for q in questions if not q[2]][: limit // 2]
    asked = [q for q in questions if q[2]][:limit]
    names = sorted({m.group() for q in asked for m in _NAME.finditer(q[0])})
    vectors = await embed(embedder, [q[0] for q in (*declared, *asked)], f"{name} questions")
    found: list[Case] = []
    for (text, gold, answerable), vector in zip((*declared, *asked), vectors, strict=True):
        origin = "asked" if answerable else "declared"
        found.append(Case(name, text, answerable, origin, library.search(text, vector), gold))
        if not answerable or not gold:
            continue
        found.append(Case(name, text, False, "removed", library.search(text, vector, gold), ()))
        other = _exchanged(text, names, draw)
        if other:
            moved = (await embedder.embed([other], "query"))[0]
            found.append(Case(name, other, False, "exchanged", library.search(other, moved), ()))
    return found


def _exchanged(question: str, names: Sequence[str], draw: random.Random) -> str | None:
    """The question about another name or number of the same kind."""
    own = [m.group() for m in _NAME.finditer(question)]
    if not own:
        return None
    out = draw.choice(own)
    like = [n for n in names if n not in own and n.isdigit() == out.isdigit()]
    return re.sub(rf"\b{re.escape(out)}\b", draw.choice(like), question) if like else None


Question = tuple[str, tuple[Gold, ...], bool]


def _lines(path: Path) -> Iterator[dict]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def _qrels(folder: Path) -> dict[str, list[str]]:
    relevant: dict[str, list[str]] = {}
    with (folder / "qrels.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            relevant.setdefault(row["query-id"], []).append(row["corpus-id"])
    return relevant


def _documents(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["_id"]: (row["title"] or "", row["text"]) for row in _lines(folder / "corpus.jsonl")}


def _xquad(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Question]]:
    documents = {k: (t.replace("_", " "), x) for k, (t, x) in _documents(folder).items() if k.startswith("en-")}
    relevant = _qrels(folder)
    questions: list[Question] = []
    for row in _lines(folder / "queries.jsonl"):
        if row["metadata"]["lang"] == "en":
            start = row["metadata"]["answer_start"][0]
            gold = Gold(relevant[row["_id"]][0], (Span(start, start + len(row["answers"][0])),))
            questions.append((row["text"], (gold,), True))
    return documents, questions


def _clapnq(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Question]]:
    documents, relevant = _documents(folder), _qrels(folder)
    questions: list[Question] = []
    for row in _lines(folder / "queries.jsonl"):
        answerable = row["metadata"]["answerable"]
        gold: list[Gold] = []
        for document in relevant.get(row["_id"], []) if answerable else []:
            text = documents[document][1]
            picked = {s for group in row["metadata"].get("selected", []) for s in group}
            spans = [Span(text.find(s), text.find(s) + len(s)) for s in picked if text.find(s) >= 0]
            gold.append(Gold(document, tuple(spans)))
        questions.append((row["text"] + "?", tuple(gold), answerable))
    return documents, questions


def _chunking(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Question]]:
    documents = {k: v for k, v in _documents(folder).items() if k != "chatlogs"}
    questions: list[Question] = []
    for row in _lines(folder / "queries.jsonl"):
        name = row["metadata"]["corpus"]
        if name in documents:
            spans = tuple(Span(s["start_index"], s["end_index"]) for s in row["metadata"]["spans"])
            questions.append((row["text"], (Gold(name, spans),), True))
    return documents, questions


def _tatqa(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Question]]:
    documents, relevant = _documents(folder), _qrels(folder)
    questions: list[Question] = []
    for row in _lines(folder / "queries.jsonl"):
        if row["metadata"]["type"] != "span" or len(row["answers"]) != 1:
            continue
        document = relevant[row["_id"]][0]
        text, answer = documents[document][1], row["answers"][0]
        spans = tuple(Span(m.start(), m.end()) for m in re.finditer(re.escape(answer), text))
        if spans and len(spans) <= 3:
            questions.append((row["text"], (Gold(document, spans),), True))
    return documents, questions


def _covidqa(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Question]]:
    documents, relevant = _documents(folder), _qrels(folder)
    questions: list[Question] = []
    for row in _lines(folder / "queries.jsonl"):
        start = row["metadata"]["answer_start"][0]
        gold = Gold(relevant[row["_id"]][0], (Span(start, start + len(row["answers"][0])),))
        questions.append((row["text"], (gold,), True))
    return documents, questions


def _whole(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Question]]:
    """Sets whose gold is whole documents."""
    documents, relevant = _documents(folder), _qrels(folder)
    questions: list[Question] = []
    for row in _lines(folder / "queries.jsonl"):
        facts = row.get("metadata") or {}
        if facts.get("history"):
            continue  # a later turn does not stand alone
        labels = facts.get("answerability", ["ANSWERABLE"])
        if labels[0] in {"ANSWERABLE", "UNANSWERABLE"}:
            gold = tuple(Gold(d, ()) for d in relevant.get(row["_id"], []))
            questions.append((row["text"], gold, labels[0] == "ANSWERABLE"))
    return documents, questions


_READERS = {
    "xquad": _xquad,
    "clapnq_dev": _clapnq,
    "chunking_eval": _chunking,
    "covidqa_long": _covidqa,
    "tatqa_dev": _tatqa,
    "anthropic_docs": _whole,
    "mtrag_un": _whole,
}
