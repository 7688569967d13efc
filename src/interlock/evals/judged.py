"""Questions with what answers them: our own JSON lines, golden sets, and folders in BEIR's format."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput, NotFound

__all__ = ["JudgedQuestion", "read_beir", "read_judged"]

_MOST_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """One question, and the documents that answer it."""

    id: str
    text: str
    relevant: Mapping[str, int]
    """Source (or, in BEIR's format, corpus id) to grade; all above 0."""
    user: str | None = None
    """Who asks; None for the caller of the evaluation."""
    quotes: Mapping[str, str] = field(default_factory=dict)
    """By document the words of it that answer, where they are known."""


def read_judged(path: Path) -> list[JudgedQuestion]:
    """Questions of a JSONL file.

    A line is ``{"query": …, "relevant": ["returns.md"] or {"returns.md": 2}, "as": "ada", "id": "q1", "quotes":
    {"returns.md": "within 30 days"}}`` (the last three may be left out), or a case of a golden set (``question``,
    ``gold``). Cases without gold are left out.

    Raises: NotFound; InvalidInput naming line and field.
    """
    questions: list[JudgedQuestion] = []
    for number, row in _rows(path):
        question = _question(row, f"{path.name} line {number}", str(number))
        if question is not None:
            questions.append(question)
    if not questions:
        raise InvalidInput(f"{path.name} holds no question with an answer", param=path.name)
    often = Counter(question.id for question in questions).most_common(1)[0]
    if often[1] > 1:
        raise InvalidInput(f"two questions of {path.name} have the id {often[0]!r}", param="id")
    return questions


# Any: JSON of a file.
def _question(row: Any, where: str, number: str) -> JudgedQuestion | None:
    text = row.get("query", row.get("question"))
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"{where} has no text in `query`", param="query")
    gold = row.get("relevant")
    if gold is None and isinstance(row.get("gold"), list):
        gold = [each.get("document") for each in row["gold"] if isinstance(each, dict)]
        if not gold:
            return None
    if isinstance(gold, list) and all(isinstance(each, str) for each in gold):
        gold = dict.fromkeys(gold, 1)
    if not isinstance(gold, dict) or not gold:
        raise InvalidInput(
            f"{where} names nothing relevant", param="relevant", hint='as "relevant": ["handbook/returns.md"]'
        )
    if not all(isinstance(grade, int) and not isinstance(grade, bool) and grade >= 0 for grade in gold.values()):
        raise InvalidInput(f"{where}: a grade is a whole number, 0 or more", param="relevant")
    user = row.get("as")
    if user is not None and not isinstance(user, str):
        raise InvalidInput(f"{where}: `as` names a user", param="as")
    quotes = row.get("quotes", {})
    if not isinstance(quotes, dict) or not all(isinstance(quote, str) for quote in quotes.values()):
        raise InvalidInput(
            f"{where}: `quotes` holds words of documents, by document",
            param="quotes",
            hint='as "quotes": {"handbook/returns.md": "within 30 days"}',
        )
    return JudgedQuestion(str(row.get("id", number)), text, {k: v for k, v in gold.items() if v > 0}, user, quotes)


def read_beir(folder: Path) -> list[JudgedQuestion]:
    """Judged questions of a folder with ``queries.jsonl`` and ``qrels.tsv`` (or ``qrels/test.tsv``).

    Raises: NotFound, InvalidInput.
    """
    table = next((path for path in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if path.is_file()), None)
    if table is None:
        raise NotFound(
            f"{folder.name!r} holds no qrels.tsv", param="set", hint="a set has corpus.jsonl, queries.jsonl, qrels.tsv"
        )
    relevant: dict[str, dict[str, int]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
            if number == 1 and row[-1:] == ["score"]:
                continue
            # BEIR has three columns, TREC four with a constant second one.
            if len(row) not in {3, 4} or not row[-1].lstrip("-").isdecimal():
                raise InvalidInput(f"{table.name} line {number} is no judgement", param="qrels")
            if int(row[-1]) > 0:
                relevant.setdefault(row[0], {})[row[-2]] = int(row[-1])
    questions = []
    for number, row in _rows(folder / "queries.jsonl"):
        identity, text = row.get("_id"), row.get("text")
        if not isinstance(identity, str) or not isinstance(text, str):
            raise InvalidInput(f"queries.jsonl line {number} has no _id and text", param="queries")
        if identity in relevant and text.strip():
            questions.append(JudgedQuestion(identity, text, relevant[identity]))
    if not questions:
        raise InvalidInput(f"{folder.name!r} holds no judged question", param="set")
    return questions


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"there is no file {path.name!r}", param=path.name) from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line) if len(line) <= _MOST_LINE else None
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{path.name} line {number} is not JSON", param=path.name) from error
            if not isinstance(row, dict):
                raise InvalidInput(f"{path.name} line {number} is no JSON object", param=path.name)
            yield number, row
