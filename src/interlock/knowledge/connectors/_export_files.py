"""An export as a connector sees it: named files of a folder, a zip or tar file, or one file.

Nothing is unpacked to disk but the parts of a zip of zips, and every size is counted while reading.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Self

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.connectors.folder import files_below, opened

__all__ = ["MOST_DATA", "Counted", "ExportFiles"]

MOST_DATA = 256 * 1024 * 1024
"""Bytes of a file that holds many documents."""
_MOST_FILES = 200_000
_MOST_TOTAL = 16 * 1024 * 1024 * 1024
_MOST_PART = 8 * 1024 * 1024 * 1024
_MOST_PARTS = 200
_MOST_RATIO = 200
_RATIO_FLOOR = 1024 * 1024
_STEP = 1024 * 1024
_ENCRYPTED = 0x1


class ExportFiles:
    """Files of an export by name, with ``/`` between folders. Blocking disk reads.

    Raises: InvalidInput, TooLarge: it cannot be read, leads out of itself, or unpacks to far more than it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = ExitStack()
        self._zips: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        self._tars: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
        self._plain: dict[str, Path] = {}
        self._root = path
        self._total = 0

    def __enter__(self) -> Self:
        try:
            self._find()
        except (InvalidInput, TooLarge):
            self._open.close()
            raise
        # zipfile, tarfile, zlib and lzma raise errors of no common base on damaged data.
        except Exception as error:
            self._open.close()
            raise self._unreadable() from error
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def names(self) -> list[str]:
        """All files, in order."""
        return sorted([*self._zips, *self._tars, *self._plain])

    def read(self, name: str, most: int) -> bytes:
        """One file. Raises: TooLarge, with the file's name: it has more than `most` bytes."""
        pieces, size = [], 0
        with self.open(name) as stream:
            while piece := stream.read(_STEP):
                size += len(piece)
                if size > most:
                    raise TooLarge(f"{name!r} of the export has more than {most} bytes", param=name)
                pieces.append(piece)
        return b"".join(pieces)

    @contextmanager
    def open(self, name: str) -> Iterator[Counted]:
        """One file as a stream that ends with an error where it unpacks to too much."""
        packed: int | None = None
        try:
            if name in self._zips:
                archive, info = self._zips[name]
                packed = info.compress_size
                stream = archive.open(info)
            elif name in self._tars:
                tar, member = self._tars[name]
                found = tar.extractfile(member)
                assert found is not None, "only regular files are listed"
                stream = found
            else:
                with opened(self._plain[name], name, root=self._root) as plain:
                    yield Counted(plain, self, None)
                return
            with stream:
                yield Counted(stream, self, packed)
        except (InvalidInput, TooLarge):
            raise
        except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError) as error:
            raise self._unreadable(name) from error

    def counted(self, size: int, unpacked: int, packed: int | None) -> None:
        """Bytes that came out of a file. Raises: TooLarge."""
        self._total += size
        if packed is not None and unpacked > max(_RATIO_FLOOR, _MOST_RATIO * packed):
            raise self._bomb()
        if self._total > _MOST_TOTAL:
            raise self._bomb()

    def _find(self) -> None:
        if self._path.is_dir():
            self._plain = dict(files_below(self._path))
        elif zipfile.is_zipfile(self._path):
            self._add_zip(self._open.enter_context(zipfile.ZipFile(self._path)), "")
            self._open_parts()
        elif tarfile.is_tarfile(self._path):
            self._add_tar(self._open.enter_context(tarfile.open(self._path)))  # noqa: SIM115 - the stack closes it
        elif self._path.is_file():
            named = self._path.resolve()
            self._root, self._plain = named.parent, {self._path.name: named}
        else:
            raise self._unreadable()
        if len(self._plain) > _MOST_FILES:
            raise self._bomb()

    def _add_zip(self, archive: zipfile.ZipFile, below: str) -> None:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & _ENCRYPTED:
                raise InvalidInput(f"the export {self._path.name!r} is encrypted", param="sources.path")
            self._zips[f"{below}{self._inside(info.filename)}"] = (archive, info)
            if len(self._zips) > _MOST_FILES:
                raise self._bomb()

    def _open_parts(self) -> None:
        """A large export comes as a zip of zips."""
        parts = [name for name in self._zips if name.lower().endswith(".zip")]
        if len(parts) != len(self._zips) or len(parts) > _MOST_PARTS:
            return
        for name in sorted(parts):
            copy = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
            with self.open(name) as packed:
                size = 0
                while piece := packed.read(_STEP):
                    size += len(piece)
                    if size > _MOST_PART:
                        raise self._bomb()
                    copy.write(piece)
            del self._zips[name]
            copy.seek(0)
            self._add_zip(self._open.enter_context(zipfile.ZipFile(copy)), "")

    def _add_tar(self, tar: tarfile.TarFile) -> None:
        declared = 0
        for member in tar:
            declared += member.size
            if declared > _MOST_TOTAL or len(self._tars) > _MOST_FILES:
                raise self._bomb()
            if member.isfile():
                self._tars[self._inside(member.name)] = (tar, member)

    def _inside(self, name: str) -> str:
        clean = name.replace("\\", "/").removeprefix("./")
        parts = clean.split("/")
        if clean.startswith("/") or ".." in parts or ":" in parts[0]:
            raise InvalidInput(
                f"the export {self._path.name!r} names a path outside itself",
                param="sources.path",
                code="hostile_document",
            )
        return clean

    def _unreadable(self, name: str = "") -> InvalidInput:
        what = f"{name!r} of the export" if name else f"the export {os.fspath(self._path)!r}"
        return InvalidInput(f"{what} cannot be read", param="sources.path", code="unreadable_file")

    def _bomb(self) -> TooLarge:
        return TooLarge(
            f"the export {self._path.name!r} unpacks to far more than its size",
            param="sources.path",
            code="archive_too_large",
        )


class Counted:
    """A stream whose bytes are counted."""

    def __init__(self, stream: IO[bytes], files: ExportFiles, packed: int | None) -> None:
        self._stream, self._files, self._packed = stream, files, packed
        self._unpacked = 0

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        data = self._stream.read(_STEP if size < 0 or size > _STEP else size)
        self._unpacked += len(data)
        self._files.counted(len(data), self._unpacked, self._packed)
        return data
