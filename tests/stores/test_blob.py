"""The object store in a folder."""

from __future__ import annotations

import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interlock.core.errors import StorageFull, Unavailable
from interlock.core.ids import TenantId
from interlock.stores.blob.base import Blobs
from interlock.stores.blob.files import FileBlobs
from interlock.testing.stores import BlobsSuite

T = TenantId("t")


@pytest.fixture
async def file_blobs(tmp_path: Path) -> AsyncIterator[FileBlobs]:
    blobs = FileBlobs(tmp_path / "blobs")
    yield blobs
    await blobs.close()


class TestFiles(BlobsSuite):
    @pytest.fixture
    def blobs(self, file_blobs: FileBlobs) -> Blobs:
        return file_blobs


@pytest.mark.parametrize("damage", [b"other bytes", b"x", b""])
async def test_damaged_bytes_are_never_given_out(file_blobs: FileBlobs, tmp_path: Path, damage: bytes) -> None:
    digest = await file_blobs.put(T, b"right bytes")
    path = next(p for p in (tmp_path / "blobs").rglob(digest.removeprefix("sha256:")))
    path.write_bytes(damage)
    with pytest.raises(Unavailable) as caught:
        await file_blobs.get(T, digest)
    assert caught.value.code == "corrupt_object"


async def test_a_full_disk_leaves_no_half_written_object(file_blobs: FileBlobs, tmp_path: Path) -> None:
    await file_blobs.put(T, b"small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StorageFull):
            await file_blobs.put(T, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert len([p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]) == 1
    assert await file_blobs.put(T, b"x" * 100_000)
