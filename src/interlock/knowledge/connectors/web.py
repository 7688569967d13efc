"""Pages of one web site: by its sitemap or a list, as robots.txt allows, asked for only when they changed."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal, Self, cast
from urllib.parse import unquote, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import anyio
from pydantic import Field, model_validator

from interlock.core.errors import InterlockError, InvalidInput, LimitExceeded, NotFound, TooLarge, Unavailable
from interlock.knowledge.connectors._http import AGENT, Answer, host_of
from interlock.knowledge.connectors._sites import ApiSource, Url, api_of
from interlock.knowledge.connectors._xml import local, parsed
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, CursorExpired, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["WebSource", "plugin"]

_MOST_SITEMAP = 52_000_000
_MOST_SITEMAPS = 200
_MOST_DELAY_S = 10.0
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/pdf": ".pdf",
}


class WebSource(ApiSource):
    """Pages of one host."""

    kind: Literal["web"] = "web"
    url: Url
    """The site: pages of other hosts are left out"""
    sitemap: Url | None = None
    """Address of the sitemap; without it and without `pages`, robots.txt names it, else `/sitemap.xml`"""
    pages: tuple[Url, ...] = ()
    """Addresses of pages, besides or instead of a sitemap"""
    obey_robots: bool = True
    """Leave out what robots.txt closes; say false for a site of your own only"""
    max_pages: Annotated[int, Field(ge=1, le=50_000)] = 5_000
    """The run fails when the site names more"""
    max_time_s: float = Field(default=3600.0, gt=0, le=86_400)
    """Time for one run over the site, in seconds; what is left is told as a failure of the source"""
    delay_s: float = Field(default=0.0, ge=0, le=60)
    """Pause between two pages, in seconds; robots.txt may ask for more"""

    needs_token: ClassVar[bool] = False

    @model_validator(mode="after")
    def _same_host(self) -> Self:
        for address in (*self.pages, *([self.sitemap] if self.sitemap else [])):
            if host_of(address) != host_of(self.url):
                raise ValueError("pages and sitemap lie on the host of url")
        return self


class _Seen:
    """What is known of a page from the last run: how to ask whether it changed."""

    def __init__(self, cursor: str | None) -> None:
        try:
            found = {} if cursor is None else json.loads(cursor)
            self._tags = {str(path): (str(tag), str(at)) for path, (tag, at) in found.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise CursorExpired("the cursor cannot be read") from error

    def headers(self, path: str) -> dict[str, str]:
        tag, at = self._tags.get(path, ("", ""))
        asked = {"if-none-match": tag, "if-modified-since": at}
        return {name: value for name, value in asked.items() if value}

    def paths(self) -> set[str]:
        return set(self._tags)

    def note(self, path: str, answer: Answer) -> None:
        self._tags[path] = (answer.headers.get("etag", "")[:500], answer.headers.get("last-modified", "")[:100])

    def forget(self, path: str) -> None:
        self._tags.pop(path, None)

    def cursor(self) -> str:
        return json.dumps(self._tags, separators=(",", ":"))


class _Site:
    def __init__(self, source: WebSource, surroundings: Surroundings) -> None:
        self._source = source
        self._max_bytes = surroundings.max_bytes
        self._api = api_of(source, surroundings, f"the site {urlsplit(source.url).hostname!r}")
        self._robots = RobotFileParser()
        self._body: dict[str, bytes] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Each page of the site is asked for, with the tags of the last run when there is a cursor."""
        until = time.monotonic() + self._source.max_time_s
        seen = _Seen(cursor)
        await self._read_robots()
        pages = await self._pages()
        if len(pages) > self._source.max_pages:
            raise InvalidInput(
                f"the site names {len(pages)} pages, more than {self._source.max_pages}",
                param="sources.max_pages",
                hint="raise max_pages, or name fewer by include and exclude",
            )
        gone = seen.paths() - {_path(url) for url in pages}
        for url in pages:
            if time.monotonic() > until:
                raise Unavailable(
                    f"the site took longer than {self._source.max_time_s:g} s",
                    code="source_too_slow",
                    hint="raise max_time_s of the source; what was read stays",
                )
            path = _path(url)
            item = await self._item(url, path, seen)
            if item == "gone":
                gone.add(path)
                seen.forget(path)
            elif item is not None:
                yield SourcePage([item])
            await anyio.sleep(self._pause())
        for path in gone:
            seen.forget(path)
        yield SourcePage(removed=sorted(gone), cursor=seen.cursor(), complete=cursor is None)

    async def _item(self, url: str, path: str, seen: _Seen) -> SourceItem | Literal["gone"] | None:
        """The page when it changed; None when it did not."""
        self._body.clear()
        try:
            answer = await self._api.ask(url, headers=seen.headers(path), most=self._max_bytes, source=path)
            if answer.status == 304:
                return None
            if answer.status in {403, 404, 410}:
                return "gone"
            self._api.must_be_good(answer)
        except (TooLarge, NotFound) as error:
            return SourceItem(path, name_hint=_hint(path, ""), error=error)
        except InvalidInput as error:
            if error.code != "left_the_host":
                raise
            # A page that moved to another site is no page of this one any more.
            return "gone"
        except LimitExceeded:
            raise
        except Unavailable as error:
            if self._is_away(error):
                raise
            failure = InvalidInput(f"the page {path!r} cannot be had: {error.message}", param=path, code="page_failed")
            return SourceItem(path, name_hint=_hint(path, ""), error=failure)
        seen.note(path, answer)
        self._body[path] = answer.body
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        metadata = {"url": url}
        if "last-modified" in answer.headers:
            metadata["last_modified"] = answer.headers["last-modified"][:100]
        return SourceItem(path, metadata=metadata, name_hint=_hint(path, kind))

    def _is_away(self, error: InterlockError) -> bool:
        # "answered 500" is one broken page; no answer at all is a broken site.
        return " answered " not in error.message

    async def _read_robots(self) -> None:
        if not self._source.obey_robots:
            return
        answer = await self._api.ask(urljoin(self._source.url, "/robots.txt"), most=500_000)
        if answer.status in {401, 403}:
            self._robots.parse(["User-agent: *", "Disallow: /"])
        elif answer.status >= 500:
            # Nobody can say what is allowed: RFC 9309 wants everything closed, which must not look like deletion.
            self._api.must_be_good(answer)
        elif answer.status >= 400:
            self._robots.parse([])
        else:
            self._robots.parse(answer.body.decode("utf-8", "replace").splitlines())

    def _pause(self) -> float:
        asked = self._robots.crawl_delay(AGENT) if self._source.obey_robots else None
        return max(self._source.delay_s, min(float(asked or 0), _MOST_DELAY_S))

    async def _pages(self) -> list[str]:
        addresses: dict[str, None] = {}
        for url in [*self._source.pages, *await self._named()]:
            clean = url.partition("#")[0]
            allowed = not self._source.obey_robots or self._robots.can_fetch(AGENT, clean)
            if host_of(clean) == host_of(self._source.url) and allowed:
                addresses[clean] = None
        return list(addresses)

    async def _named(self) -> list[str]:
        """Addresses of all sitemaps."""
        source = self._source
        if source.sitemap is not None:
            waiting = [source.sitemap]
        elif source.pages:
            return []
        else:
            named = [one for one in self._robots.site_maps() or [] if host_of(one) == host_of(source.url)]
            waiting = named or [urljoin(source.url, "/sitemap.xml")]
        found: list[str] = []
        read: set[str] = set()
        while waiting:
            address = waiting.pop()
            if address in read or host_of(address) != host_of(source.url):
                continue
            if len(read) >= _MOST_SITEMAPS:
                raise InvalidInput(f"the site has more than {_MOST_SITEMAPS} sitemaps", param="sources.sitemap")
            read.add(address)
            answer = await self._api.ask(address, most=_MOST_SITEMAP)
            self._api.must_be_good(answer)
            root = parsed(_unpacked(answer.body), "the sitemap")
            if local(root) not in {"sitemapindex", "urlset"}:
                # An error page would be a sitemap without pages, and every document would be deleted.
                raise InvalidInput("what the site gives as its sitemap is none", param="sources.sitemap")
            places = [
                (entry.text or "").strip() for one in root for entry in one if local(entry) == "loc" and entry.text
            ]
            (waiting if local(root) == "sitemapindex" else found).extend(places)
        return found

    async def fetch(self, item: SourceItem) -> bytes:
        """The page, as it was had when it was listed."""
        return self._body[item.source]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


def _path(url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path).strip("/") or "index"
    return f"{path}?{parts.query}" if parts.query else path


def _hint(path: str, kind: str) -> str:
    name = PurePosixPath(path.partition("?")[0]).name
    if kind in _SUFFIXES and not (kind == "text/plain" and find_loader(name)):
        return f"page{_SUFFIXES[kind]}"
    return name if find_loader(name) else "page.html"


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpack = zlib.decompressobj(wbits=31)
    try:
        text = unpack.decompress(data, _MOST_SITEMAP)
    except zlib.error as error:
        raise InvalidInput("the sitemap cannot be unpacked", param="sources.sitemap") from error
    if unpack.unconsumed_tail:
        raise TooLarge(f"the sitemap has more than {_MOST_SITEMAP} bytes", param="sources.sitemap")
    return text


class _Plugin:
    model = WebSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Site(cast(WebSource, source), surroundings)


plugin = _Plugin()
