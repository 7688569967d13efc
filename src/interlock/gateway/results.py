"""Rows of a batch's result files, and what each was made from: who may not read that any more does not get the row."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Results", "named_in", "withheld"]

# Any in this module: JSON objects.
_DOCUMENT = re.compile(r"doc_[0-9a-f]{26}|ext_[^\s.]+\.[\w-]+")
_UNKNOWN = "doc_"
"""Of a document that nobody has."""
_CODE = "result_withheld"
_TOLD = "this result was made from a document that is not there for you any more"


class Results(NamedTuple):
    """A file of results: its rows, and of each row the documents it was made from."""

    rows: Sequence[str]
    documents: Sequence[Sequence[str]]

    @classmethod
    def of(cls, text: str, documents: Sequence[Sequence[str]] | None) -> Results:
        """From what was stored. Releases before this one kept no list: there it is every document that a row names."""
        # Not splitlines(): an answer may hold other line breaks of Unicode.
        rows = text.removesuffix("\n").split("\n")
        known = [sorted(named_in(json.loads(row))) for row in rows] if documents is None else documents
        return cls(rows, known)

    @property
    def text(self) -> str:
        """The file."""
        return "".join(f"{row}\n" for row in self.rows)

    @property
    def made_from(self) -> set[str]:
        """The documents of all rows."""
        return {document for each in self.documents for document in each}

    def count_of(self, documents: Collection[str]) -> int:
        """How many rows were made from one of these."""
        return sum(not set(documents).isdisjoint(each) for each in self.documents)

    def without(self, documents: Collection[str]) -> Results:
        """With a word in the place of each row that was made from one of these."""
        hidden = [not set(documents).isdisjoint(each) for each in self.documents]
        rows = [
            json.dumps(withheld(json.loads(row))) if off else row for row, off in zip(self.rows, hidden, strict=True)
        ]
        return Results(rows, [() if off else each for each, off in zip(self.documents, hidden, strict=True)])


def withheld(row: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a result's place, in the shape of its API."""
    if "result" in row:
        error = {"type": "error", "error": {"type": "not_found_error", "message": _TOLD}}
        return {"custom_id": row["custom_id"], "result": {"type": "errored", "error": error}}
    error = {"code": _CODE, "message": _TOLD}
    return {"id": row["id"], "custom_id": row["custom_id"], "response": None, "error": error}


def named_in(said: object) -> set[str]:
    """Ids of documents that stand anywhere in a stored answer."""
    match said:
        case dict():
            # A search of files that told nothing of what it found: what the answer rests on cannot be known.
            silent = said.get("type") == "file_search_call" and not said.get("results")
            return {_UNKNOWN} if silent else {name for value in said.values() for name in named_in(value)}
        case list():
            return {name for value in said for name in named_in(value)}
        case str() if _DOCUMENT.fullmatch(said):
            return {said}
    return set()
