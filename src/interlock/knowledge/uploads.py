"""Files that are pushed instead of fetched: written into the folder of a source that says ``uploads: true``."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from interlock.core.errors import InvalidInput, NotFound, StorageFull, TooLarge
from interlock.knowledge.connectors.folder import MARK, FolderSource
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.sources import Source, SourceSpec

__all__ = ["remove_upload", "write_upload"]

_STEP = re.compile(r"[^/\\\x00-\x1f\x7f]+")
_MOST_STEP = 240
"""Bytes of UTF-8: file systems take 255."""
_MOST_PATH = 1_000
_DEPTH = 20
_NO_SUCH_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})


def write_upload(spec: SourceSpec, source: str, path: str, data: bytes, *, max_bytes: int) -> bool:
    """Write a file whole or not at all; gives whether it is new. Blocking disk write.

    Raises: NotFound: no such source, or it takes no uploads; InvalidInput: the path; TooLarge; StorageFull.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"the file has {len(data)} bytes, more than {max_bytes}", hint="raise knowledge.max_file_bytes")
    target = _target(spec.source(source), path)
    if find_loader(path) is None:
        raise InvalidInput(f"no loader reads a file like {path!r}", param="path", code="unsupported_media_type")
    try:
        is_new = not target.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        # A hidden name is no source file: a run that comes between sees the old file or the new one.
        handle, temporary = tempfile.mkstemp(prefix=".upload-", dir=target.parent)
        try:
            with open(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidInput(f"the path {path!r} goes through a file or names a folder", param="path") from error
    except OSError as error:
        if error.errno in _NO_SUCH_NAME:
            raise _untaken() from error
        raise StorageFull(f"the upload cannot be written: {error.strerror}") from error
    return is_new


def remove_upload(spec: SourceSpec, source: str, path: str) -> None:
    """Remove a file that may have been uploaded. Blocking disk write. Raises: NotFound, InvalidInput."""
    target = _target(spec.source(source), path)
    try:
        _mark(spec.source(source))
        target.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise NotFound(f"the source {source!r} has no file {path!r}", param="path") from error


def _mark(source: Source) -> None:
    """Tell an emptied folder from one that is not there."""
    assert isinstance(source, FolderSource)
    with suppress(OSError):
        (Path(source.path) / MARK).touch()


def _target(source: Source, path: str) -> Path:
    if not isinstance(source, FolderSource) or not source.uploads:
        raise NotFound(
            f"the source {source.name!r} takes no uploads", param="source", hint="set uploads: true on a folder source"
        )
    steps = path.split("/")
    try:
        sizes = [len(step.encode()) for step in steps]
    except UnicodeEncodeError as error:
        raise InvalidInput("the path is no UTF-8 text", param="path") from error
    if max(sizes) > _MOST_STEP or sum(sizes) + len(sizes) > _MOST_PATH:
        raise InvalidInput(
            f"a name of the path has {max(sizes)} bytes of UTF-8, the path {sum(sizes) + len(sizes) - 1}",
            param="path",
            hint=f"a name has at most {_MOST_STEP} bytes, a path {_MOST_PATH}",
        )
    if len(steps) > _DEPTH or not all(_STEP.fullmatch(step) and not step.startswith((".", "~$")) for step in steps):
        raise InvalidInput("the path is relative, without hidden names and `..`", param="path")
    root = Path(source.path).resolve()
    target = root.joinpath(*steps)
    try:
        # A link inside the folder must not lead the write out of it.
        leaves = not target.parent.resolve().is_relative_to(root) or target.is_symlink()
    except (OSError, RuntimeError) as error:
        raise _untaken() from error
    if leaves:
        raise InvalidInput("the path leaves the folder of its source", param="path")
    return target


def _untaken() -> InvalidInput:
    return InvalidInput("the file system of the source does not take this path", param="path")
