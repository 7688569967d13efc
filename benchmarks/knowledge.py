"""The knowledge bars on public sets, through the product: its ingest, its index, its search.

    make bench-knowledge            # all of it; the first time embeds every passage, later ones only search
    INTERLOCK_DATA=… python -m benchmarks.knowledge [--only NAME …] [--json FILE]

Documents are ingested into `.interlock/benchmarks/knowledge` by the default settings and stay there for the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.code_search import code_set, plain_words
from interlock.core.clock import Deadline
from interlock.core.context import Context, Principal, Role
from interlock.core.ids import PrincipalId, TenantId
from interlock.evals.judged import JudgedQuestion, read_beir
from interlock.flows.evaluation_shelf import document_name
from interlock.flows.retrieval_eval import Comparison, Figure, ScoredQuestion, compared, scored, summed_up
from interlock.knowledge import KnowledgeService, KnowledgeSettings, parse_spec
from interlock.knowledge.retrieval.settings import FocusSettings, PackingSettings
from interlock.knowledge.types import Progress
from interlock.serving.service import default_models_dir
from interlock.stats.bootstrap import mean_interval, paired_interval
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql

HOME = Path(".interlock/benchmarks/knowledge")
CONTEXT_CHARACTERS = 6000
COLLECTION = "set"
OWNER = Context(
    TenantId("bench"),
    Principal(PrincipalId("bench"), "service", frozenset({Role.OPERATOR})),
    deadline=Deadline.after(86_400),
)


@dataclass(frozen=True)
class Bar:
    """One line of the table."""

    name: str
    figure: str
    value: float
    interval: tuple[float, float]
    least: float | None
    beside: str = ""

    def told(self) -> str:
        """For people."""
        met = (
            ""
            if self.least is None
            else ("  met" if self.value >= self.least else f"  MISSED (at least {self.least:g})")
        )
        low, high = self.interval
        return f"{self.name:<22} {self.figure:<28} {self.value:.4f} [{low:.4f}, {high:.4f}]{met}  {self.beside}"


@asynccontextmanager
async def house(name: str) -> AsyncIterator[KnowledgeService]:
    """A knowledge service over stores of its own."""
    home = HOME / name
    home.mkdir(parents=True, exist_ok=True)
    models = Path(os.environ.get("INTERLOCK_MODELS_DIR") or default_models_dir())
    settings = KnowledgeSettings(models=models, embedder_threads=os.cpu_count() or 1, reader="none")
    sql = open_sql(f"sqlite:///{home / 'registry.db'}")
    blobs, index = FileBlobs(home / "blobs"), SqliteIndex(home / "index")
    await sql.migrate()
    try:
        yield KnowledgeService(sql, blobs, index, settings=settings)
    finally:
        await index.close()
        await blobs.close()
        await sql.close()


async def ingest(knowledge: KnowledgeService, source: dict[str, Any], label: str) -> None:
    """Mirror one source, telling how far it is."""
    spec = parse_spec(
        {"collection": COLLECTION, "sources": [source], "permissions": [{"match": "**", "readers": ["public"]}]},
        base=Path.cwd(),
        name=label,
    )
    told = 0

    async def show(progress: Progress) -> None:
        nonlocal told
        if progress.total and progress.done * 10 // progress.total > told:
            told = progress.done * 10 // progress.total
            print(f"  {label}: {progress.done} of {progress.total} documents", file=sys.stderr, flush=True)

    report = await knowledge.ingest(OWNER, spec, show)
    assert not report.failed, report.failed[:3]


def _bar(name: str, figures: Sequence[Figure], wanted: str, least: float | None, beside: str = "") -> Bar:
    figure = next(each for each in figures if each.name == wanted)
    return Bar(name, wanted, figure.value, figure.interval, least, beside)


def _gain(comparisons: Sequence[Comparison], wanted: str, over: str) -> str:
    found = next(each for each in comparisons if each.name == wanted)
    return f"{found.gain:+.4f} [{found.interval.low:+.4f}, {found.interval.high:+.4f}] over {over}"


async def ranked(name: str, folder: Path, least: float) -> list[Bar]:
    """nDCG@10 of a BEIR set, beside the lexical leg alone."""
    async with house(name) as knowledge:
        await ingest(knowledge, {"kind": "jsonl", "path": str(folder / "corpus.jsonl"), "id": "_id"}, name)
        questions = read_beir(folder)
        hybrid = [one async for one in _scored(knowledge, questions, "hybrid")]
        lexical = [one async for one in _scored(knowledge, questions, "lexical")]
        gain = compared(hybrid, {one.id: one.scores for one in lexical})
        return [_bar(name, summed_up(hybrid), "ndcg@10", least, _gain(gain, "ndcg@10", "BM25"))]


# Any: a mode's name.
def _scored(knowledge: KnowledgeService, questions: Sequence[JudgedQuestion], mode: Any) -> AsyncIterator[Any]:
    return scored(knowledge, questions, collection=COLLECTION, asker=lambda _: OWNER, mode=mode, named=document_name)


async def evidence(name: str, folder: Path, least: float) -> list[Bar]:
    """Share of the evidence's characters in the best passages that fit 6,000 characters; and with `packing.focus`.

    The settings of `focus` were chosen on chunking_eval and on the half of covidqa_long's questions whose digest is
    even: the gain that is told is that of the other half.
    """
    texts = HOME / name / "texts"
    texts.mkdir(parents=True, exist_ok=True)
    held: dict[str, str] = {}
    for row in _rows(folder / "corpus.jsonl"):
        held[f"{row['_id']}.txt"] = row["text"]
        path = texts / f"{row['_id']}.txt"
        if not path.exists():
            path.write_text(row["text"], "utf-8")
    shares: list[float] = []
    focused: list[float] = []
    pairs: list[tuple[float, float]] = []
    packing = PackingSettings(focus=FocusSettings())
    async with house(name) as knowledge:
        await ingest(knowledge, {"path": str(texts.resolve())}, name)
        for row in _rows(folder / "queries.jsonl"):
            wanted = list(_evidence_of(row, held))
            if not wanted:
                continue
            found = await knowledge.search(OWNER, row["text"], collection=COLLECTION, limit=100)
            spans: list[tuple[str, int, int]] = []
            room = CONTEXT_CHARACTERS
            for passage in found:
                if len(passage.text) > room:
                    break
                room -= len(passage.text)
                spans.append((passage.source, passage.span.start, passage.span.end))
            total = sum(end - start for _, start, end in wanted)
            shares.append(sum(_covered(place, spans) for place in wanted) / total)
            packed = await knowledge.evidence(
                OWNER, found, budget_tokens=CONTEXT_CHARACTERS, count_tokens=len, packing=packing, question=row["text"]
            )
            places = [(passage.source, passage.span.start, passage.span.end) for passage in packed]
            focused.append(sum(_covered(place, places) for place in wanted) / total)
            if hashlib.sha256(str(row["_id"]).encode()).digest()[0] % 2:
                pairs.append((focused[-1], shares[-1]))
    gain, interval = paired_interval([new for new, _ in pairs], [old for _, old in pairs])
    beside = f"{gain:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] over without, the other half ({len(pairs)})"
    figure = "evidence in 6,000 characters"
    return [
        Bar(name, figure, sum(shares) / len(shares), mean_interval(shares), least),
        Bar(f"{name}, focus", figure, sum(focused) / len(focused), mean_interval(focused), None, beside),
    ]


# Any: rows of a foreign file.
def _evidence_of(row: dict[str, Any], held: dict[str, str]) -> Iterator[tuple[str, int, int]]:
    facts = row.get("metadata", {})
    for span in facts.get("spans", ()):
        yield f"{facts['corpus']}.txt", span["start_index"], span["end_index"]
    for answer, start in zip(row.get("answers") or (), facts.get("answer_start", ()), strict=False):
        source = next((name for name, text in held.items() if text[start : start + len(answer)] == answer), None)
        if source is not None:
            yield source, start, start + len(answer)


def _covered(place: tuple[str, int, int], spans: Sequence[tuple[str, int, int]]) -> int:
    source, start, end = place
    return sum(max(0, min(end, b) - max(start, a)) for name, a, b in spans if name == source)


async def languages(folder: Path) -> list[Bar]:
    """nDCG@10 of the lexical leg, one language at a time."""
    bars = []
    for code, least in (("zh", 0.96), ("ar", 0.94), ("de", 0.95)):
        name = f"xquad-{code}"
        home = HOME / name
        home.mkdir(parents=True, exist_ok=True)
        rows = [row for row in _rows(folder / "corpus.jsonl") if row["metadata"]["lang"] == code]
        corpus = home / "corpus.jsonl"
        corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        async with house(name) as knowledge:
            await ingest(knowledge, {"kind": "jsonl", "path": str(corpus.resolve()), "id": "_id"}, name)
            own = {row["_id"] for row in rows}
            questions = [
                question
                for question in read_beir(folder)
                if question.id.startswith(f"{code}-") and set(question.relevant) & own
            ]
            lexical = [one async for one in _scored(knowledge, questions, "lexical")]
            bars.append(_bar(name, summed_up(lexical), "ndcg@10", least, f"{len(questions)} questions, BM25 leg"))
    return bars


async def code() -> list[Bar]:
    """Functions of installed packages, found by the first sentence of their docstring, which was taken out of them."""
    name = "code"
    folder = code_set(HOME / name)
    async with house(name) as knowledge:
        await ingest(knowledge, {"path": str((folder / "functions").resolve())}, name)
        questions = read_beir(folder)
        hybrid = [one async for one in _scored(knowledge, questions, "hybrid")]
        lexical = [one async for one in _scored(knowledge, questions, "lexical")]
        plain = plain_words(folder, questions)
        by_words = {one.id: one.scores for one in plain}

        def over_plain(scores: Sequence[ScoredQuestion]) -> str:
            return _gain(compared(scores, by_words), "ndcg@10", "plain BM25")

        gain = next(each for each in compared(hybrid, by_words) if each.name == "ndcg@10")
        return [
            Bar(name, "ndcg@10 over plain BM25", gain.gain, gain.interval, 0.10, f"{len(questions)} questions"),
            _bar(name, summed_up(hybrid), "ndcg@10", None, over_plain(hybrid)),
            _bar(f"{name}, words alone", summed_up(lexical), "ndcg@10", None, over_plain(lexical)),
            _bar(f"{name}, plain BM25", summed_up(plain), "ndcg@10", None),
        ]


# Any: JSON rows.
def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        if line.strip():
            yield json.loads(line)


async def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = Path(os.environ["INTERLOCK_DATA"]) / "retrieval"
    runs = {
        "anthropic_docs": lambda: ranked("anthropic_docs", sets / "anthropic_docs", 0.81),
        "scifact": lambda: ranked("scifact", sets / "scifact", 0.73),
        "chunking_eval": lambda: evidence("chunking_eval", sets / "chunking_eval", 0.91),
        "covidqa_long": lambda: evidence("covidqa_long", sets / "covidqa_long", 0.79),
        "xquad": lambda: languages(sets / "xquad"),
        "code": code,
    }
    parser.add_argument("--only", nargs="*", choices=list(runs), default=list(runs))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bars: list[Bar] = []
    for name in args.only:
        for bar in await runs[name]():
            print(bar.told(), flush=True)
            bars.append(bar)
    if args.json is not None:
        args.json.write_text(json.dumps([bar.__dict__ for bar in bars], indent=1))


if __name__ == "__main__":
    asyncio.run(main())
