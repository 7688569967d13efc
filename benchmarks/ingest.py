"""How fast Markdown pages are taken in: whole, without the embedder's share, and looked at again unchanged.

    python -m benchmarks.ingest [--pages 2000] [--embedder minilm|words] [--executors inline,processes,ray]

Pages are 300 English words, drawn from this repository's own documentation. The embedder alone is timed on the same
passages in the same run, before and after each ingest, because a shared machine is not always as fast. Processes and
Ray start their workers within the time that is measured. `words` hashes words instead of running a model: what is left
is reading, cleaning, cutting and storing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from interlock.core.clock import Deadline
from interlock.core.context import Context, Principal, Role
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.ports import Embedder
from interlock.flows.scanning import DocumentScanner
from interlock.knowledge import KnowledgeService, KnowledgeSettings, parse_spec
from interlock.knowledge.embedders import embedders
from interlock.serving.service import default_models_dir
from interlock.stores.blob.files import FileBlobs
from interlock.stores.compute.base import ExecutorKind
from interlock.stores.compute.settings import ComputeSettings
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql
from interlock.testing.embedders import HashEmbedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[1]
_WORDS = 300
_SOME = 1_000
"""Passages that the embedder alone is timed on, before and after an ingest."""
_FOOTER = "This page belongs to the handbook. Ask its owner before you copy it, and tell them what is missing."


def write_pages(folder: Path, pages: int) -> None:
    """Pages of 300 English words under three headings, each with the same footer."""
    source = random.Random(7)
    # Words of no language are cut into three times as many tokens as those that pages are made of.
    said = " ".join(path.read_text("utf-8") for path in sorted((_ROOT / "docs").rglob("*.md")))
    vocabulary = re.findall(r"(?<![\w`/-])[a-z]{1,12}(?![\w`/-])", said)
    for number in range(pages):
        lines = [f"# Page {number}"]
        for part in range(3):
            sentences = [" ".join(source.choices(vocabulary, k=20)).capitalize() + "." for _ in range(_WORDS // 60)]
            lines += [f"## Part {part} of {number}", " ".join(sentences)]
        path = folder / f"{number % 100:02}" / f"{number}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n\n".join([*lines, _FOOTER]) + "\n", "utf-8")


class _Recording:
    """An embedder that remembers what it was given."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.id, self.dimensions, self.max_tokens = inner.id, inner.dimensions, inner.max_tokens
        self.texts: list[str] = []

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        self.texts += texts
        return await self._inner.embed(texts, kind)


async def measured(pages: int, embedder: str, executors: Sequence[ExecutorKind]) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as name:
        home = Path(name)
        (home / "pages").mkdir()
        write_pages(home / "pages", pages)
        models = Path(os.environ.get("INTERLOCK_MODELS_DIR") or default_models_dir())
        threads = os.cpu_count() or 1
        inner = (
            HashEmbedder(dimensions=384)
            if embedder == "words"
            else embedders.get("minilm").open(models, threads=threads)
        )
        await inner.embed(["the weights are loaded before anything is timed"], "query")
        settings = KnowledgeSettings(models=models, embedder_threads=threads)
        recording = _Recording(inner)
        for kind in executors:
            before = await _alone(inner, recording.texts[:_SOME]) if recording.texts else 0.0
            own = recording if kind == "inline" else inner if embedder == "words" else None
            wall = await _ingested(home, kind, pages, settings, own)
            if embedder == "minilm" and recording.texts:
                some = recording.texts[:_SOME]
                after = await _alone(inner, some)
                seconds = [one * len(recording.texts) / len(some) for one in (before, after) if one]
                alone = sum(seconds) / len(seconds)
                print(
                    f"{kind:<10} embedder alone {pages / alone:6.1f} pages/s: the ingest has {alone / wall:.0%} of it"
                )


async def _alone(embedder: Embedder, texts: Sequence[str]) -> float:
    """Seconds for texts, in the batches that an ingest makes."""
    began = time.perf_counter()
    for start in range(0, len(texts), 48):
        await embedder.embed(texts[start : start + 48], "passage")
    return time.perf_counter() - began


async def _ingested(
    home: Path, kind: ExecutorKind, pages: int, settings: KnowledgeSettings, embedder: Embedder | None
) -> float:
    """One ingest into new stores, and one more of the same files; gives the seconds of the first."""
    owner = Context(
        TenantId("bench"),
        Principal(PrincipalId("bench"), "service", frozenset({Role.OPERATOR})),
        deadline=Deadline.after(86_400),
    )
    values = {
        "collection": "pages",
        "sources": [{"path": "pages"}],
        "permissions": [{"match": "**", "readers": ["public"]}],
    }
    spec = parse_spec(values, base=home, name="pages.yaml")
    folder = home / kind
    folder.mkdir()
    sql = open_sql(f"sqlite:///{folder / 'registry.db'}")
    await sql.migrate()
    blobs, index = FileBlobs(folder / "blobs"), SqliteIndex(folder / "index")
    knowledge = KnowledgeService(
        sql,
        blobs,
        index,
        settings=settings,
        embedder=embedder,
        scanner=DocumentScanner(),
        compute=ComputeSettings(executor=kind),
    )
    first = 0.0
    try:
        for what in ("first", "unchanged"):
            wall, cpu = time.perf_counter(), time.process_time()
            report = await knowledge.ingest(owner, spec)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            first = first or wall
            print(
                f"{kind:<10} {what:<10} {pages / wall:8.1f} pages/s  {1000 * cpu / pages:6.2f} ms CPU a page here  "
                f"{report.passages} passages, {report.left_out} blocks left out, {len(report.failed)} failed",
                flush=True,
            )
    finally:
        await index.close()
        await blobs.close()
        await sql.close()
    return first


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--embedder", choices=["minilm", "words"], default="minilm")
    parser.add_argument("--executors", default="inline,processes,ray", help="which, in this order; inline first")
    given = parser.parse_args()
    asyncio.run(measured(given.pages, given.embedder, given.executors.split(",")))


if __name__ == "__main__":
    main()
