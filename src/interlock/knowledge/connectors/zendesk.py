"""Zendesk: articles of the help centre, or tickets with their comments."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from interlock.core.errors import Unavailable
from interlock.knowledge.connectors._http import served_at
from interlock.knowledge.connectors._markdown import document, path_part, plain
from interlock.knowledge.connectors._shelf import Fetch, Held, Shelf, facts, listed, moment, named, words
from interlock.knowledge.connectors._sites import ApiSource, api_of
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["ZendeskSource", "plugin"]


class ZendeskSource(ApiSource):
    """Articles or tickets. Names for `readers_map`: `everyone`, `segment:ID` of an article, `group:ID` of a ticket."""

    kind: Literal["zendesk"] = "zendesk"
    take: Literal["articles", "tickets"] = "articles"
    """Articles of the help centre, or tickets"""
    internal: bool = False
    """Take internal notes of tickets too"""
    attachments: bool = True
    """Take attached files as documents of their own"""
    page_size: int = Field(default=100, ge=1, le=100)
    """Things a page of the listing"""

    states_readers: ClassVar[bool] = True

    def place(self) -> str:
        """Address and what is taken."""
        return f"{self.url}: {self.take}"


class _Zendesk:
    def __init__(self, source: ZendeskSource, surroundings: Surroundings) -> None:
        self._source = source
        self._api = api_of(source, surroundings, "Zendesk")
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Articles: always all, as neither deletion nor a new audience shows in a list of changes. Tickets: by the
        cursor of the incremental export, which names deleted ones.
        """
        pages = self._articles() if self._source.take == "articles" else self._tickets(cursor)
        async for page in pages:
            yield page

    async def _articles(self) -> AsyncIterator[SourcePage]:
        path: str | None = "api/v2/help_center/articles.json"
        params: dict[str, str | int] = {"page[size]": self._source.page_size, "sort_by": "created_at"}
        params["sort_order"] = "asc"
        while path is not None:
            found, _ = await self._api.json(path, params)
            articles = self._list(found, "articles")
            held = [one for article in articles if not article.get("draft") for one in await self._article(article)]
            more = named(found, "meta").get("has_more") is True
            path, params = (words(found, "links", "next") or None) if more else None, {}
            yield SourcePage(self._shelf.put(held), complete=path is None)

    async def _article(self, one: dict[str, Any]) -> list[Held]:
        identity, title = path_part(words(one, "id")), words(one, "title")
        segment = words(one, "user_segment_id")
        # A missing field is no statement: only an explicit null makes an article everyone's.
        open_to_all = "user_segment_id" in one and one["user_segment_id"] is None
        readers = self._source.readers_for(["everyone"] if open_to_all else [f"segment:{segment}"])
        metadata = facts(url=words(one, "html_url"), updated=words(one, "updated_at"))
        head = f"<head><meta charset='utf-8'><title>{html.escape(title)}</title></head>"
        text = f"<html>{head}<body><main><h1>{html.escape(title)}</h1>{words(one, 'body')}</main></body></html>"
        path = f"articles/{identity}.html"
        held = [Held(SourceItem(path, words(one, "updated_at"), readers, metadata), text.encode())]
        if self._source.attachments:
            found, _ = await self._api.json(f"api/v2/help_center/articles/{identity}/attachments.json")
            held += self._files(self._list(found, "article_attachments"), f"articles/{identity}", readers, metadata)
        return held

    async def _tickets(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        params: dict[str, str | int] = {"per_page": self._source.page_size}
        params |= {"start_time": 1} if cursor is None else {"cursor": cursor}
        while True:
            found, answer = await self._api.json("api/v2/incremental/tickets/cursor.json", params)
            tickets = self._list(found, "tickets")
            after = words(found, "after_cursor") or cursor or moment(served_at(answer))
            last = found.get("end_of_stream") is not False
            live = [ticket for ticket in tickets if words(ticket, "status") != "deleted"]
            gone = [f"tickets/{path_part(words(one, 'id'))}.md" for one in tickets if one not in live]
            held = [one for ticket in live for one in await self._ticket(ticket)]
            yield SourcePage(
                self._shelf.put(held),
                gone,
                cursor=after if last or cursor is not None else None,
                complete=last and cursor is None,
            )
            if last:
                return
            params = {"per_page": self._source.page_size, "cursor": after}

    async def _ticket(self, one: dict[str, Any]) -> list[Held]:
        identity = path_part(words(one, "id"))
        comments: list[dict[str, Any]] = []
        path: str | None = f"api/v2/tickets/{identity}/comments.json"
        params: dict[str, str | int] = {"page[size]": 100}
        while path is not None:
            found, _ = await self._api.json(path, params)
            comments += self._list(found, "comments")
            more = named(found, "meta").get("has_more") is True
            path, params = (words(found, "links", "next") or None) if more else None, {}
        if not self._source.internal:
            comments = [comment for comment in comments if comment.get("public") is True]
        readers = self._source.readers_for([f"group:{words(one, 'group_id')}"])
        metadata = facts(status=words(one, "status"), updated=words(one, "updated_at"))
        said = [("", plain(words(comment, "plain_body") or words(comment, "body"))) for comment in comments]
        data = document(f"Ticket {words(one, 'id')}: {words(one, 'subject')}", "", said)
        item = SourceItem(f"tickets/{identity}.md", words(one, "updated_at"), readers, metadata)
        files = [file for comment in comments for file in listed(comment.get("attachments"))]
        attached = self._files(files, f"tickets/{identity}", readers, metadata) if self._source.attachments else []
        return [Held(item, data), *attached]

    def _files(
        self, files: list[dict[str, Any]], folder: str, readers: frozenset[str] | None, metadata: dict[str, str]
    ) -> list[Held]:
        held = []
        for file in files:
            name = words(file, "file_name")
            if find_loader(name) is None:
                continue
            path = f"{folder}/{path_part(words(file, 'id'))}-{path_part(name)}"
            item = SourceItem(path, f"{words(file, 'id')}-{words(file, 'size')}", readers, metadata, name)
            held.append(Held(item, self._download(words(file, "content_url"), path)))
        return held

    def _download(self, url: str, path: str) -> Fetch:
        async def content() -> bytes:
            return await self._api.download(url, source=path)

        return content

    # Any: a foreign answer.
    def _list(self, found: Any, name: str) -> list[dict[str, Any]]:
        if not isinstance(found, dict) or not isinstance(found.get(name), list):
            raise Unavailable(f"Zendesk sent no list of {name}", code="source_unreachable")
        return listed(found[name])

    async def fetch(self, item: SourceItem) -> bytes:
        """The article, the ticket with its comments, or the file."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


class _Plugin:
    model = ZendeskSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Zendesk(cast(ZendeskSource, source), surroundings)


plugin = _Plugin()
