"""Our own training questions: fictional organisations with a few documents each, under `benchmarks/questions`.

Each folder holds Markdown documents and `questions.jsonl`, one question a line:

- ``question``; ``answerable``; ``document``: where the answer stands (or ``documents``, for two places);
- ``quotes``: the sentences or rows that answer, verbatim from the documents;
- ``claim``: the answer in one sentence; ``near``: for an unanswerable question, what comes close to answering it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.grounding_data import Gold, Library, Question
from interlock.core.passages import Span
from interlock.knowledge.embedders.minilm import MiniLM
from interlock.knowledge.loaders.markdown import MarkdownLoader
from interlock.knowledge.types import LoadedDocument

__all__ = ["FOLDER", "organisations", "read_organisation"]

FOLDER = Path(__file__).parent / "questions"


def organisations() -> list[str]:
    """Names of the organisations that have questions."""
    return sorted(path.parent.name for path in FOLDER.glob("*/questions.jsonl"))


async def read_organisation(name: str, embedder: MiniLM) -> tuple[Library, list[Question], list[dict]]:
    """Its documents cut and indexed, its questions with their gold spans, and the lines they were read from.

    Raises: ValueError: when a quote stands in none of the question's documents.
    """
    loader = MarkdownLoader()
    documents: dict[str, LoadedDocument] = {
        path.name: loader.load(path.read_bytes(), path.name) for path in sorted((FOLDER / name).glob("*.md"))
    }
    lines = [json.loads(line) for line in (FOLDER / name / "questions.jsonl").read_text("utf-8").splitlines() if line]
    questions: list[Question] = []
    for row in lines:
        given = row.get("documents") or row.get("document") or []
        named = [given] if isinstance(given, str) else list(given)
        gold = [
            found
            for quote in (row.get("quotes") or ())
            if row["answerable"] and (found := _find(quote, named, documents)) is not None
        ]
        questions.append((row["question"], tuple(gold), bool(row["answerable"])))
    return await Library.read(name, documents, embedder), questions, lines


def _find(quote: str, named: Sequence[str], documents: dict[str, LoadedDocument]) -> Gold | None:
    """The quote's place in the extracted text; blanks, markup and table bars may differ."""
    words = re.findall(r"\w+", quote)
    if not words:
        return None
    pattern = re.compile(r"\W+".join(map(re.escape, words)))
    for key in [*named, *(k for k in documents if k not in named)]:
        document = documents.get(key)
        match = pattern.search(document.text) if document else None
        if match:
            return Gold(key, (Span(match.start(), match.end()),))
    return None
