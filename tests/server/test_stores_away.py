"""Redis or PostgreSQL is away: the server says that it is not ready and why, and `doctor` looks at all the rest."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx2
import pytest

from interlock.testing.servers import run_server
from interlock.testing.valkey import running_valkey
from interlock.testing.workspaces import write_workspace

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
