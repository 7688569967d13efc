"""Redis or PostgreSQL is away: the server says that it is not ready and why, and `doctor` looks at all the rest."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx2
import pytest

import interlock.testing.s3
from interlock.testing.s3 import BUCKET, KEY, READER, SECRET
from interlock.testing.servers import run_server
from interlock.testing.valkey import running_valkey
from interlock.testing.workspaces import write_workspace

s3_server = interlock.testing.s3.s3_server

PROVIDERS = {"providers": {"quick": {"kind": "scripted", "models": ["m"], "script": [{"reply": "a word"}]}}}


def doctor(workspace, *, code):
    command = [sys.executable, "-m", "interlock", "--workspace", str(workspace), "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_server_without_its_redis_is_not_ready(tmp_path):
    with running_valkey() as redis:
        workspace = write_workspace(tmp_path / "w", settings={"stores": {"kv": redis.address}, "gateway": PROVIDERS})
        with run_server(workspace) as server:
            assert httpx2.get(f"{server.url}/readyz", trust_env=False).json()["status"] == "ready"
            redis.stop()
            answer = httpx2.get(f"{server.url}/readyz", trust_env=False)
            assert answer.status_code == 503
            assert answer.json()["status"] == "not ready"
            (problem,) = answer.json()["problems"]
            assert problem.startswith("shared state: ")


@pytest.mark.parametrize(
    ("store", "address", "name", "unseen"),
    [
        ("kv", "redis://127.0.0.1:9", "shared state", set()),
        ("sql", "postgresql://u:hidden@127.0.0.1:9/x", "database", {"collections", "audit"}),
    ],
)
def test_doctor_looks_at_the_rest_and_says_what_to_do(tmp_path, store, address, name, unseen):
    workspace = write_workspace(tmp_path / "w", settings={"stores": {store: address}, "gateway": PROVIDERS})
    found = doctor(workspace, code=1)
    (away,) = [finding for finding in found if finding["what"] == name]
    assert away["state"] == "fail"
    assert f"stores.{store}" in away["fix"]
    assert "doctor" not in away["fix"]
    assert "hidden" not in json.dumps(found)
    said = [finding["what"] for finding in found]
    assert "provider quick: 1 models" in said
    assert any(what.startswith("disk") for what in said)
    left_out = [finding["what"] for finding in found if finding["cause"].startswith("not looked at")]
    assert {what for line in left_out for what in line.split(", ")} == unseen
    assert ("audit log" in " ".join(said)) == (store == "kv")


@pytest.mark.parametrize(
    ("bucket", "key", "state", "cause"),
    [
        (BUCKET, KEY, "ok", ""),
        ("never-made", READER, "fail", "bucket"),
        (BUCKET, READER, "fail", "refuses"),
    ],
)
def test_doctor_tries_what_a_bucket_must_allow(tmp_path, s3_server, monkeypatch, bucket, key, state, cause):
    monkeypatch.setenv("S3_ID", key)
    monkeypatch.setenv("S3_SECRET", SECRET)
    s3 = {"endpoint": s3_server.url, "access_key_env": "S3_ID", "secret_key_env": "S3_SECRET"}
    settings = {"stores": {"blobs": f"s3://{bucket}/w", "s3": s3}, "gateway": PROVIDERS}
    found = doctor(write_workspace(tmp_path / "w", settings=settings), code=0 if state == "ok" else 1)
    (told,) = [finding for finding in found if finding["what"].startswith("objects")]
    assert (told["state"], cause in told["cause"]) == (state, True)
    assert interlock.testing.s3.call(s3_server.url, "GET", f"/{BUCKET}?list-type=2").count(b"<Key>w/") == 0
