"""A folder of this machine."""

from __future__ import annotations

import os
import stat
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Self, cast

from anyio import to_thread
from pydantic import Field

from interlock.core.errors import InterlockError, InvalidInput, TooLarge
from interlock.knowledge.connectors._naming import apart
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["MARK", "FolderSource", "files_below", "opened", "plugin", "read_regular", "version_of"]

MARK = ".uploads"
"""A file in a folder that the upload API wrote to."""
_SETTLED_NS = 2_000_000_000
"""File systems note times in steps of up to two seconds: a file this young may change again under the same time."""


class FolderSource(Source):
    """Files below a folder. Hidden files, Word's lock files and linked folders are left out."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1)
    """The folder, relative to the file that names it"""
    verify: bool = False
    """Read every file at every run, and not only those whose time, size or inode changed"""
    uploads: bool = False
    """Let the upload API write into it"""

    def place(self) -> str:
        """The folder as it is written."""
        return self.path

    def based(self, base: Path) -> Self:
        """The same with the folder made absolute."""
        return self.model_copy(update={"path": absolute(self.path, base)})


class _Folder:
    def __init__(self, source: FolderSource, max_bytes: int) -> None:
        self._source = source
        self._root = Path(source.path)
        self._max_bytes = max_bytes
        self._paths: dict[str, Path] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """One page: a folder is listed whole, in path order."""
        items = await to_thread.run_sync(self._list)
        # A share that is not mounted has no mark: an empty folder with it was emptied by the upload API.
        certain = self._source.uploads and await to_thread.run_sync((self._root / MARK).is_file)
        yield SourcePage(items, complete=True, certain=certain)

    def _list(self) -> list[SourceItem]:
        if not self._root.is_dir():
            raise InvalidInput(f"the source folder {self._source.path!r} does not exist", param="sources.path")
        root, at = self._root.resolve(), time.time_ns()
        items: list[SourceItem] = []
        for name, path in files_below(self._root):
            self._paths[name] = path
            version = "" if self._source.verify else version_of(path, at)
            items.append(SourceItem(name, version, error=_refusal(root, path, name)))
        return items

    async def fetch(self, item: SourceItem) -> bytes:
        """Read the file."""
        path = self._paths[item.source]
        root, most = self._root, self._max_bytes
        return await to_thread.run_sync(lambda: read_regular(path, item.source, root=root, max_bytes=most))

    async def head(self, item: SourceItem, size: int) -> bytes:
        """The first `size` bytes, to tell what a file without a known suffix is. Raises: InvalidInput."""
        path = self._paths[item.source]
        return await to_thread.run_sync(lambda: read_start(path, item.source, size, root=self._root))

    async def aclose(self) -> None:
        """Nothing is open."""


def files_below(root: Path) -> Iterator[tuple[str, Path]]:
    """Files with their paths below `root`, in path order. Reads directories only.

    Two names that are written alike have paths of their own: the second one's says so by a digest of its bytes.
    """
    taken: set[str] = set()

    def refuse(error: OSError) -> None:
        # A folder that cannot be read must not look empty: its documents would be deleted.
        raise InvalidInput(f"the source folder cannot be read: {error.strerror}", param="sources.path") from error

    for current, folders, names in os.walk(root, followlinks=False, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith((".", "~$")):
                continue
            path = Path(current) / name
            relative = path.relative_to(root).as_posix()
            # Undecodable bytes of a file name arrive as lone surrogates; macOS names are decomposed.
            readable = relative.encode("utf-8", "replace").decode("utf-8")
            name = unicodedata.normalize("NFC", readable)
            if name in taken:
                name = apart(name, os.fsencode(relative))
            taken.add(name)
            yield name, path


def version_of(path: Path, at_ns: int) -> str:
    """Times, size and inode of a file; empty for one that changed just before `at_ns`, or cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ""
    if max(found.st_mtime_ns, found.st_ctime_ns) > at_ns - _SETTLED_NS or not stat.S_ISREG(found.st_mode):
        return ""
    return f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_size}-{found.st_ino}"


def _refusal(root: Path, path: Path, source: str) -> InterlockError | None:
    try:
        leaves = path.is_symlink() and not path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # the links go round
        return InvalidInput(f"the file {source!r} is a link to nowhere", param=source, code="unreadable_file")
    if leaves:
        return InvalidInput(
            f"the file {source!r} is a link that leaves its folder", param=source, code="link_outside_source"
        )
    return None


def read_regular(path: Path, source: str, *, root: Path, max_bytes: int) -> bytes:
    """The bytes of a file below `root`. Blocking disk read.

    Raises: InvalidInput: it cannot be read, is no regular file, or lies outside by now; TooLarge.
    """
    with opened(path, source, root=root) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > max_bytes:
            raise _too_large(source, size, max_bytes)
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large(source, len(data), max_bytes)
    return data


def read_start(path: Path, source: str, size: int, *, root: Path) -> bytes:
    """The first `size` bytes of a file. Blocking disk read. Raises: InvalidInput, as `read_regular`."""
    with opened(path, source, root=root) as stream:
        return stream.read(size)


@contextmanager
def opened(path: Path, source: str, *, root: Path) -> Iterator[BinaryIO]:
    """A regular file below `root`, whatever became of it and its folders since they were listed.

    Raises: InvalidInput.
    """
    try:
        with open(_handle(path, source, root), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InvalidInput(f"{source!r} is no regular file", param=source)
            yield stream
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "its links go round"
        raise InvalidInput(
            f"the file {source!r} cannot be read: {reason}", param=source, code="unreadable_file"
        ) from error


def _handle(path: Path, source: str, root: Path) -> int:
    """Step by step from the folder of the source, following no link: one that is there was resolved before, and one
    that came meanwhile is refused. A pipe does not block.
    """
    base, target = root.resolve(), path.resolve()
    if not target.is_relative_to(base):
        raise InvalidInput(
            f"the file {source!r} is a link that leaves its folder", param=source, code="link_outside_source"
        )
    *folders, name = target.relative_to(base).parts or (".",)
    at = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


def _too_large(source: str, size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the file {source!r} has {size} bytes, more than {limit}",
        param=source,
        hint="split it, or raise knowledge.max_file_bytes",
    )


class _Plugin:
    model = FolderSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Folder(cast(FolderSource, source), surroundings.max_bytes)


plugin = _Plugin()
