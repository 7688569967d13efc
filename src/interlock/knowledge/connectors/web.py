"""Pages of one web site: by its sitemap or a list, as robots.txt allows, asked for only when they changed."""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, cast
from urllib.parse import unquote, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import anyio
from pydantic import Field, model_validator

from interlock.core.errors import InterlockError, InvalidInput, LimitExceeded, NotFound, TooLarge, Unavailable
from interlock.knowledge.connectors._http import AGENT, checked_url, host_of, straight
from interlock.knowledge.connectors._naming import apart
from interlock.knowledge.connectors._sites import ApiSource, Url, api_of
from interlock.knowledge.connectors._xml import local, parsed
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, CursorExpired, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["WebSource", "plugin"]

_MOST_SITEMAP = 52_000_000
_MOST_SITEMAPS = 200
_MOST_DELAY_S = 10.0
_OF_ONE_PAGE = frozenset({"left_the_host", "too_many_redirects", "closed_by_robots", "page_refused", "no_address"})
"""Codes of what is wrong with one page, and says nothing about the others."""
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


class _Noted(NamedTuple):
    """What the last run knew of one address of the site."""

    tag: str
    at: str
    path: str
    """Of the document: after redirects."""


class _Seen:
    """What is known from the last run: how to ask whether a page changed, and which documents there are."""

    def __init__(self, cursor: str | None) -> None:
        try:
            found = {} if cursor is None else json.loads(cursor)
            # Two values are those of a version whose documents had the paths of their addresses.
            self._pages = {
                str(path): _Noted(str(tag), str(at), str(final[0]) if final else str(path))
                for path, (tag, at, *final) in found.items()
            }
        except (ValueError, TypeError, AttributeError) as error:
            raise CursorExpired("the cursor cannot be read") from error

    def headers(self, key: str) -> dict[str, str]:
        known = self._pages.get(key, _Noted("", "", ""))
        asked = {"if-none-match": known.tag, "if-modified-since": known.at}
        return {name: value for name, value in asked.items() if value}

    def documents(self) -> set[str]:
        return {known.path for known in self._pages.values()}

    def path(self, key: str) -> str | None:
        known = self._pages.get(key)
        return known.path if known else None

    def note(self, key: str, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self._pages[key] = _Noted(headers.get("etag", "")[:500], headers.get("last-modified", "")[:100], path)

    def keep(self, keys: set[str]) -> None:
        self._pages = {key: known for key, known in self._pages.items() if key in keys}

    def forget(self, key: str) -> None:
        self._pages.pop(key, None)

    def cursor(self) -> str:
        return json.dumps(self._pages, separators=(",", ":"))


class _Paths:
    """Paths of documents, one an address: two that only look alike, as ``/x`` and ``/x/``, stay apart."""

    def __init__(self) -> None:
        self._address: dict[str, str] = {}

    def of(self, url: str) -> str:
        path = _path(url)
        if self._address.setdefault(path, url) != url:
            path = apart(path, url.encode())
            self._address[path] = url
        return path

    def take(self, path: str, url: str) -> None:
        self._address.setdefault(path, url)


class _Site:
    def __init__(self, source: WebSource, surroundings: Surroundings) -> None:
        self._source = source
        self._max_bytes = surroundings.max_bytes
        self._api = api_of(source, surroundings, f"the site {urlsplit(source.url).hostname!r}")
        self._robots = RobotFileParser()
        self._body: dict[str, bytes] = {}
        self._broken: list[str] = []
        """Addresses that are none."""

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
        before, there = seen.documents(), set[str]()
        keys = {_key(url) for url in pages}
        seen.keep(keys)
        paths = _Paths()
        if self._broken:
            yield SourcePage(broken := [_broken(address) for address in self._broken])
            there |= {item.source for item in broken}
        for url in pages:
            if time.monotonic() > until:
                raise Unavailable(
                    f"the site took longer than {self._source.max_time_s:g} s",
                    code="source_too_slow",
                    hint="raise max_time_s of the source; what was read stays",
                )
            item = await self._item(url, seen, paths)
            if isinstance(item, str):
                there.add(item)
            elif item is not None and item.source not in there:
                there.add(item.source)
                yield SourcePage([item])
            await anyio.sleep(self._pause())
        yield SourcePage(removed=sorted(before - there), cursor=seen.cursor(), complete=cursor is None)

    async def _item(self, url: str, seen: _Seen, paths: _Paths) -> SourceItem | str | None:
        """The page when it changed, its path when it did not; None when it is gone."""
        self._body.clear()
        key = _key(url)
        known = seen.path(key)
        try:
            answer = await self._api.ask(
                url, headers=seen.headers(key), most=self._max_bytes, source=known or _path(url), may=self._may
            )
            if answer.status == 304 and known is not None:
                paths.take(known, answer.url)
                return known
            if answer.status in {404, 410}:
                seen.forget(key)
                return None
            if answer.status in {401, 403}:
                raise InvalidInput(f"the site does not give it away ({answer.status})", code="page_refused")
            self._api.must_be_good(answer)
        except LimitExceeded:
            raise
        except (TooLarge, NotFound) as error:
            return self._failed(seen, key, known or paths.of(url), error)
        except InvalidInput as error:
            if error.code not in _OF_ONE_PAGE:
                raise
            return self._failed(seen, key, known or paths.of(url), error)
        except Unavailable as error:
            if self._is_away(error):
                raise
            return self._failed(seen, key, known or paths.of(url), error)
        path = paths.of(straight(answer.url).partition("#")[0])
        seen.note(key, path, answer.headers)
        self._body[path] = answer.body
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        metadata = {"url": answer.url}
        if "last-modified" in answer.headers:
            metadata["last_modified"] = answer.headers["last-modified"][:100]
        return SourceItem(path, metadata=metadata, name_hint=_hint(path, kind))

    def _failed(self, seen: _Seen, key: str, path: str, error: InterlockError) -> SourceItem:
        """A page that cannot be had, and of which what was had stays."""
        # The next run asks for it whole: "not modified" would leave it failed.
        seen.note(key, path)
        if not isinstance(error, (TooLarge, NotFound)):
            code = error.code if error.code in _OF_ONE_PAGE else "page_failed"
            error = InvalidInput(f"the page {path!r} cannot be had: {error.message}", param=path, code=code)
        return SourceItem(path, "failed", name_hint=_hint(path, ""), error=error)

    def _may(self, url: str) -> None:
        if not self._is_allowed(url):
            raise InvalidInput("it redirects to what robots.txt closes", code="closed_by_robots")

    def _is_allowed(self, url: str) -> bool:
        return not self._source.obey_robots or self._robots.can_fetch(AGENT, url)

    def _is_away(self, error: InterlockError) -> bool:
        # "answered 500" is one broken page; no answer at all is a broken site.
        return " answered " not in error.message

    async def _read_robots(self) -> None:
        if not self._source.obey_robots:
            return
        answer = await self._api.ask(urljoin(self._source.url, "/robots.txt"), most=500_000)
        if answer.status >= 500:
            # Nobody can say what is allowed: RFC 9309 wants everything closed, which must not look like deletion.
            self._api.must_be_good(answer)
        elif answer.status >= 400:
            # Unavailable is not closed, 401 and 403 included (RFC 9309, section 2.3.1.3).
            self._robots.parse([])
        else:
            self._robots.parse(answer.body.decode("utf-8", "replace").splitlines())

    def _pause(self) -> float:
        asked = self._robots.crawl_delay(AGENT) if self._source.obey_robots else None
        return max(self._source.delay_s, min(float(asked or 0), _MOST_DELAY_S))

    async def _pages(self) -> list[str]:
        """Addresses to ask for, in an order that stays: of two that look alike the first has the plain path."""
        addresses: set[str] = set()
        for url in [*self._source.pages, *await self._named()]:
            try:
                clean = straight(checked_url(url)).partition("#")[0]
            except ValueError:
                if _is_of_host(url, self._source.url):
                    self._broken.append(url)
                continue
            if host_of(clean) == host_of(self._source.url) and self._is_allowed(clean):
                addresses.add(clean)
        return sorted(addresses)

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


def _is_of_host(url: str, site: str) -> bool:
    """Whether what is no address was meant to be one of the site."""
    host = urlsplit(site).hostname or ""
    return re.match(rf"https?://{re.escape(host)}([:/?#]|$)", url, re.IGNORECASE) is not None


def _broken(url: str) -> SourceItem:
    path = apart(re.sub(r"^[a-z]+://[^/]*/?", "", url, flags=re.IGNORECASE)[:500] or "index", url.encode())
    error = InvalidInput(f"the sitemap names {path!r} by what is no address", param=path, code="no_address")
    return SourceItem(path, "failed", name_hint="page.html", error=error)


def _key(url: str) -> str:
    """An address below its host: what the cursor knows a page by."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


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
