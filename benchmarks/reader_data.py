"""Questions with candidate sentences, for training the reader: gold ones marked, the nearest others beside them.

    INTERLOCK_DATA=… INTERLOCK_MODELS_DIR=… python -m benchmarks.reader_data OUT.jsonl [SET …]

Without SETs: xquad, tatqa_dev, chunking_eval, clapnq_dev and the first fifteen organisations, which is what the shipped
reader was trained on (less the organisations that were held out). A set is a public one
(`benchmarks/grounding_data.py`) or one of our organisations (`benchmarks/organisations.py`).
Each line: ``set``, ``question``, ``answerable``, ``cells``: [{``text``, ``around``, ``gold``}].
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.grounding_data import _READERS, Gold, Library, Question, open_embedder, touches
from benchmarks.organisations import FOLDER, organisations, read_organisation
from benchmarks.retrieval import Vectors, embed
from interlock.knowledge.embedders.minilm import MiniLM
from interlock.knowledge.grounding.reading import reading
from interlock.knowledge.grounding.types import Evidence
from interlock.knowledge.grounding.units import units

PUBLIC = ("xquad", "tatqa_dev", "chunking_eval", "clapnq_dev")
PAIRED = (
    "brewery",
    "coworking",
    "game-studio",
    "museum",
    "security-software",
    "vet-clinics",
    "weather-data-api",
)
"""Organisations whose questions were written in pairs; they come first. The order decides what training draws."""
LATER = (
    "backup-software",
    "coffee-machines",
    "design-agency",
    "housing-association",
    "insurance-mutual",
    "mountain-huts",
    "parcel-coop",
    "ticketing-platform",
)
"""Organisations that no shipped reader was trained on: name them to use them."""
_MOST = {"xquad": 300, "tatqa_dev": 150, "chunking_eval": 160, "clapnq_dev": 300}
"""Questions taken of each set."""
_NEAREST = 10


async def questions_of(name: str, embedder: MiniLM) -> tuple[Library, list[Question], list[str]]:
    """The library and the questions of a set; and for each what comes near to answering it, if that is known."""
    if (FOLDER / name / "questions.jsonl").exists():
        library, questions, rows = await read_organisation(name, embedder)
        return library, questions, [row["near"] or "" for row in rows]
    documents, questions = _READERS[name](Path(os.environ["INTERLOCK_DATA"]) / "retrieval" / name)
    random.Random(7).shuffle(questions)
    questions = questions[: _MOST[name]]
    return await Library.read(name, documents, embedder), questions, [""] * len(questions)


async def lines(name: str, embedder: MiniLM) -> Iterator[dict]:
    """Every question of a set with its candidates."""
    library, questions, near = await questions_of(name, embedder)
    vectors = await embed(embedder, [text for text, _, _ in questions], f"{name} questions")
    found = [units(library.search(text, v), {}) for (text, _, _), v in zip(questions, vectors, strict=True)]
    for (_, gold, _), row in zip(questions, found, strict=True):
        missing = [g for g in gold if not any(is_gold(e, [g]) for e in row)]
        passages = [p for g in missing for p in library.passages if touches(p.document_id, p.span, g)]
        row += [e for e in units(passages, {}) if is_gold(e, missing)]
    shown = {reading("", e).sentence: 0 for row in found for e in row}
    for number, text in enumerate(shown):
        shown[text] = number
    sentences = await embed(embedder, [t[:700] for t in shown], f"{name} sentences")
    return iter(
        [
            _line(name, question, row, vector, sentences[[shown[reading("", e).sentence] for e in row]], near=close)
            for question, row, vector, close in zip(questions, found, vectors, near, strict=True)
            if row
        ]
    )


def is_gold(evidence: Evidence, gold: Sequence[Gold]) -> bool:
    """True when the sentence holds gold characters."""
    return any(g.spans and touches(evidence.passage.document_id, evidence.span, g) for g in gold)


def _line(
    name: str, question: Question, row: Sequence[Evidence], vector: Vectors, sentences: Vectors, *, near: str
) -> dict:
    text, gold, answerable = question
    similar = sentences @ vector
    kept = [i for i, e in enumerate(row) if is_gold(e, gold)]
    order = [int(i) for i in np.argsort(-similar) if int(i) not in kept]
    # What was written as nearly an answer is the best counterexample: it goes first.
    order = sorted(order, key=lambda i: not (near and _plain(row[i].text) in _plain(near)))[:_NEAREST]
    cells = [
        {
            "text": (r := reading("", row[i])).sentence,
            "around": r.before,
            "gold": i in kept,
            "similar": round(float(similar[i]), 3),
        }
        for i in [*kept[:3], *order]
    ]
    return {"set": name, "question": text, "answerable": answerable, "cells": cells}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text)).casefold()


async def main() -> None:
    """Write the lines of the sets named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("sets", nargs="*")
    options = parser.parse_args()
    embedder = open_embedder()
    with options.out.open("w", encoding="utf-8") as out:
        for name in options.sets or (*PUBLIC, *PAIRED, *(n for n in organisations() if n not in (*PAIRED, *LATER))):
            rows = list(await lines(name, embedder))
            for row in rows:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
            gold = sum(any(c["gold"] for c in r["cells"]) for r in rows)
            print(
                f"{name}: {len(rows)} questions, {gold} with gold, {sum(len(r['cells']) for r in rows)} sentences",
                flush=True,
            )


if __name__ == "__main__":
    asyncio.run(main())
