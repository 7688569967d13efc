"""Exports of Notion, Confluence, Jira, Zendesk and GitHub: an archive, an unpacked folder, or one file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal, Self, cast

from anyio import to_thread
from pydantic import Field

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.connectors._export_files import ExportFiles
from interlock.knowledge.connectors._export_formats import FORMATS, Exported
from interlock.knowledge.connectors._naming import apart
from interlock.knowledge.connectors._shelf import Held, Shelf
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["ExportSource", "plugin"]

_PAGE = 100
_PAGE_BYTES = 32 * 1024 * 1024


class ExportSource(Source):
    """What another system gave as a file to download. It is read whole at every run."""

    kind: Literal["export"] = "export"
    path: str = Field(min_length=1)
    """A zip or tar file, the unpacked folder, or one file, relative to the file that names it"""
    format: Literal["notion", "confluence", "jira", "zendesk", "github"]
    """The system it comes from"""

    def place(self) -> str:
        """The file as it is written."""
        return self.path

    def based(self, base: Path) -> Self:
        """The same with the path made absolute."""
        return self.model_copy(update={"path": absolute(self.path, base)})


class _Export:
    def __init__(self, source: ExportSource, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Everything that it holds."""
        pages = self._pages()
        while (page := await to_thread.run_sync(next, pages, None)) is not None:
            yield SourcePage(self._shelf.put(page))
        yield SourcePage(complete=True)

    def _pages(self) -> Iterator[list[Held]]:
        taken: set[str] = set()
        with ExportFiles(Path(self._source.path)) as files:
            page: list[Held] = []
            for one in FORMATS[self._source.format](files):
                held = self._held(one, taken)
                if held is None:
                    continue
                page.append(held)
                if len(page) == _PAGE or sum(len(cast(bytes, each.content)) for each in page) > _PAGE_BYTES:
                    yield page
                    page = []
            if not taken:
                raise InvalidInput(
                    f"the export {Path(self._source.path).name!r} holds nothing that {self._source.format} writes",
                    param="sources.format",
                    hint="docs/how-to/sources.md says what is read of each system",
                )
            yield page

    def _held(self, one: Exported, taken: set[str]) -> Held | None:
        if find_loader(one.path) is None:
            return None
        path = one.path if one.path not in taken else apart(one.path, one.raw.encode("utf-8", "surrogatepass"))
        taken.add(path)
        data, error = b"", None
        try:
            data = one.content if isinstance(one.content, bytes) else one.content(self._max_bytes)
            if len(data) > self._max_bytes:
                error = TooLarge(f"{path!r} has more than {self._max_bytes} bytes", param=path)
        except TooLarge as problem:
            if problem.param == "sources.path":
                raise
            error = problem
        if error is not None:
            return Held(SourceItem(path, error=error), b"")
        return Held(SourceItem(path, digest_bytes(data), metadata=one.metadata), data)

    async def fetch(self, item: SourceItem) -> bytes:
        """The document."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Nothing is open."""


class _Plugin:
    model = ExportSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Export(cast(ExportSource, source), surroundings.max_bytes)


plugin = _Plugin()
