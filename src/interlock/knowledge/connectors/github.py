"""Issues, pull requests and discussions of a GitHub repository. For its files there is the kind `git`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, cast

from pydantic import Field

from interlock.core.errors import Unavailable
from interlock.knowledge.connectors._http import next_link, served_at
from interlock.knowledge.connectors._markdown import document
from interlock.knowledge.connectors._shelf import Held, Shelf, facts, listed, moment, named, since, words
from interlock.knowledge.connectors._sites import ApiSource, Url, api_of
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["GitHubSource", "plugin"]

_HEADERS = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
_DISCUSSIONS = """query($owner: String!, $name: String!, $after: String, $size: Int!) {
  repository(owner: $owner, name: $name) {
    discussions(first: $size, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) {
      pageInfo { hasNextPage endCursor }
      nodes {
        id number title body url updatedAt author { login } category { name }
        comments(first: 50) { ...Comments }
      }
    }
  }
}
"""
_COMMENTS = """query($id: ID!, $after: String) {
  node(id: $id) { ... on Discussion { comments(first: 100, after: $after) { ...Comments } } }
}
"""
_REPLIES = """query($id: ID!, $after: String) {
  node(id: $id) { ... on DiscussionComment { replies(first: 100, after: $after) { ...Replies } } }
}
"""
_PARTS = """fragment Replies on DiscussionCommentConnection {
  pageInfo { hasNextPage endCursor } nodes { body author { login } }
}
"""
_NESTED = """fragment Comments on DiscussionCommentConnection {
  pageInfo { hasNextPage endCursor } nodes { id body author { login } replies(first: 20) { ...Replies } }
}
"""
_MOST_COMMENTS = 10_000
"""Of one discussion, replies counted; the rest stays unread."""


class GitHubSource(ApiSource):
    """What is talked about in one repository."""

    kind: Literal["github"] = "github"
    url: Url = "https://api.github.com"
    """Address of the REST API; of GitHub Enterprise it ends with `/api/v3`"""
    repo: str = Field(pattern=r"^[A-Za-z0-9-]{1,100}/[A-Za-z0-9._-]{1,200}$")
    """`owner/name`"""
    take: tuple[Literal["issues", "pulls", "discussions"], ...] = Field(default=("issues", "pulls"), min_length=1)
    """What is taken: issues, pulls, discussions"""
    page_size: int = Field(default=100, ge=1, le=100)
    """Things a page of the listing"""

    def place(self) -> str:
        """API, repository and what is taken of it."""
        return f"{self.url}/{self.repo}: {', '.join(sorted(self.take))}"


class _GitHub:
    def __init__(self, source: GitHubSource, surroundings: Surroundings) -> None:
        self._source = source
        self._api = api_of(source, surroundings, f"GitHub for {source.repo!r}")
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Everything, or what was updated since the cursor's moment. Deletions show in full listings only."""
        # The moment before the first page: what changes while pages are read comes again.
        begun = served_at(await self._checked())
        if {"issues", "pulls"} & set(self._source.take):
            async for page in self._issues(cursor):
                yield page
        if "discussions" in self._source.take:
            async for page in self._discussions(cursor):
                yield page
        yield SourcePage(cursor=moment(begun), complete=cursor is None)

    async def _checked(self) -> Any:
        _, answer = await self._api.json(f"repos/{self._source.repo}", headers=_HEADERS)
        return answer

    async def _issues(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        params: dict[str, str | int] = {"state": "all", "per_page": self._source.page_size, "direction": "asc"}
        # By creation no issue changes its place while pages are read.
        params["sort"] = "created"
        if cursor is not None:
            params["since"] = since(cursor).strftime("%Y-%m-%dT%H:%M:%SZ")
        path: str | None = f"repos/{self._source.repo}/issues"
        while path is not None:
            found, answer = await self._api.json(path, params, headers=_HEADERS)
            if not isinstance(found, list):
                raise Unavailable("GitHub sent no list of issues", code="source_unreachable")
            yield SourcePage(self._shelf.put([held for one in listed(found) if (held := self._issue(one))]))
            path, params = next_link(answer.headers), {}

    def _issue(self, one: dict[str, Any]) -> Held | None:
        kind: Literal["issues", "pulls"] = "pulls" if "pull_request" in one else "issues"
        if kind not in self._source.take:
            return None
        number = words(one, "number")
        metadata = facts(
            url=words(one, "html_url"),
            author=words(one, "user", "login"),
            state=words(one, "state"),
            labels=", ".join(words(label, "name") for label in listed(one.get("labels"))),
            updated=words(one, "updated_at"),
        )

        async def content() -> bytes:
            comments: list[tuple[str, str]] = []
            path: str | None = f"repos/{self._source.repo}/issues/{number}/comments"
            params: dict[str, str | int] = {"per_page": 100}
            while path is not None and words(one, "comments") not in {"", "0"}:
                found, answer = await self._api.json(path, params, headers=_HEADERS)
                comments += [(words(comment, "user", "login"), words(comment, "body")) for comment in listed(found)]
                path, params = next_link(answer.headers), {}
            return document(words(one, "title"), words(one, "body"), comments)

        return Held(SourceItem(f"{kind}/{number}.md", words(one, "updated_at"), None, metadata), content)

    async def _discussions(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        owner, _, name = self._source.repo.partition("/")
        after: str | None = None
        oldest = "" if cursor is None else since(cursor).strftime("%Y-%m-%dT%H:%M:%SZ")
        while True:
            size = min(self._source.page_size, 50)
            asked = {"owner": owner, "name": name, "after": after, "size": size}
            found = await self._graph(_DISCUSSIONS + _NESTED + _PARTS, asked)
            page = named(found, "repository", "discussions")
            if not page:
                raise Unavailable("GitHub gives no discussions of this repository", code="source_unreachable")
            fresh = [one for one in listed(page.get("nodes")) if words(one, "updatedAt") >= oldest]
            yield SourcePage(self._shelf.put([self._discussion(one) for one in fresh]))
            if len(fresh) < len(listed(page.get("nodes"))) or not named(page, "pageInfo").get("hasNextPage"):
                return
            after = words(page, "pageInfo", "endCursor")

    async def _graph(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        base = self._source.url.rstrip("/")
        # Of GitHub Enterprise it lies beside the REST API, not below it.
        path = base.removesuffix("/api/v3") + "/api/graphql" if base.endswith("/api/v3") else base + "/graphql"
        body = {"query": query, "variables": variables}
        found, _ = await self._api.json(path, method="POST", body=body, headers=_HEADERS)
        return named(found, "data")

    def _discussion(self, one: dict[str, Any]) -> Held:
        metadata = facts(
            url=words(one, "url"),
            author=words(one, "author", "login"),
            category=words(one, "category", "name"),
            updated=words(one, "updatedAt"),
        )

        async def content() -> bytes:
            said: list[tuple[str, str]] = []
            async for comment in self._rest(_COMMENTS + _NESTED + _PARTS, words(one, "id"), "comments", one):
                said.append((words(comment, "author", "login"), words(comment, "body")))
                async for reply in self._rest(_REPLIES + _PARTS, words(comment, "id"), "replies", comment):
                    said.append((words(reply, "author", "login"), words(reply, "body")))
                if len(said) >= _MOST_COMMENTS:
                    break
            return document(words(one, "title"), words(one, "body"), said)

        path = f"discussions/{words(one, 'number')}.md"
        return Held(SourceItem(path, words(one, "updatedAt"), None, metadata), content)

    async def _rest(
        self, query: str, identity: str, name: str, holder: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """What a thing has of `name`: the first page came with it, the others are asked for."""
        page, count = named(holder, name), 0
        while True:
            for one in listed(page.get("nodes")):
                yield one
                count += 1
            after = words(page, "pageInfo", "endCursor")
            if named(page, "pageInfo").get("hasNextPage") is not True or not after or count >= _MOST_COMMENTS:
                return
            page = named(await self._graph(query, {"id": identity, "after": after}), "node", name)
            if not page:
                raise Unavailable("GitHub gives the rest of a discussion no more", code="source_unreachable")

    async def fetch(self, item: SourceItem) -> bytes:
        """The thing with its comments."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


class _Plugin:
    model = GitHubSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _GitHub(cast(GitHubSource, source), surroundings)


plugin = _Plugin()
