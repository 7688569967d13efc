"""Pages of a Notion workspace that were shared with an integration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

from pydantic import Field

from interlock.core.errors import Unavailable
from interlock.knowledge.connectors._http import served_at
from interlock.knowledge.connectors._markdown import document, path_part
from interlock.knowledge.connectors._notion_values import properties, shown, unmarked
from interlock.knowledge.connectors._shelf import Fetch, Held, Shelf, facts, listed, moment, named, since, words
from interlock.knowledge.connectors._sites import ApiSource, Url, api_of
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["NotionSource", "plugin"]

_VERSION = {"notion-version": "2022-06-28"}
_DEPTH = 5
_MOST_BLOCKS = 5_000
_MARKS = {
    "heading_1": "# ",
    "heading_2": "## ",
    "heading_3": "### ",
    "bulleted_list_item": "- ",
    "numbered_list_item": "1. ",
    "to_do": "- ",
    "quote": "> ",
    "toggle": "- ",
}
_FILES = frozenset({"file", "pdf", "image", "audio", "video"})


class NotionSource(ApiSource):
    """Pages that the integration of the token sees."""

    kind: Literal["notion"] = "notion"
    url: Url = "https://api.notion.com"
    """Address of the API"""
    attachments: bool = False
    """Take files in pages as documents of their own; every listing then reads the pages it lists"""
    page_size: int = Field(default=100, ge=1, le=100)
    """Pages a page of the listing"""

    def place(self) -> str:
        """Address and integration."""
        return f"{self.url}: {self.token_env}"


class _Notion:
    def __init__(self, source: NotionSource, surroundings: Surroundings) -> None:
        self._source = source
        self._api = api_of(source, surroundings, "Notion")
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Everything, or what was edited since the cursor's moment: the newest come first, up to that moment."""
        _, first = await self._api.json("v1/users/me", headers=_VERSION)
        begun = served_at(first)
        oldest = "" if cursor is None else since(cursor).strftime("%Y-%m-%dT%H:%M")
        start: str | None = None
        while True:
            order = {"timestamp": "last_edited_time", "direction": "ascending" if cursor is None else "descending"}
            body: dict[str, object] = {
                "filter": {"property": "object", "value": "page"},
                "sort": order,
                "page_size": self._source.page_size,
            }
            if start is not None:
                body["start_cursor"] = start
            found, _ = await self._api.json("v1/search", method="POST", body=body, headers=_VERSION)
            if not isinstance(found, dict) or not isinstance(found.get("results"), list):
                raise Unavailable("Notion sent no list of pages", code="source_unreachable")
            # Its times of editing are whole minutes.
            pages = [one for one in listed(found["results"]) if words(one, "last_edited_time")[:16] >= oldest]
            gone = [one for one in pages if one.get("archived") is True or one.get("in_trash") is True]
            held = [held for one in pages if one not in gone for held in await self._held(one)]
            start = words(found, "next_cursor") or None
            last = start is None or len(pages) < len(found["results"])
            yield SourcePage(
                self._shelf.put(held),
                [_path(one) for one in gone],
                cursor=moment(begun) if last else None,
                complete=last and cursor is None,
                # Somebody put them into the bin.
                certain=cursor is not None,
            )
            if last:
                return

    async def _held(self, one: dict[str, Any]) -> list[Held]:
        edited = words(one, "last_edited_time")
        metadata = facts(url=words(one, "url"), updated=edited)
        item = SourceItem(_path(one), edited, None, metadata)
        if not self._source.attachments:

            async def content() -> bytes:
                return document(_title(one), await self._text(one, []))

            return [Held(item, content)]
        files: list[dict[str, Any]] = []
        data = document(_title(one), await self._text(one, files))
        return [Held(item, data), *(held for file in files if (held := self._file(words(one, "id"), file, metadata)))]

    def _file(self, page: str, block: dict[str, Any], metadata: dict[str, str]) -> Held | None:
        file = named(block, words(block, "type"))
        # Files at other places are links, not attachments.
        url = words(file, "file", "url")
        name = words(file, "name") or unquote(urlsplit(url).path.rpartition("/")[2])
        if not url or find_loader(name) is None:
            return None
        path = f"{path_part(page)}/{path_part(words(block, 'id'))}-{path_part(name)}"
        item = SourceItem(path, words(block, "last_edited_time"), None, metadata, name)
        return Held(item, self._download(url, path))

    def _download(self, url: str, path: str) -> Fetch:
        async def content() -> bytes:
            return await self._api.download(url, source=path)

        return content

    async def _text(self, one: dict[str, Any], files: list[dict[str, Any]]) -> str:
        lines = ["\n".join(properties(named(one, "properties")))]
        await self._read(words(one, "id"), lines, files, 0)
        return "\n\n".join(line for line in lines if line.strip())

    async def _read(self, identity: str, lines: list[str], files: list[dict[str, Any]], depth: int) -> None:
        start: str | None = None
        while True:
            params: dict[str, str | int] = {"page_size": 100, **({"start_cursor": start} if start else {})}
            found, _ = await self._api.json(f"v1/blocks/{path_part(identity)}/children", params, headers=_VERSION)
            for block in listed(named(found).get("results")):
                kind = words(block, "type")
                if kind in _FILES:
                    files.append(block)
                if kind == "table":
                    lines.append(await self._table(block))
                    continue
                lines.append(("  " * depth if depth and kind.endswith("_item") else "") + _line(block, kind))
                # A child page is a document of its own.
                below = block.get("has_children") is True and kind not in {"child_page", "child_database"}
                if below and depth < _DEPTH and len(lines) < _MOST_BLOCKS:
                    await self._read(words(block, "id"), lines, files, depth + 1)
            start = words(found, "next_cursor") or None
            if start is None or len(lines) >= _MOST_BLOCKS:
                return

    async def _table(self, block: dict[str, Any]) -> str:
        """Its rows as a table of Markdown, the first as the names of the columns where Notion shows it so."""
        rows: list[str] = []
        start: str | None = None
        path = f"v1/blocks/{path_part(words(block, 'id'))}/children"
        while True:
            params: dict[str, str | int] = {"page_size": 100, **({"start_cursor": start} if start else {})}
            found, _ = await self._api.json(path, params, headers=_VERSION)
            for row in listed(named(found).get("results")):
                cells = named(row, "table_row").get("cells")
                rows.append("| " + " | ".join(_cell(cell) for cell in cells or ()) + " |")
            start = words(found, "next_cursor") or None
            if start is None or len(rows) >= _MOST_BLOCKS:
                break
        if not rows:
            return ""
        width = rows[0].count(" | ") + 1
        rule = "|" + " --- |" * width
        if named(block, "table").get("has_column_header") is True:
            return "\n".join([rows[0], rule, *rows[1:]])
        return "\n".join(["|" + "  |" * width, rule, *rows])

    async def fetch(self, item: SourceItem) -> bytes:
        """The page as Markdown, or the file."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


def _path(one: dict[str, Any]) -> str:
    return f"{path_part(words(one, 'id'))}.md"


def _title(one: dict[str, Any]) -> str:
    for value in named(one, "properties").values():
        if isinstance(value, dict) and value.get("type") == "title":
            return unmarked(value.get("title"))
    return words(one, "id")


def _cell(rich: object) -> str:
    return " ".join(shown(rich).replace("|", "\\|").split())


def _line(block: dict[str, Any], kind: str) -> str:
    value = named(block, kind)
    if kind == "code":
        return f"```{words(value, 'language')}\n{unmarked(value.get('rich_text'))}\n```"
    if kind == "equation":
        return words(value, "expression")
    return _MARKS.get(kind, "") + shown(value.get("rich_text") or value.get("caption"))


class _Plugin:
    model = NotionSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Notion(cast(NotionSource, source), surroundings)


plugin = _Plugin()
