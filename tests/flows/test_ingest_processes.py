"""Ingest through real processes: killed in the middle, and on a disk that is really full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

DOCUMENTS = 40
PLUGIN = """
from interlock.testing.embedders import HashEmbedder


class Plugin:
    @staticmethod
    def open(models, *, threads):
        return HashEmbedder()
"""
LINE = "The number of this note is {number}, and nobody has ever asked why it was written down here at all. "


def interlock(workspace: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "interlock", "-w", str(workspace), *arguments]


def environ(workspace: Path) -> dict[str, str]:
    """With an embedder that needs no weights, as a third party's plug-in would come."""
    package = workspace / "plugins" / "hashed-1.dist-info"
    if not package.exists():
        package.mkdir(parents=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: hashed\nVersion: 1\n")
        (package / "entry_points.txt").write_text("[interlock.embedder]\nhashed = hashed_embedder:Plugin\n")
        (workspace / "plugins" / "hashed_embedder.py").write_text(PLUGIN)
    paths = [str(workspace / "plugins"), *(str(Path(path).resolve()) for path in sys.path if path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return {**kept, "XDG_DATA_HOME": str(workspace.parent), "PYTHONPATH": os.pathsep.join(paths)}


def said(workspace: Path, *arguments: str, status: int = 0) -> Any:  # Any: what a command prints as JSON
    command = interlock(workspace, *arguments, "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ(workspace))
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def note(number: int, lines: int = 20) -> str:
    return f"# Note {number}\n\n" + "\n\n".join([LINE.format(number=number) * 4] * lines)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return write_workspace(
        tmp_path / "acme",
        settings={
            "knowledge": {"embedder": "hashed"},
            "gateway": {"providers": {"extractive": {"kind": "extractive"}}},
        },
        apps={},
        documents={f"note-{number:02}.md": note(number) for number in range(DOCUMENTS)},
        permissions=[{"match": "**", "readers": ["public"]}],
        users={},
    )


def test_an_ingest_that_is_killed_leaves_whole_documents_and_the_next_one_does_the_rest(workspace: Path) -> None:
    assert said(workspace, "documents") == []  # the database is there before the race begins
    child = subprocess.Popen(
        interlock(workspace, "ingest"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environ(workspace),
    )
    from pysqlite3 import dbapi2

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        with dbapi2.connect(f"file:{workspace / '.interlock' / 'control.db'}?mode=ro", uri=True) as store:
            if store.execute("SELECT count(*) FROM knowledge_documents WHERE state = 'ok'").fetchone()[0] > 0:
                break
        time.sleep(0.005)
    assert child.poll() is None, "it was done before it could be killed"
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    kept = said(workspace, "documents")
    assert 0 < len(kept) < DOCUMENTS
    assert {info["state"] for info in kept} == {"ok"}
    assert all(info["passages"] > 0 for info in kept)
    # The doctor also misses the models, which this workspace does without.
    found = {row["what"]: row["state"] for row in said(workspace, "doctor", status=1)}
    assert f"collection docs: {len(kept)} documents" in found

    (report,) = said(workspace, "ingest")
    assert report["unchanged"] + report["added"] + report["changed"] == DOCUMENTS
    assert report["unchanged"] >= len(kept), "what was committed is not done again"
    assert report["failed"] == []
    found = said(workspace, "documents")
    assert sorted(info["source"] for info in found) == [f"note-{number:02}.md" for number in range(DOCUMENTS)]
    assert said(workspace, "audit", "verify")["ok"]


SCRIPT = """
set -e
mkdir -p "$WS/.interlock"
mount -t tmpfs -o size=64m full "$WS/.interlock"
run() { "$PYTHON" -m interlock -w "$WS" "$@"; }
run ingest --json > "$OUT/first.json"
for number in 1 2 3 4 5 6; do cp "$OUT/big.md" "$WS/documents/big-$number.md"; done
used=$(df --output=used -k "$WS/.interlock" | tail -n 1)
mount -o "remount,size=$((used + 300))k" "$WS/.interlock"
set +e
run ingest --json > "$OUT/full.json" 2> "$OUT/full.err"
echo $? > "$OUT/full.rc"
set -e
mount -o remount,size=256m "$WS/.interlock"
run documents --json > "$OUT/after.json"
run ingest --json > "$OUT/again.json"
run documents --json > "$OUT/last.json"
run audit verify --json > "$OUT/audit.json"
"""


def test_a_full_disk_is_told_and_loses_nothing(workspace: Path, tmp_path: Path) -> None:
    own = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    probe = [*own, "sh", "-c", f"mount -t tmpfs none {tmp_path}"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    (tmp_path / "big.md").write_text(note(99, lines=260))
    done = subprocess.run(
        [*own, "sh", "-c", SCRIPT],
        env={**environ(workspace), "WS": str(workspace), "OUT": str(tmp_path), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def read(name: str) -> Any:  # Any: what a command prints as JSON
        return json.loads((tmp_path / name).read_text())

    assert read("first.json")[0]["added"] == DOCUMENTS
    assert (tmp_path / "full.rc").read_text().strip() != "0"
    told = (tmp_path / "full.err").read_text() + (tmp_path / "full.json").read_text()
    assert "full" in told and "Traceback" not in told
    after = {info["source"]: info for info in read("after.json")}
    assert {f"note-{number:02}.md" for number in range(DOCUMENTS)} <= set(after), "what was there is still there"
    assert all(info["passages"] > 0 for info in after.values() if info["state"] == "ok"), "nothing is half-visible"
    (report,) = read("again.json")
    assert report["failed"] == []
    last = {info["source"]: info["state"] for info in read("last.json")}
    assert len(last) == DOCUMENTS + 6 and set(last.values()) == {"ok"}
    assert read("audit.json")["ok"]
