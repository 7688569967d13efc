"""Pages of a Confluence space, Cloud or Data Center, with attachments and the restrictions of pages."""

from __future__ import annotations

import html
import math
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field

from interlock.core.errors import Unavailable
from interlock.knowledge.connectors._http import served_at
from interlock.knowledge.connectors._markdown import path_part
from interlock.knowledge.connectors._shelf import Fetch, Held, Shelf, facts, listed, moment, named, since, words
from interlock.knowledge.connectors._sites import ApiSource, api_of
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["ConfluenceSource", "plugin"]

_RESTRICTIONS = "restrictions.read.restrictions.user,restrictions.read.restrictions.group"


class ConfluenceSource(ApiSource):
    """Pages of one space. Names for `readers_map`: `space:KEY`, and of restricted pages `group:NAME`, `user:ID`.

    A restricted page is read by those whom its own restrictions and those of every page above it name. Restrictions do
    not change a page's version, so with `readers_from: source` every run lists all pages.
    """

    kind: Literal["confluence"] = "confluence"
    space: str = Field(pattern=r"^[A-Za-z0-9~._-]{1,255}$")
    """Key of the space. The address of Confluence Cloud ends with `/wiki`"""
    attachments: bool = True
    """Take attached files as documents of their own"""
    page_size: int = Field(default=50, ge=1, le=100)
    """Pages a page of the listing"""

    states_readers: ClassVar[bool] = True

    def place(self) -> str:
        """Address and space."""
        return f"{self.url}: {self.space}"


class _Confluence:
    def __init__(self, source: ConfluenceSource, surroundings: Surroundings) -> None:
        self._source = source
        self._api = api_of(source, surroundings, f"Confluence for the space {source.space!r}")
        self._shelf = Shelf()
        self._asks_readers = source.readers_from == "source"
        self._named: dict[str, frozenset[str] | None] = {}
        """Names that the restrictions of a page give by its id; None for a page without restrictions."""
        self._readers: dict[str, frozenset[str] | None] = {}
        """Readers of pages of this listing, for their attachments."""

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Everything, or what was modified since the cursor's moment. Deletions show in full listings only."""
        _, first = await self._api.json("rest/api/space/" + path_part(self._source.space))
        begun = served_at(first)
        kinds = ["page", "attachment"] if self._source.attachments else ["page"]
        for kind in kinds:
            async for held in self._search(kind, cursor, begun):
                yield SourcePage(self._shelf.put(held))
        # Restrictions change without a trace in the search: with them every listing is a full one.
        yield SourcePage(cursor=None if self._asks_readers else moment(begun), complete=cursor is None)

    async def _search(self, kind: str, cursor: str | None, at: datetime) -> AsyncIterator[list[Held]]:
        cql = f'space = "{self._source.space}" AND type = {kind}'
        if cursor is not None:
            # Whole days in the time zone of whoever asks: what Cloud and Data Center both understand.
            days = max(1, math.ceil((at - since(cursor)) / timedelta(days=1)))
            cql += f' AND lastmodified >= startOfDay("-{days}d")'
        expand = "version,ancestors," + _RESTRICTIONS if kind == "page" else "version,container,extensions"
        params: dict[str, str | int] = {
            "cql": cql + " ORDER BY created ASC",
            "expand": expand,
            "limit": self._source.page_size,
        }
        path: str | None = "rest/api/content/search"
        while path is not None:
            found, _ = await self._api.json(path, params)
            if not isinstance(found, dict) or not isinstance(found.get("results"), list):
                raise Unavailable("Confluence sent no list of pages", code="source_unreachable")
            make = self._page if kind == "page" else self._attachment
            yield [held for one in listed(found["results"]) if (held := await make(one)) is not None]
            following = words(found, "_links", "next")
            # The link is relative to the address with its context path, wherever that is.
            path, params = (self._below(following) if following else None), {}

    async def _page(self, one: dict[str, Any]) -> Held | None:
        identity, title = words(one, "id"), words(one, "title")
        readers = await self._readers_of(one) if self._asks_readers else None
        self._readers[identity] = readers
        metadata = facts(url=self._web(one), updated=words(one, "version", "when"))
        path = f"{path_part(self._source.space)}/{path_part(identity)}.html"

        async def content() -> bytes:
            found, _ = await self._api.json(f"rest/api/content/{path_part(identity)}", {"expand": "body.export_view"})
            body = words(found, "body", "export_view", "value")
            head = f"<head><meta charset='utf-8'><title>{html.escape(title)}</title></head>"
            return f"<html>{head}<body><main><h1>{html.escape(title)}</h1>{body}</main></body></html>".encode()

        return Held(SourceItem(path, words(one, "version", "number"), readers, metadata), content)

    async def _attachment(self, one: dict[str, Any]) -> Held | None:
        name, page = words(one, "title"), words(one, "container", "id")
        if not page or find_loader(name) is None:
            return None
        if self._asks_readers and page not in self._readers:
            # Of a draft or a page in the bin: nobody's.
            return None
        identity = words(one, "id")
        path = f"{path_part(self._source.space)}/{path_part(page)}/{path_part(identity)}-{path_part(name)}"
        metadata = facts(url=self._web(one), updated=words(one, "version", "when"))
        item = SourceItem(path, words(one, "version", "number"), self._readers.get(page), metadata, name)
        return Held(item, self._download(words(one, "_links", "download"), path))

    def _download(self, link: str, path: str) -> Fetch:
        async def content() -> bytes:
            return await self._api.download(self._below(link), source=path)

        return content

    async def _readers_of(self, one: dict[str, Any]) -> frozenset[str]:
        """Readers of a page: those of the space, or whom every restriction above it names."""
        groups = [self._restriction(named(one, "restrictions", "read"))]
        for above in listed(one.get("ancestors")):
            identity = words(above, "id")
            if identity not in self._named:
                path = f"rest/api/content/{path_part(identity)}/restriction/byOperation/read"
                found, _ = await self._api.json(path, {"expand": "restrictions.user,restrictions.group"})
                self._named[identity] = self._restriction(found)
            groups.append(self._named[identity])
        allowed = self._source.readers_for([f"space:{self._source.space}"]) or frozenset()
        restricted = [group for group in groups if group is not None]
        if not restricted:
            return allowed
        readers = [self._source.readers_for(group) or frozenset() for group in restricted]
        return frozenset.intersection(*readers)

    def _restriction(self, read: object) -> frozenset[str] | None:
        found = named(read, "restrictions")
        if not {"user", "group"} <= set(found):
            # An answer without the list says nothing about who may read: nobody.
            return frozenset()
        users = listed(named(found, "user").get("results"))
        groups = listed(named(found, "group").get("results"))
        names = {f"user:{words(user, 'accountId') or words(user, 'username')}" for user in users}
        names |= {f"group:{words(group, 'name')}" for group in groups}
        return frozenset(names) or None

    def _below(self, link: str) -> str:
        """A link of an answer as a path below the source's address, with or without its context path in front."""
        context = urlsplit(self._source.url).path.rstrip("/") + "/"
        return link.removeprefix(context).lstrip("/")

    def _web(self, one: dict[str, Any]) -> str:
        link = words(one, "_links", "webui")
        return self._source.url.rstrip("/") + link if link.startswith("/") else ""

    async def fetch(self, item: SourceItem) -> bytes:
        """The page as HTML, or the file."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


class _Plugin:
    model = ConfluenceSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Confluence(cast(ConfluenceSource, source), surroundings)


plugin = _Plugin()
