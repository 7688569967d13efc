"""What the check of legs does to public sets, and how near right and wrong questions come by themselves.

    INTERLOCK_DATA=… python -m benchmarks.legs [xquad-ar xquad-de xquad-zh scifact] [--scores]

Documents are those of `benchmarks.knowledge`, which embeds them where they are not there yet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.knowledge import COLLECTION, HOME, OWNER, house, ingest
from interlock.evals.judged import JudgedQuestion, read_beir
from interlock.flows.evaluation_shelf import document_name
from interlock.flows.retrieval_eval import ScoredQuestion, compared, scored, summed_up
from interlock.knowledge import KnowledgeService
from interlock.knowledge.settings import FusionSettings
from interlock.knowledge.types import SearchMode

SETS = ("xquad-ar", "xquad-de", "xquad-zh", "scifact")
NOBODYS = (
    "purple elephants juggle seventeen teapots on the moon", "what is the best pizza topping in town",
    "how do I reset my router password", "the quick brown fox jumps over the lazy dog",
    "cheap flights to lisbon next weekend", "lyrics of a song about rain and bicycles",
    "who won the chess match yesterday", "recipe for chocolate cake without eggs",
    "when does the train to the airport leave", "my cat refuses to wear a hat",
)  # fmt: skip


def corpus_of(name: str, sets: Path) -> Path:
    """The documents of a set; of XQuAD those of one language."""
    if not name.startswith("xquad"):
        return sets / name / "corpus.jsonl"
    path = HOME / name / "corpus.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in (sets / "xquad" / "corpus.jsonl").read_text("utf-8").splitlines()]
    kept = [row for row in rows if row["metadata"]["lang"] == name[-2:]]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), "utf-8")
    return path.resolve()


async def measure(name: str, sets: Path, *, with_scores: bool) -> None:
    """Print the figures of one set."""
    async with house(name) as knowledge:
        source = {"kind": "jsonl", "path": str(corpus_of(name, sets)), "id": "_id"}
        await ingest(knowledge, source, name)
        started = time.perf_counter()
        await ingest(knowledge, source, name)
        print(f"{name}: an ingest without changes {time.perf_counter() - started:.1f} s", flush=True)
        documents = {document_name(info.source) for info in await knowledge.documents(OWNER, collection=COLLECTION)}
        folder = sets / ("xquad" if name.startswith("xquad") else name)
        questions = [each for each in read_beir(folder) if set(each.relevant) & documents]
        if with_scores:
            await scores(knowledge, questions[:100], sets)
            return
        told = await knowledge.explain(OWNER, questions[0].text, collection=COLLECTION)
        print(f"  left out: {'; '.join(off.told(figures=True) for off in told.off) or 'nothing'}", flush=True)
        # A fusion that is named is taken with both legs.
        both = await run(knowledge, questions, fusion=FusionSettings())
        default = await run(knowledge, questions)
        for label, one in (
            ("both legs", both),
            ("default", default),
            ("words", await run(knowledge, questions, "lexical")),
        ):
            figure = next(each for each in summed_up(one) if each.name == "ndcg@10")
            low, high = figure.interval
            print(f"  {label:<10} {len(one)} questions, nDCG@10 {figure.value:.4f} [{low:.4f}, {high:.4f}]", flush=True)
        gains = compared(default, {one.id: one.scores for one in both})
        gain = next(each for each in gains if each.name == "ndcg@10")
        print(f"  default over both legs {gain.gain:+.4f} [{gain.interval.low:+.4f}, {gain.interval.high:+.4f}]")


async def run(
    knowledge: KnowledgeService,
    questions: Sequence[JudgedQuestion],
    mode: SearchMode = "hybrid",
    fusion: FusionSettings | None = None,
) -> list[ScoredQuestion]:
    """Search them all."""
    ran = scored(
        knowledge,
        questions,
        collection=COLLECTION,
        asker=lambda _: OWNER,
        mode=mode,
        fusion=fusion,
        named=document_name,
    )
    return [one async for one in ran]


async def scores(knowledge: KnowledgeService, questions: Sequence[JudgedQuestion], sets: Path) -> None:
    """Scores of right passages, and of the best for questions of another field and of nobody's."""
    right: list[float] = []
    for question in questions:
        found = await knowledge.search(OWNER, question.text, collection=COLLECTION, limit=10)
        right += [p.relevance or 0.0 for p in found if document_name(p.source) in question.relevant][:1]
    others = [question.text for question in read_beir(sets / "anthropic_docs")][:40]
    for label, values in (
        ("right", right),
        ("of another field", [await best(knowledge, text) for text in others]),
        ("nobody's", [await best(knowledge, text) for text in NOBODYS]),
    ):
        ordered = sorted(values)
        shown = " / ".join(
            f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.2f}" for share in (0.05, 0.5, 0.95)
        )
        print(f"  {label:<17} {len(values)}: {shown} (5th, 50th, 95th percentile)", flush=True)


async def best(knowledge: KnowledgeService, question: str) -> float:
    """The nearest of what is found."""
    found = await knowledge.search(OWNER, question, collection=COLLECTION, limit=5)
    return max((passage.relevance or 0.0 for passage in found), default=0.0)


async def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--scores", action="store_true")
    args = parser.parse_args()
    for name in args.sets:
        await measure(name, Path(os.environ["INTERLOCK_DATA"]) / "retrieval", with_scores=args.scores)


if __name__ == "__main__":
    asyncio.run(main())
