"""JSON lines: one document a line, as exports and evaluation sets have them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from anyio import to_thread
from pydantic import Field, model_validator

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.connectors._markdown import document, path_part
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["JsonLinesSource", "plugin"]

_ROWS = 500
_MOST_FACTS = 50


class JsonLinesSource(Source):
    """One document a line of a JSONL file."""

    kind: Literal["jsonl"] = "jsonl"
    path: str = Field(min_length=1)
    """The file, relative to the file that names it"""
    id: str = Field(default="id", min_length=1)
    """Field that names a document for ever"""
    title: str = "title"
    """Field with the title; where it is absent, the id"""
    text: str = Field(default="text", min_length=1)
    """Field with the text: Markdown or plain"""
    metadata: str | None = "metadata"
    """Field with an object whose texts, numbers and truths become metadata"""
    readers: str | None = None
    """Field with a list of names for `readers_map`; with `readers_from: source`"""

    states_readers: ClassVar[bool] = True

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.readers is None) != (self.readers_from == "rules"):
            raise ValueError("readers and readers_from: source go together")
        return self

    def place(self) -> str:
        """The file as it is written."""
        return self.path

    def based(self, base: Path) -> Self:
        """The same with the file made absolute."""
        return self.model_copy(update={"path": absolute(self.path, base)})


class _Lines:
    def __init__(self, source: JsonLinesSource, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._content: dict[str, bytes] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Pages of lines, in the file's order."""
        seen: set[str] = set()
        path, number = Path(self._source.path), 0
        try:
            file = await to_thread.run_sync(lambda: path.open("rb"))
        except OSError as error:
            raise InvalidInput(
                f"the file {path.name!r} cannot be read: {error.strerror}", param="sources.path"
            ) from error
        with file:
            while True:
                # One line more than may be: a longer one is seen without being held whole.
                lines = await to_thread.run_sync(lambda: [file.readline(self._max_bytes + 2) for _ in range(_ROWS)])
                self._content.clear()
                items: list[SourceItem] = []
                for line in lines:
                    number += 1
                    if line.strip():
                        items.append(self._item(line, number, seen))
                if items:
                    yield SourcePage(items)
                if not lines[-1]:
                    break
        yield SourcePage(complete=True)

    def _item(self, line: bytes, number: int, seen: set[str]) -> SourceItem:
        name = f"{Path(self._source.path).name} line {number}"
        if len(line) > self._max_bytes:
            raise TooLarge(f"{name} has more than {self._max_bytes} bytes", param="sources.path")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{name} is not JSON", param="sources.path") from error
        identity = row.get(self._source.id) if isinstance(row, dict) else None
        if isinstance(identity, int):
            identity = str(identity)
        if not isinstance(identity, str) or not identity.strip():
            raise InvalidInput(f"{name} has no {self._source.id!r}", param="sources.id")
        path = path_part(identity)
        if path in seen:
            raise InvalidInput(f"{name} has the id of an earlier line", param="sources.id")
        seen.add(path)
        text, title = row.get(self._source.text), row.get(self._source.title)
        lacking = (
            None if isinstance(text, str) else InvalidInput(f"{name} has no text", param=path, code="empty_document")
        )
        self._content[path] = document(title if isinstance(title, str) and title.strip() else identity, str(text))
        return SourceItem(
            path,
            digest_bytes(line),
            readers=self._readers(row, name),
            metadata=_facts(row.get(self._source.metadata)) if self._source.metadata else {},
            name_hint="line.md",
            error=lacking,
        )

    # Any: a line's values.
    def _readers(self, row: Mapping[str, Any], name: str) -> frozenset[str] | None:
        if self._source.readers is None:
            return None
        given = row.get(self._source.readers, [])
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise InvalidInput(f"{name}: {self._source.readers!r} is no list of names", param="sources.readers")
        return self._source.readers_for(given)

    async def fetch(self, item: SourceItem) -> bytes:
        """The line as Markdown."""
        return self._content[item.source]

    async def aclose(self) -> None:
        """Nothing is open."""


def _facts(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    plain = {str(name): value for name, value in given.items() if isinstance(value, str | int | float)}
    told = {name: str(value).lower() if isinstance(value, bool) else str(value)[:1000] for name, value in plain.items()}
    return dict(list(told.items())[:_MOST_FACTS])


class _Plugin:
    model = JsonLinesSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        """See `ConnectorPlugin`."""
        return _Lines(cast(JsonLinesSource, source), surroundings.max_bytes)


plugin = _Plugin()
