from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import pytest

import interlock.testing.s3
from interlock.core.errors import InterlockError
from interlock.knowledge.connectors.s3 import signed
from interlock.testing.connectors import ConnectorConformance, World, desk
from interlock.testing.s3 import KEY, SECRET, call

__all__ = ["desk"]

s3_server = interlock.testing.s3.s3_server


@pytest.fixture(scope="module")
def store(s3_server):
    return s3_server.url


@dataclass
class Bucket(World):
    url: str = ""
    folder: str = ""

    async def put(self, name, text):
        call(self.url, "PUT", f"/probe/{self.folder}{name}.md", text.encode())

    async def remove(self, name):
        call(self.url, "DELETE", f"/probe/{self.folder}{name}.md")

    def path(self, name):
        return f"{name}.md"

    async def go_away(self):
        self.environ["SECRET"] = "wrong"


@pytest.fixture
async def world(store):
    # A bucket takes volumes of its own, and a small server has few.
    folder = f"birds-{uuid4().hex}/"
    source = {
        "kind": "s3",
        "url": store,
        "bucket": "probe",
        "folder": folder,
        "access_key_env": "KEY",
        "secret_key_env": "SECRET",
        "allow_private": True,
        "page_size": 3,
    }
    return Bucket(source, {"KEY": KEY, "SECRET": SECRET}, store, folder)


class TestS3(ConnectorConformance):
    async def test_names_with_signs_and_what_is_too_large(self, desk, world):
        await world.put("n0%20and%20%C3%A4%2Bb", "The heron stands by the river.")
        await world.put("large", "x" * 300_000)
        call(world.url, "PUT", "/probe/elsewhere/n9.md", b"The otter.")
        report = await desk.ingest()
        assert report.added == 1
        assert [f.code for f in report.failed] == ["request_too_large"]
        assert set(await desk.documents()) == {"n0 and ä+b.md", "large.md"}
        assert (await desk.ingest()).unchanged == 1

    async def test_a_bucket_that_is_not_there_deletes_nothing(self, desk, world):
        await self.fill(world)
        await desk.ingest()
        with pytest.raises(InterlockError) as caught:
            await desk.ingest(bucket="no-such-bucket")
        assert caught.value.code in {"source_not_found", "source_refused"}
        assert len(await desk.documents()) == 3


def test_a_signature_is_the_one_that_amazon_documents():
    """The list example of "Authenticating Requests: Using the Authorization Header (SigV4)"."""
    key = ("AKIAIOSFODNN7" + "EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "")
    headers = signed(
        "examplebucket.s3.amazonaws.com",
        "/",
        {"max-keys": 2, "prefix": "J"},
        key=key,
        region="us-east-1",
        at=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["authorization"].endswith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
