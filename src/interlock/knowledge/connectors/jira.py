"""Issues of Jira, Cloud or Data Center, with comments and attachments."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from interlock.core.errors import Unavailable
from interlock.knowledge.connectors._http import served_at
from interlock.knowledge.connectors._markdown import document, path_part, plain
from interlock.knowledge.connectors._shelf import Held, Shelf, facts, listed, moment, named, since, words
from interlock.knowledge.connectors._sites import ApiSource, api_of
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["JiraSource", "plugin"]

_FIELDS = ("summary", "description", "status", "issuetype", "updated", "project", "security", "comment", "attachment")


class JiraSource(ApiSource):
    """Issues that a JQL query finds. Names for `readers_map`: `project:KEY`, or `level:NAME` of a secured issue."""

    kind: Literal["jira"] = "jira"
    api: Literal["cloud", "server"] = "cloud"
    """Jira Cloud, or Data Center"""
    jql: str = Field(min_length=1, max_length=5_000)
    """Which issues, without ORDER BY: `project = HELP`"""
    internal: bool = False
    """Take comments too that Jira shows to a role or group alone, and internal ones of service desks"""
    attachments: bool = True
    """Take attached files as documents of their own"""
    page_size: int = Field(default=100, ge=1, le=100)
    """Issues a page of the listing"""

    states_readers: ClassVar[bool] = True

    def place(self) -> str:
        """Address and query."""
        return f"{self.url}: {self.jql}"


class _Jira:
    def __init__(self, source: JiraSource, surroundings: Surroundings) -> None:
        self._source = source
        self._api = api_of(source, surroundings, "Jira")
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Everything, or what was updated since the cursor's moment. Deletions show in full listings only."""
        begun: datetime | None = None
        following: str | int | None = None
        jql = ""
        while True:
            if begun is None:
                _, first = await self._api.json("rest/api/2/serverInfo")
                begun = served_at(first)
                jql = self._query(cursor, begun)
            found = await self._search(jql, following)
            issues = listed(found.get("issues"))
            held = [one for issue in issues for one in self._held(issue)]
            following = self._next(found, len(issues), following)
            last = following is None
            yield SourcePage(
                self._shelf.put(held),
                cursor=moment(begun) if last else None,
                complete=last and cursor is None,
            )
            if last:
                return

    def _query(self, cursor: str | None, at: datetime) -> str:
        jql = f"({self._source.jql})"
        if cursor is not None:
            # Relative, as times in JQL are in the time zone of whoever asks, and whole minutes.
            minutes = max(1, math.ceil((at - since(cursor)).total_seconds() / 60) + 1)
            jql += f' AND updated >= "-{minutes}m"'
        return jql + " ORDER BY created ASC, key ASC"

    async def _search(self, jql: str, following: str | int | None) -> dict[str, Any]:
        if self._source.api == "cloud":
            body: dict[str, object] = {"jql": jql, "fields": list(_FIELDS), "maxResults": self._source.page_size}
            if following is not None:
                body["nextPageToken"] = following
            found, _ = await self._api.json("rest/api/2/search/jql", method="POST", body=body)
        else:
            body = {
                "jql": jql,
                "fields": list(_FIELDS),
                "maxResults": self._source.page_size,
                "startAt": following or 0,
            }
            found, _ = await self._api.json("rest/api/2/search", method="POST", body=body)
        if not isinstance(found, dict) or not isinstance(found.get("issues"), list):
            raise Unavailable("Jira sent no list of issues", code="source_unreachable")
        return found

    def _next(self, found: dict[str, Any], count: int, before: str | int | None) -> str | int | None:
        if self._source.api == "cloud":
            return words(found, "nextPageToken") or None
        start = int(before or 0) + count
        return start if count and start < int(words(found, "total") or 0) else None

    def _held(self, issue: dict[str, Any]) -> list[Held]:
        fields, key = named(issue, "fields"), words(issue, "key")
        project = words(fields, "project", "key") or key.rpartition("-")[0]
        level = words(fields, "security", "name")
        readers = self._source.readers_for([f"level:{level}" if level else f"project:{project}"])
        metadata = facts(
            url=f"{self._source.url.rstrip('/')}/browse/{key}",
            status=words(fields, "status", "name"),
            type=words(fields, "issuetype", "name"),
            updated=words(fields, "updated"),
        )
        folder = f"{path_part(project)}/{path_part(key)}"

        async def content() -> bytes:
            comments = listed(named(fields, "comment").get("comments"))
            total = int(words(fields, "comment", "total") or 0)
            if total > len(comments):
                comments = await self._comments(key)
            if not self._source.internal:
                comments = [one for one in comments if _is_for_all(one)]
            said = [(words(one, "author", "displayName"), plain(words(one, "body"))) for one in comments]
            return document(f"{key}: {words(fields, 'summary')}", plain(words(fields, "description")), said)

        held = [Held(SourceItem(f"{folder}.md", words(fields, "updated"), readers, metadata), content)]
        for file in listed(fields.get("attachment")) if self._source.attachments else []:
            name = words(file, "filename")
            if not name or find_loader(name) is None:
                continue
            path = f"{folder}/{words(file, 'id')}-{path_part(name)}"
            item = SourceItem(path, f"{words(file, 'id')}-{words(file, 'size')}", readers, metadata, name)
            held.append(Held(item, self._download(words(file, "content"), path)))
        return held

    def _download(self, url: str, path: str) -> Any:
        async def content() -> bytes:
            return await self._api.download(url, source=path)

        return content

    async def _comments(self, key: str) -> list[dict[str, Any]]:
        comments: list[dict[str, Any]] = []
        while True:
            path = f"rest/api/2/issue/{path_part(key)}/comment"
            found, _ = await self._api.json(path, {"startAt": len(comments), "maxResults": 100})
            page = listed(named(found).get("comments"))
            comments += page
            if not page or len(comments) >= int(words(found, "total") or 0):
                return comments

    async def fetch(self, item: SourceItem) -> bytes:
        """The issue with its comments, or the file."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


def _is_for_all(comment: dict[str, Any]) -> bool:
    """Whether whoever may see the issue may read a comment of it."""
    return not comment.get("visibility") and comment.get("jsdPublic") is not False


class _Plugin:
    model = JiraSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Jira(cast(JiraSource, source), surroundings)


plugin = _Plugin()
