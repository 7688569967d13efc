"""The object store: in a folder, and in a bucket of an S3-compatible server."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from interlock.core.errors import Misconfigured, StorageFull, Unavailable
from interlock.core.ids import TenantId
from interlock.stores.blob.base import Blobs
from interlock.stores.blob.files import FileBlobs
from interlock.stores.blob.s3 import S3Blobs, open_s3
from interlock.stores.blob.settings import S3Settings
from interlock.testing.s3 import BUCKET, KEY, SECRET, S3Server
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


def bucket(server: S3Server, *, name: str = BUCKET, **changed: str) -> S3Blobs:
    settings = S3Settings(endpoint=changed.pop("endpoint", server.url), access_key_env="ID", secret_key_env="KEY")
    environ = {"ID": KEY, "KEY": SECRET, **changed}
    return open_s3(f"s3://{name}/interlock-{uuid4().hex}", settings, environ.get)


class TestS3(BlobsSuite):
    @pytest.fixture
    async def blobs(self, s3_server: S3Server) -> AsyncIterator[Blobs]:
        blobs = bucket(s3_server)
        yield blobs
        await blobs.close()


async def test_more_objects_than_a_page_are_listed(s3_server: S3Server) -> None:
    blobs = bucket(s3_server)
    made = set(await asyncio.gather(*[blobs.put(T, str(number).encode()) for number in range(1100)]))
    assert {digest async for digest in blobs.list(T)} == made
    await blobs.close()


async def test_an_object_of_other_bytes_is_never_given_out(s3_server: S3Server) -> None:
    blobs = bucket(s3_server)
    digest = await blobs.put(T, b"right bytes")
    blobs._store.put(f"t/{digest[7:9]}/{digest[7:]}", b"other byte!")
    with pytest.raises(Unavailable) as caught:
        await blobs.get(T, digest)
    assert caught.value.code == "corrupt_object"
    await blobs.close()


async def test_a_refused_key_and_a_store_that_is_away_are_told_apart(s3_server: S3Server) -> None:
    wrong = bucket(s3_server, KEY="wrong")
    with pytest.raises(Unavailable) as caught:
        await wrong.put(T, b"x")
    assert (caught.value.code, caught.value.retryable) == ("object_store_refused", False)
    away = bucket(s3_server, endpoint="http://127.0.0.1:9")
    with pytest.raises(Unavailable) as caught:
        await away.exists(T, f"sha256:{'0' * 64}")
    assert (caught.value.code, caught.value.retryable) == ("object_store_away", True)
    assert "127.0.0.1" not in caught.value.message
    with pytest.raises(Misconfigured, match="'ID' is not set"):
        bucket(s3_server, ID="")
    for blobs in (wrong, away):
        await blobs.close()


@pytest.mark.parametrize("call", ["get", "exists", "delete"])
async def test_a_bucket_that_is_not_there_is_no_object_that_is_not_there(s3_server: S3Server, call: str) -> None:
    """An erasure that finds no bucket has erased nothing."""
    blobs = bucket(s3_server, name="never-made")
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await getattr(blobs, call)(T, f"sha256:{'0' * 64}")
        assert (caught.value.code, caught.value.retryable) == ("object_store_no_bucket", False)
    await blobs.close()
