"""JSON and JSON Lines: keys as headings, lists of like records as rows searched with their column names."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._records import add_record, add_value
from interlock.knowledge.types import LoadedDocument, PageNote

__all__ = ["JsonLoader", "plugin"]

_LINES = (".jsonl", ".ndjson")
_MAX_RECORDS = 100_000
_MOST_BROKEN = 0.1
"""Share of the lines."""


class JsonLoader:
    """Values keep their order. Lines of JSON Lines that are no JSON are left out and told as a flaw of the document;
    more than one in ten of them, and the file fails with the number of the first.
    """

    version = "json/2"
    suffixes = frozenset({".json", ".jsonl", ".ndjson", ".geojson", ".jsonld"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        text = decode(data, name)
        notes: list[PageNote] = []
        lines = name.lower().endswith(_LINES) or _looks_like_lines(text, name)
        builder = TextBuilder(name, "application/x-ndjson" if lines else "application/json")
        if lines:
            records, broken = _lines(text, name)
            if broken:
                notes.append(PageNote(0, "broken_lines", 1 - broken / (broken + len(records))))
            if len(records) > _MAX_RECORDS:
                raise TooLarge(f"the file {name!r} has more than {_MAX_RECORDS} records", param=name, hint="split it")
            _add_records(builder, records, name)
        else:
            add_value(builder, _parsed(text, name, None), name)
        return builder.build(title=name.rpartition("/")[2].rpartition(".")[0], notes=notes)


# Any: JSON of any shape.
def _lines(text: str, name: str) -> tuple[list[Any], int]:
    """Records, and how many lines are none."""
    records: list[Any] = []
    failures: list[InvalidInput] = []
    for at, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(_parsed(line, name, at))
        except InvalidInput as error:
            failures.append(error)
    if len(failures) > _MOST_BROKEN * (len(records) + len(failures)):
        raise failures[0]
    return records, len(failures)


def _looks_like_lines(text: str, name: str) -> bool:
    """For a file without a suffix that says it: several lines, each an object."""
    first, rest = text.strip().partition("\n")[::2]
    named = PurePosixPath(name).suffix.lower() in JsonLoader.suffixes
    return not named and first.startswith("{") and first.rstrip().endswith("}") and rest.lstrip().startswith("{")


# Any: JSON of any shape.
def _parsed(text: str, name: str, line: int | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {line} of the file {name!r}" if line else f"the file {name!r}"
        raise InvalidInput(f"{where} is no JSON", param=name, code="damaged_document") from error


def _add_records(builder: TextBuilder, records: list[Any], name: str) -> None:
    flat = all(
        isinstance(r, dict) and not any(isinstance(v, (dict, list)) or len(str(v)) > 300 for v in r.values())
        for r in records
    )
    if flat:
        add_value(builder, records, name)
        return
    for number, record in enumerate(records, start=1):
        add_record(builder, record, number, name)


plugin = JsonLoader()
