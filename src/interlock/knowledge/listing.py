"""A source as a run sees it: its connector's pages with checked paths, and its failures in our words."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from anyio import to_thread

from interlock.core.errors import InterlockError, InvalidInput, MissingExtra, NotFound, TooLarge, Unavailable
from interlock.knowledge.connectors._naming import apart
from interlock.knowledge.detection import HEAD_BYTES, loader_of_unnamed
from interlock.knowledge.globs import matches
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, CursorExpired, SourceItem, SourcePage
from interlock.knowledge.sources import Source

__all__ = ["Listed", "ListedPage", "Listing", "SourceAway", "suffix_of"]

_log = logging.getLogger("interlock.knowledge")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]+")
_MOST_PATH = 1_000
_MOST_CURSOR = 8_000_000


def suffix_of(path: str) -> str:
    """Lower-case suffix of a path with its dot; empty when it has none."""
    return PurePosixPath(path).suffix.lower()


class SourceAway(Exception):
    """The source cannot be listed or read any further; what was stored stays, and nothing is taken for gone."""

    def __init__(self, source: str, error: InterlockError) -> None:
        super().__init__(source)
        self.source = source
        self.error = error


@dataclass(frozen=True, slots=True)
class Listed:
    """One item that is wanted."""

    path: str
    """In the collection: with the source's prefix."""
    loader: str
    item: SourceItem


@dataclass(frozen=True, slots=True)
class ListedPage:
    """A part of a listing, without what is not wanted."""

    items: Sequence[Listed]
    removed: frozenset[str]
    cursor: str | None
    complete: bool
    certain: bool
    skipped: Sequence[str]
    """Suffixes of items that no loader reads, one each."""


class Listing:
    """One source while a run mirrors it."""

    def __init__(
        self, source: Source, connector: Connector, *, max_bytes: int, loaders: Mapping[str, str] | None = None
    ) -> None:
        self._source = source
        self._loaders = loaders or {}
        self._connector = connector
        self._max_bytes = max_bytes
        self._names: dict[str, str] = {}
        """What the source calls the item of a path."""
        self._is_full = True

    async def pages(self, cursor: str | None) -> AsyncGenerator[ListedPage]:
        """The connector's pages. Raises: SourceAway, CursorExpired."""
        self._is_full = cursor is None
        self._names.clear()
        try:
            # The protocol says iterator; every one of ours is a generator, and a foreign one may be.
            async with aclosing(_closable(self._connector.changes(cursor))) as pages:
                async for page in pages:
                    yield await self._listed(page)
        except CursorExpired:
            raise
        except InterlockError as error:
            raise SourceAway(self._source.name, error) from error
        except Exception as error:
            raise SourceAway(self._source.name, self._broke(error)) from error

    async def fetch(self, listed: Listed) -> bytes:
        """Raises: InvalidInput, NotFound, MissingExtra: this item failed; SourceAway."""
        try:
            data = await self._connector.fetch(listed.item)
        except (InvalidInput, NotFound, MissingExtra):
            raise
        except InterlockError as error:
            raise SourceAway(self._source.name, error) from error
        except Exception as error:
            raise SourceAway(self._source.name, self._broke(error)) from error
        if len(data) > self._max_bytes:
            raise TooLarge(
                f"{listed.path!r} has more than {self._max_bytes} bytes",
                param=listed.path,
                hint="leave it out with exclude, or raise knowledge.max_file_bytes",
            )
        return data

    async def _listed(self, page: SourcePage) -> ListedPage:
        cursor = page.cursor
        if cursor is not None and len(cursor) > _MOST_CURSOR:
            raise InvalidInput("the connector's cursor is longer than 8,000,000 characters", param="sources.kind")
        items: dict[str, Listed] = {}
        skipped: list[str] = []
        # What is called exactly as its path comes first: it keeps the path that another one is written like.
        for item in sorted(page.items, key=lambda one: not self._is_plain(one.source)):
            if not self._wants(item.source):
                continue
            path = self._own_path(item.source)
            loader = find_loader(item.name_hint or path, self._loaders) or await self._loader_by_content(item, path)
            if loader is None:
                skipped.append(suffix_of(path))
            else:
                items[path] = Listed(path, loader, item)
        removed = frozenset(self._own_path(path) for path in page.removed) - set(items)
        return ListedPage(list(items.values()), removed, cursor, page.complete, page.certain, skipped)

    async def _loader_by_content(self, item: SourceItem, path: str) -> str | None:
        """For a name without a known suffix, where the first bytes can be had without the rest."""
        head = getattr(self._connector, "head", None)
        if head is None or item.error is not None:
            return None
        # What cannot be read here has no suffix that promises a document: it is left out, not failed.
        with suppress(InvalidInput, MissingExtra):
            first = await head(item, HEAD_BYTES)
            return await to_thread.run_sync(loader_of_unnamed, path, first)
        return None

    def _wants(self, relative: str) -> bool:
        return any(matches(glob, relative) for glob in self._source.include) and not any(
            matches(glob, relative) for glob in self._source.exclude
        )

    def _is_plain(self, relative: str) -> bool:
        return len(relative) <= _MOST_PATH and _UNPRINTABLE.search(relative) is None

    def _own_path(self, relative: str) -> str:
        """The item's path, and no other one's. Raises: CursorExpired: only a full listing tells."""
        path = self._path(relative)
        if not self._is_plain(relative) and not self._is_full:
            raise CursorExpired("a name that cannot be written as it is was changed")
        if self._names.setdefault(path, relative) != relative:
            path = apart(path, relative.encode("utf-8", "surrogatepass"))
            self._names[path] = relative
        return path

    def _path(self, relative: str) -> str:
        clean = _UNPRINTABLE.sub(" ", relative)[:_MOST_PATH]
        prefix = self._source.prefix.rstrip("/")
        return f"{prefix}/{clean}" if prefix else clean

    def _broke(self, error: Exception) -> Unavailable:
        _log.warning("the source %r broke off", self._source.name, exc_info=error)
        return Unavailable(
            f"the source {self._source.name!r} broke off: {type(error).__name__}",
            code="source_broke",
            hint="what was stored stays; the log says where",
        )


class _closable:  # noqa: N801 - used like a function
    """An iterator that can be closed, whether or not it is a generator."""

    def __init__(self, inner: AsyncIterator[SourcePage]) -> None:
        self._inner = inner

    def __aiter__(self) -> AsyncIterator[SourcePage]:
        return self._inner

    async def aclose(self) -> None:
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()
