"""Verify the golden set of the handbook: counts, quotes, permissions and facts.

    python examples/handbook/check_golden.py

A golden question is only as good as the passage it points to. This command reads every document with a plain
extraction of its own (pypdfium2, python-docx, csv and html from the standard library), which shares no code with the
product, and fails if a quote is not in the named document word for word, if a user can read what a restricted
question must not reveal, or if a required fact does not occur in the quotes that are said to hold it.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import docx
import pypdfium2
import yaml
from docx.table import Table

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE / "documents"
GOLDEN = HERE / "apps" / "handbook" / "evals" / "golden.jsonl"
COLLECTION = HERE / "knowledge" / "handbook.yaml"
USERS = HERE / "users.yaml"

EXPECTED = {"single": 60, "double": 20, "unanswerable": 25, "restricted": 15}
CELL = " | "

Record = dict[str, Any]


def squeeze(text: str) -> str:
    """Collapse every run of white space into one space."""
    return " ".join(text.split())


class _Text(HTMLParser):
    """Collect visible text; the cells of a table row are joined by ``CELL``."""

    _BREAKS = frozenset({"p", "li", "tr", "h1", "h2", "h3", "div", "caption", "nav", "ul", "table"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0
        self._first_cell = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a row, put a separator between its cells, and leave scripts and styles out."""
        if tag in ("script", "style"):
            self._hidden += 1
        elif tag == "tr":
            self._first_cell = True
        elif tag in ("td", "th"):
            if not self._first_cell:
                self.parts.append(CELL)
            self._first_cell = False
        if tag in self._BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """End a block or a hidden element."""
        if tag in ("script", "style"):
            self._hidden -= 1
        if tag in self._BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Keep the text unless it is hidden."""
        if not self._hidden:
            self.parts.append(data)


def pages_of(path: Path) -> list[str]:
    """Return the text of each page of a PDF."""
    pdf = pypdfium2.PdfDocument(path)
    try:
        return [pdf[index].get_textpage().get_text_range() for index in range(len(pdf))]
    finally:
        pdf.close()


def text_of(path: Path) -> str:
    """Extract the text of one document; a table row becomes one line of cells joined by ``CELL`` (not in PDF)."""
    if path.suffix == ".pdf":
        return "\n".join(pages_of(path))
    if path.suffix == ".docx":
        lines: list[str] = []
        for block in docx.Document(str(path)).iter_inner_content():
            if isinstance(block, Table):
                lines.extend(CELL.join(cell.text for cell in row.cells) for row in block.rows)
            else:
                lines.append(block.text)
        return "\n".join(lines)
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as handle:
            return "\n".join(CELL.join(row) for row in csv.reader(handle))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        parser = _Text()
        parser.feed(text)
        return "".join(parser.parts)
    return text


class Directory:
    """The users and the permission rules of the demonstration."""

    def __init__(self) -> None:
        collection = yaml.safe_load(COLLECTION.read_text(encoding="utf-8"))
        users = yaml.safe_load(USERS.read_text(encoding="utf-8"))["users"]
        self._rules: list[tuple[str, set[str]]] = [
            (rule["match"], set(rule["readers"])) for rule in collection["permissions"]
        ]
        self._metadata: list[tuple[str, dict[str, str]]] = [
            (rule["match"], rule["set"]) for rule in collection["metadata"]
        ]
        self._principals = {user["id"]: {"public", *(f"group:{name}" for name in user["groups"])} for user in users}

    def knows(self, user: str) -> bool:
        """Say whether there is such a user."""
        return user in self._principals

    def may_read(self, user: str, document: str) -> bool:
        """Apply the first rule that matches; without one, nobody may read."""
        for pattern, readers in self._rules:
            if fnmatch.fnmatchcase(document, pattern):
                return bool(readers & self._principals[user])
        return False

    def is_withdrawn(self, document: str) -> bool:
        """Say whether the metadata of the collection withdraws this document."""
        for pattern, values in self._metadata:
            if fnmatch.fnmatchcase(document, pattern):
                return values.get("status") == "withdrawn"
        return False


def check_quote(entry: Record) -> str | None:
    """Return what is wrong with one entry of ``gold``, or nothing."""
    path = DOCUMENTS / entry["document"]
    if not path.is_file():
        return f"no such document: {entry['document']}"
    quote = squeeze(entry["quote"])
    if not quote or quote not in squeeze(text_of(path)):
        return f"not in {entry['document']}: {quote!r}"
    if path.suffix == ".pdf":
        found = [number for number, text in enumerate(pages_of(path), start=1) if quote in squeeze(text)]
        if entry.get("page") not in found:
            return f"page {entry.get('page')} of {entry['document']} does not hold {quote!r}, pages {found} do"
    elif "page" in entry:
        return f"{entry['document']} has no pages"
    return None


def check_record(record: Record, directory: Directory) -> Iterator[str]:
    """Yield everything that is wrong with one question."""
    kind, user, gold, facts = record["kind"], record["as"], record["gold"], record["facts"]
    if not directory.knows(user):
        yield f"unknown user {user}"
        return
    for entry in gold:
        problem = check_quote(entry)
        if problem:
            yield problem
        if directory.is_withdrawn(entry["document"]):
            yield f"{entry['document']} is withdrawn and cannot be the answer"
    if record["answerable"] != (kind in ("single", "double")):
        yield "answerable does not fit the kind"
    if kind == "unanswerable":
        if gold or facts:
            yield "an unanswerable question has neither gold nor facts"
        return
    if len(gold) < (2 if kind == "double" else 1):
        yield "too few passages"
    readers = [record.get("allowed_as", "")] if kind == "restricted" else [user]
    for reader in readers:
        if not directory.knows(reader):
            yield f"unknown user {reader!r}"
        elif not all(directory.may_read(reader, entry["document"]) for entry in gold):
            yield f"{reader} may not read the gold documents"
    if kind == "restricted" and any(directory.may_read(user, entry["document"]) for entry in gold):
        yield f"{user} may read a document that the question treats as forbidden"
    held = squeeze(" ".join(entry["quote"] for entry in gold)).lower()
    if not facts:
        yield "no facts"
    for alternatives in facts:
        if not any(squeeze(alternative).lower() in held for alternative in alternatives):
            yield f"no form of the fact {alternatives} occurs in the quotes"


def main() -> int:
    """Check the whole set and print a summary."""
    records: list[Record] = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    directory = Directory()
    problems = []
    counts = Counter(str(record["kind"]) for record in records)
    if dict(counts) != EXPECTED:
        problems.append(f"counts are {dict(counts)}, expected {EXPECTED}")
    if [record["id"] for record in records] != [f"q{number:03d}" for number in range(1, len(records) + 1)]:
        problems.append("the ids are not q001, q002, … in order")
    for question, times in Counter(squeeze(record["question"]).lower() for record in records).items():
        if times > 1:
            problems.append(f"asked {times} times: {question}")
    for record in records:
        problems.extend(f"{record['id']}: {problem}" for problem in check_record(record, directory))

    for problem in problems:
        print(problem, file=sys.stderr)
    used = {entry["document"] for record in records for entry in record["gold"]}
    total = sum(1 for path in DOCUMENTS.rglob("*") if path.is_file())
    print(f"{len(records)} questions {dict(counts)}, {len(used)} of {total} documents quoted, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
