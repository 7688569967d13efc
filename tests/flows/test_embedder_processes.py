"""A space that is built by a real process, killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from interlock.testing.workspaces import write_workspace

DOCUMENTS = 40
PLUGIN = """
import asyncio, os
from interlock.testing.embedders import HashEmbedder

class Noting(HashEmbedder):
    async def embed(self, texts, kind):
        await asyncio.sleep(0.05)
        made = await super().embed(texts, kind)
        with open(os.environ["EMBEDDED"], "a") as log:
            log.writelines(text.splitlines()[-1] + chr(10) for text in texts)
        return made

class One:
    @staticmethod
    def open(models, *, threads):
        return HashEmbedder()

class Two:
    @staticmethod
    def open(models, *, threads):
        return Noting(name="two", dimensions=32)
"""


def environ(root: Path) -> dict[str, str]:
    package = root / "plugins" / "own-1.dist-info"
    if not package.exists():
        package.mkdir(parents=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1\n")
        (package / "entry_points.txt").write_text(
            "[interlock.embedder]\none = own_embedders:One\ntwo = own_embedders:Two\n"
        )
        (root / "plugins" / "own_embedders.py").write_text(PLUGIN)
    paths = [str(root / "plugins"), *(str(Path(path).resolve()) for path in sys.path if path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return {
        **kept,
        "XDG_DATA_HOME": str(root.parent),
        "PYTHONPATH": os.pathsep.join(paths),
        "EMBEDDED": str(root / "embedded.log"),
    }


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "interlock", "-w", str(root), *arguments]


def said(root: Path, *arguments: str) -> Any:  # Any: what a command prints as JSON
    done = subprocess.run(
        command(root, *arguments, "--json"), capture_output=True, text=True, check=False, env=environ(root)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_build_that_is_killed_goes_on_and_embeds_nothing_of_it_again(tmp_path: Path) -> None:
    settings = {"knowledge": {"embedder": "one", "batch_passages": 4}}
    root = write_workspace(
        tmp_path / "acme",
        settings=settings,
        documents={f"note-{n:02}.md": f"# Note {n}\n\nThe number of this note is number{n}." for n in range(DOCUMENTS)},
    )
    said(root, "ingest")
    settings["knowledge"]["embedder"] = "two"
    (root / "interlock.yaml").write_text(yaml.safe_dump({"tenant": "acme", **settings}))
    child = subprocess.Popen(
        command(root, "knowledge", "embedder", "build", "docs"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environ(root),
    )
    from pysqlite3 import dbapi2

    written = 0
    while child.poll() is None and written < 8:
        with dbapi2.connect(f"file:{root / '.interlock' / 'control.db'}?mode=ro", uri=True) as store:
            asked = "SELECT count(*) FROM knowledge_space_documents WHERE written"
            written = store.execute(asked).fetchone()[0]
        time.sleep(0.005)
    assert child.poll() is None, "it was done before it could be killed"
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    (status,) = said(root, "knowledge", "embedder", "status")
    lacking = set(status["beside"]["lacks"])
    assert 0 < len(lacking) < DOCUMENTS
    before = (root / "embedded.log").read_text().splitlines()
    # Searches go on from the space that answers, and what was built so far is in nobody's way.
    assert said(root, "knowledge", "search", "number7", "--collection", "docs")
    report = said(root, "knowledge", "embedder", "build", "docs")
    assert report["complete"]
    again = (root / "embedded.log").read_text().splitlines()[len(before) :]
    # What the killed run had noted is not embedded again: only the batch that was under way may be.
    assert len(again) == report["embedded"] <= len(lacking)
    twice = [text for text, times in Counter([*before, *again]).items() if times > 1]
    assert len(twice) <= 4
    assert said(root, "knowledge", "embedder", "switch", "docs")["answers"]["space"] == "two:32"
    found = said(root, "knowledge", "search", "number7", "--collection", "docs", "--mode", "dense")
    assert "note-07.md" in json.dumps(found)
    assert said(root, "audit", "verify")["ok"]
