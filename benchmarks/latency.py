"""How long a search takes: one tenant of 50,000 passages, all readable and half of them, and 1,000 tenants of 1,000.

    python -m benchmarks.latency [--passages 50000] [--tenants 1000] [--questions 300] [--keep FOLDER]

Through the product's own search: the question becomes a vector with the default model, both legs are asked by the
caller's rights, fused, and checked against the registry. Passages are of sentences drawn from the public sets
(INTERLOCK_DATA; without it from this repository's documentation), questions are those of the sets. The vectors of
passages are random: the dense leg compares all of them, whatever they are. Beside it, in the same run, the two legs of
SQLite alone, called as this file calls them: what a search could not go below.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from interlock.core.clock import Deadline
from interlock.core.context import Context, Principal, Role
from interlock.core.ids import DocumentId, PrincipalId, TenantId
from interlock.core.ports import Embedder
from interlock.knowledge import KnowledgeService, KnowledgeSettings, parse_spec
from interlock.knowledge.analysers import analyse
from interlock.knowledge.embedders import embedders
from interlock.knowledge.sentences import sentences
from interlock.knowledge.settings import LegSettings
from interlock.knowledge.types import Progress
from interlock.serving.service import default_models_dir
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.base import IndexScope
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[1]
_SETS = ("scifact", "clapnq_dev", "covidqa_long", "pubmedqa", "mtrag_un")
_COLLECTION = "docs"
_PASSAGES_A_DOCUMENT = 3
_WORDS_A_PASSAGE = 120


class _Drawn:
    """The default model for questions; for passages vectors drawn by chance, which cost nothing to make."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.id, self.dimensions, self.max_tokens = inner.id, inner.dimensions, inner.max_tokens

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        import numpy as np

        if kind == "query":
            return await self._inner.embed(texts, kind)
        drawn = np.random.default_rng(len(texts[0])).standard_normal((len(texts), self.dimensions))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def said_and_asked() -> tuple[list[str], list[str]]:
    """Sentences to make documents of, and questions."""
    data = os.environ.get("INTERLOCK_DATA")
    if not data:
        print("INTERLOCK_DATA is not set: sentences of this repository's documentation instead", file=sys.stderr)
        texts = [path.read_text("utf-8") for path in sorted((_ROOT / "docs").rglob("*.md"))]
        said = [text[span.start : span.end] for text in texts for span in sentences(text)]
        return said, [one for one in said if one.endswith("?")] or said[:50]
    folders = [Path(data) / "retrieval" / name for name in _SETS]
    rows = [json.loads(line) for folder in folders for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    asked = [json.loads(line)["text"] for folder in folders for line in (folder / "queries.jsonl").open("rb")]
    return [row["text"][s.start : s.end] for row in rows[:6000] for s in sentences(row["text"])], asked


def write_documents(file: Path, said: Sequence[str], documents: int, draw: random.Random) -> None:
    """Rows of about `_PASSAGES_A_DOCUMENT` passages each."""
    with file.open("w", encoding="utf-8") as rows:
        for number in range(documents):
            parts = []
            for part in range(_PASSAGES_A_DOCUMENT):
                words: list[str] = []
                while len(words) < _WORDS_A_PASSAGE:
                    words += draw.choice(said).split()
                parts.append(f"## Part {part}\n\n{' '.join(words[:_WORDS_A_PASSAGE])}.")
            row = {"id": str(number), "title": f"Document {number}", "text": "\n\n".join(parts)}
            rows.write(json.dumps(row) + "\n")


def told(name: str, seconds: Sequence[float], bar: str = "") -> str:
    """One line of the table."""
    ordered = sorted(seconds)
    p50, p95 = (1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95))
    return f"{name:<48} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   {len(ordered)} times  {bar}"


async def timed(times: int, one: Callable[[int], Awaitable[object]]) -> list[float]:
    """Seconds of each call, one after the other."""
    found: list[float] = []
    for number in range(times):
        began = time.perf_counter()
        await one(number)
        found.append(time.perf_counter() - began)
    return found


def caller(tenant: str) -> Context:
    """Somebody of `tenant` who may do everything."""
    principal = Principal(PrincipalId("bench"), "service", frozenset({Role.OPERATOR}))
    return Context(TenantId(tenant), principal, deadline=Deadline.after(86_400))


class House:
    """The stores of one folder, and the service over them."""

    def __init__(self, home: Path, embedder: Embedder) -> None:
        self.home = home
        self.sql = open_sql(f"sqlite:///{home / 'registry.db'}")
        self.blobs, self.index = FileBlobs(home / "blobs"), SqliteIndex(home / "index")
        # Vectors drawn by chance would be found to be near random, and their leg left out.
        legs = LegSettings(dense="on", lexical="on")
        settings = KnowledgeSettings(reader="none", batch_passages=1000, legs=legs)
        self.knowledge = KnowledgeService(self.sql, self.blobs, self.index, settings=settings, embedder=embedder)

    async def close(self) -> None:
        """Close the stores."""
        await self.index.close()
        await self.blobs.close()
        await self.sql.close()

    async def fill(self, tenant: str, said: Sequence[str], passages: int) -> int:
        """Documents of `tenant`, by an ingest; gives the passages it holds."""
        rows = self.home / "rows.jsonl"
        write_documents(rows, said, passages // _PASSAGES_A_DOCUMENT, random.Random(11))
        source = {"kind": "jsonl", "path": str(rows), "id": "id"}
        values = {
            "collection": _COLLECTION,
            "sources": [source],
            "permissions": [{"match": "**", "readers": ["public"]}],
            "cleaning": {"duplicates": "off", "boilerplate": False},
        }
        spec = parse_spec(values, base=self.home, name="docs.yaml")

        async def show(progress: Progress) -> None:
            if progress.done and progress.done % 2000 == 0:
                print(f"  {progress.done} of {progress.total} documents", file=sys.stderr, flush=True)

        report = await self.knowledge.ingest(caller(tenant), spec, show)
        assert not report.failed, report.failed[:3]
        return report.passages


async def measured(house: House, tenants: Sequence[str], asked: Sequence[str], bar: str) -> list[str]:
    """Lines of the table."""
    knowledge, embedder = house.knowledge, house.knowledge.embedder
    scopes = {tenant: IndexScope(TenantId(tenant), _COLLECTION, embedder.id) for tenant in set(tenants)}
    vectors = [(await embedder.embed([question], "query"))[0] for question in asked]
    terms = [tuple(dict.fromkeys(analyse(question, ("en",)))) for question in asked]
    contexts = [caller(tenant) for tenant in tenants]
    readers = contexts[0].readers
    lines = []

    async def search(number: int) -> None:
        found = await knowledge.search(contexts[number], asked[number], collection=_COLLECTION, limit=10)
        assert len(found) == 10, (tenants[number], asked[number])

    async def embed(number: int) -> None:
        await embedder.embed([asked[number]], "query")

    async def dense(number: int) -> None:
        await house.index.dense(scopes[tenants[number]], vectors[number], readers=readers, k=50)

    async def lexical(number: int) -> None:
        await house.index.lexical(scopes[tenants[number]], terms[number], readers=readers, k=50)

    for name, one, held in (
        ("search", search, bar),
        ("  the question's vector alone", embed, ""),
        ("  dense leg alone", dense, ""),
        ("  lexical leg alone", lexical, ""),
    ):
        await timed(min(20, len(asked)), one)
        lines.append(told(name, await timed(len(asked), one), held))
    return lines


async def hide_half(home: Path, whole: Path) -> None:
    """The world of `whole`, where others alone may read every other document; by rows, as an ingest leaves them."""
    shutil.copytree(whole, home)
    with sqlite3.connect(home / "registry.db") as sql:
        ids = [row[0] for row in sql.execute("SELECT id FROM knowledge_documents ORDER BY id")][::2]
        others = json.dumps(["group:others"])
        sql.executemany("UPDATE knowledge_documents SET readers = ? WHERE id = ?", [(others, each) for each in ids])
        sql.execute("UPDATE knowledge_collections SET revision = revision + 1")
    sql.close()
    index = SqliteIndex(home / "index")
    scope = IndexScope(TenantId("t0"), _COLLECTION, "")
    for document in ids:
        await index.set_readers(scope, DocumentId(document), frozenset({"group:others"}))
    await index.close()


def multiply(home: Path, first: str, tenants: Sequence[str]) -> None:
    """The documents of `first` for all others too, by rows and files: an ingest of each would take an hour."""
    with sqlite3.connect(home / "registry.db") as sql:
        names = [row[0] for row in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            columns = [row[1] for row in sql.execute(f"PRAGMA table_info({name})")]
            if "tenant" not in columns or not name.startswith("knowledge_"):
                continue
            others = ", ".join(f'"{column}"' for column in columns if column != "tenant")
            for tenant in tenants:
                sql.execute(
                    f"INSERT INTO {name} (tenant, {others}) SELECT ?, {others} FROM {name} WHERE tenant = ?",
                    (tenant, first),
                )
        sql.commit()
    for tenant in tenants:
        shutil.copyfile(home / "index" / f"{first}.sqlite", home / "index" / f"{tenant}.sqlite")


async def run(passages: int, tenants: int, questions: int, keep: Path | None) -> None:
    """Print the tables."""
    said, asked = said_and_asked()
    draw = random.Random(5)
    asked = draw.sample(asked, min(questions, len(asked)))
    models = Path(os.environ.get("INTERLOCK_MODELS_DIR") or default_models_dir())
    embedder = _Drawn(embedders.get("minilm").open(models, threads=1))
    async with AsyncExitStack() as stack:
        name = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-bench-")))
        for label, count in (("one", 1), ("half", 1), ("many", tenants)):
            if not count:
                continue
            home = Path(name) / label
            if label == "half" and not home.exists():
                await hide_half(home, Path(name) / "one")
            held = [f"t{number}" for number in range(count)]
            if not home.exists():
                home.mkdir(parents=True)
                house = House(home, embedder)
                await house.sql.migrate()
                await house.fill("t0", said, passages if label == "one" else 1000)
                await house.close()
                if label == "many":
                    multiply(home, "t0", held[1:])
            house = House(home, embedder)
            stack.push_async_callback(house.close)
            await house.sql.migrate()  # a world that an older version made
            stats = await house.index.stats(IndexScope(TenantId("t0"), _COLLECTION, embedder.id))
            hidden = ", half of them hidden" if label == "half" else ""
            print(
                f"\n{count} tenant{'s' * (count > 1)} of {stats.passages} passages{hidden}, asked one after the other"
            )
            bar = "bar 10 / 25" if label == "many" else "bar 60 / 110"
            for line in await measured(house, [draw.choice(held) for _ in asked], asked, bar):
                print(line, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--tenants", type=int, default=1000, help="0 leaves the second table out")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--keep", type=Path, help="make the world here and find it again the next time")
    given = parser.parse_args()
    asyncio.run(run(given.passages, given.tenants, given.questions, given.keep))


if __name__ == "__main__":
    main()
