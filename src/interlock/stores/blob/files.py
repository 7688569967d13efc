"""Objects as plain files: one folder a tenant, named by content, written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from interlock.core.canonical import digest_bytes
from interlock.core.errors import NotFound, StorageFull, Unavailable
from interlock.core.ids import TenantId
from interlock.stores._folders import tenant_folder
from interlock.stores._threads import Threads

__all__ = ["FileBlobs"]

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_STALE_S = 3600.0
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FileBlobs:
    """A `Blobs` in a folder; several processes may share it.

    ``<root>/<tenant>/<first two digits>/<hex digest>``; half-written files live in ``<root>/.tmp`` and are removed
    after an hour.

    Args:
        root: the folder; created when first written to.
        threads: file operations at a time.
    """

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self._root = root
        # The dot keeps it apart from every tenant's folder: tenant_folder() never gives one.
        self._drafts = root / ".tmp"
        self._threads = Threads(threads, "interlock-blob")
        self._swept = False

    async def put(self, tenant: TenantId, data: bytes) -> str:
        """See `Blobs.put`. The file and its folder are synced before it returns."""
        return await self._threads.run(lambda: self._put(tenant, data))

    async def get(self, tenant: TenantId, digest: str) -> bytes:
        """See `Blobs.get`."""

        def read() -> bytes:
            path = self._path(tenant, digest)
            try:
                data = path.read_bytes() if path is not None else None
            except FileNotFoundError:
                data = None
            except OSError as error:
                raise Unavailable(f"the object {digest!r} cannot be read", hint="check the disk") from error
            if data is None:
                raise NotFound(f"no object {digest!r}")
            if digest_bytes(data) != digest:
                raise Unavailable(
                    f"the object {digest!r} is damaged on disk",
                    code="corrupt_object",
                    retryable=False,
                    hint="restore it from a backup",
                )
            return data

        return await self._threads.run(read)

    async def exists(self, tenant: TenantId, digest: str) -> bool:
        """See `Blobs.exists`."""
        path = self._path(tenant, digest)
        return path is not None and await self._threads.run(path.is_file)

    async def delete(self, tenant: TenantId, digest: str) -> None:
        """See `Blobs.delete`."""
        path = self._path(tenant, digest)
        if path is not None:
            await self._threads.run(lambda: path.unlink(missing_ok=True))

    async def list(self, tenant: TenantId) -> AsyncIterator[str]:
        """See `Blobs.list`."""
        folder = self._root / tenant_folder(tenant)
        for shard in await self._threads.run(lambda: _names(folder)):
            for name in await self._threads.run(lambda shard=shard: _names(folder / shard)):  # type: ignore[misc]  # a bound default hides the lambda's type
                yield f"sha256:{name}"

    async def close(self) -> None:
        """See `Blobs.close`."""
        await self._threads.close()

    def _path(self, tenant: TenantId, digest: str) -> Path | None:
        """Where it would be; None when `digest` is no digest, so that no other file can be named."""
        found = _DIGEST.fullmatch(digest)
        return None if found is None else self._root / tenant_folder(tenant) / found[1][:2] / found[1]

    def _put(self, tenant: TenantId, data: bytes) -> str:
        digest = digest_bytes(data)
        path = self._path(tenant, digest)
        assert path is not None, "digest_bytes gives digests"
        # A file of another length is damaged: storing the same bytes again repairs it.
        if path.is_file() and path.stat().st_size == len(data):
            return digest
        draft = self._drafts / uuid4().hex
        with _converted():
            self._drafts.mkdir(parents=True, exist_ok=True)
            self._sweep_drafts()
            try:
                with draft.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                made = _make_folders(path.parent, self._root)
                draft.replace(path)
            except BaseException:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
                raise
            for folder in made:
                _sync(folder)
        return digest

    def _sweep_drafts(self) -> None:
        if self._swept:
            return
        self._swept = True
        for draft in self._drafts.iterdir():
            with suppress(FileNotFoundError):  # another process sweeps too
                if draft.stat().st_mtime < time.time() - _STALE_S:
                    draft.unlink()


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _make_folders(folder: Path, root: Path) -> list[Path]:
    """Create `folder` below `root`; give the folders to sync after the rename, deepest first."""
    folders = [folder, folder.parent, root]
    new = [not f.is_dir() for f in folders]
    folder.mkdir(parents=True, exist_ok=True)
    # A new folder's own entry is in its parent, so the parent is synced too.
    return [f for i, f in enumerate(folders) if i == 0 or new[i - 1]]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _converted() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(
                "no room for the object", hint="free disk space, then try again; nothing was half-written"
            ) from error
        raise Unavailable(
            f"the object store cannot be written ({errno.errorcode.get(error.errno or 0, 'unknown')})",
            hint="check the folder's permissions and the disk",
        ) from error
