"""What each step of a search that needs no model is worth, through the product: gains over the same search without it.

    INTERLOCK_DATA=… python -m benchmarks.steps [--only NAME …] [--limit N]

Documents are those of `benchmarks.knowledge`, ingested once. Gains are paired, 95 % intervals by bootstrap over the
questions. `typos`: every question with one slip in one word of five letters or more, by three fixed seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import multi_hop
from benchmarks.knowledge import (
    COLLECTION,
    CONTEXT_CHARACTERS,
    HOME,
    OWNER,
    _covered,
    _evidence_of,
    _rows,
    house,
    ingest,
)
from interlock.evals.judged import JudgedQuestion, read_beir, read_judged
from interlock.flows.evaluation_shelf import document_name
from interlock.flows.retrieval_eval import scored
from interlock.knowledge import KnowledgeService
from interlock.knowledge.retrieval.settings import PackingSettings, RetrievalSteps, parse_steps
from interlock.knowledge.settings import FusionSettings
from interlock.stats.bootstrap import paired_interval

ORDERINGS: Mapping[str, RetrievalSteps] = {
    "acronyms": parse_steps(["acronyms"]),
    "spelling": parse_steps(["spelling"]),
    **{f"mmr {share}": parse_steps([f"diversity.mmr={share}"]) for share in (0.5, 0.7, 0.9)},
    **{f"per_document {most}": parse_steps([f"diversity.per_document={most}"]) for most in (1, 2, 3)},
}
GRAPHS: Mapping[str, RetrievalSteps] = {
    **{f"graph {weight}": parse_steps([f"graph.weight={weight}"]) for weight in (0.3, 0.5, 0.8)},
    "graph 0.5, 2 hops": parse_steps(["graph.hops=2"]),
    "graph 0.5, 6 entities": parse_steps(["graph.entities=6"]),
}
SEEDS = (1, 2, 3)
DOCUMENT_WEIGHTS = (0.1, 0.2, 0.3)
_WORD = re.compile(r"[A-Za-z]{5,}")


def slipped(question: str, seed: int) -> str:
    """The question with one slip of the keyboard: two letters swapped, one lost, one doubled, or one wrong."""
    draw = random.Random(f"{seed}:{question}")
    words = list(_WORD.finditer(question))
    if not words:
        return question
    word = draw.choice(words)
    place = draw.randrange(word.start() + 1, word.end() - 1)
    kind = draw.choice(("swap", "lose", "double", "wrong"))
    a, b = question[place], question[place + 1]
    middle = {"swap": b + a, "lose": b, "double": a + a + b, "wrong": draw.choice("etaoinsrhl") + b}[kind]
    return question[:place] + middle + question[place + 2 :]


def told(name: str, step: str, new: Sequence[float], old: Sequence[float]) -> None:
    """One line of the table."""
    gain, interval = paired_interval(new, old)
    base, value = sum(old) / len(old), sum(new) / len(new)
    print(
        f"{name:<18} {step:<26} {base:.4f} → {value:.4f}  {gain:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
        f"  ({len(new)} questions)",
        flush=True,
    )


async def ndcgs(
    knowledge: KnowledgeService,
    questions: Sequence[JudgedQuestion],
    steps: RetrievalSteps | None = None,
    fusion: FusionSettings | None = None,
) -> list[float]:
    """nDCG@10 of each question."""
    run = scored(
        knowledge,
        questions,
        collection=COLLECTION,
        asker=lambda _: OWNER,
        steps=steps,
        fusion=fusion,
        named=document_name,
    )
    return [one.scores["ndcg@10"] async for one in run]


async def ranked(name: str, folder: Path, limit: int | None, *, typos_alone: bool) -> None:
    """Steps that change the ranking, by nDCG@10."""
    async with house(name) as knowledge:
        await ingest(knowledge, {"kind": "jsonl", "path": str(folder / "corpus.jsonl"), "id": "_id"}, name)
        questions = read_beir(folder)[:limit]
        plain = await ndcgs(knowledge, questions)
        for step, steps in () if typos_alone else ORDERINGS.items():
            if step.startswith("per_document"):
                continue  # documents count at their best passage: it changes nothing here
            told(name, step, await ndcgs(knowledge, questions, steps), plain)
        for weight in () if typos_alone else DOCUMENT_WEIGHTS:
            fusion = FusionSettings(document_weight=weight)
            told(name, f"document_weight {weight}", await ndcgs(knowledge, questions, fusion=fusion), plain)
        spoilt, mended = [0.0] * len(questions), [0.0] * len(questions)
        for seed in SEEDS:
            mistyped = [replace(question, text=slipped(question.text, seed)) for question in questions]
            for sums, steps in ((spoilt, None), (mended, ORDERINGS["spelling"])):
                for n, value in enumerate(await ndcgs(knowledge, mistyped, steps)):
                    sums[n] += value / len(SEEDS)
        told(name, "typos, not corrected", spoilt, plain)
        told(name, "typos, spelling", mended, spoilt)


async def hops(name: str, folder: Path, limit: int | None) -> None:
    """The graph, by the documents among the first that a question needs; on `benchmarks.multi_hop` it needs two."""
    is_made = name == "two_hops"
    if is_made:
        multi_hop.write(folder)
    async with house(name) as knowledge:
        await ingest(knowledge, {"kind": "jsonl", "path": str((folder / "corpus.jsonl").resolve()), "id": "_id"}, name)
        questions = (read_judged(folder / "questions.jsonl") if is_made else read_beir(folder))[:limit]
        figures = ("ndcg@10", "recall@10")
        plain = await several(knowledge, questions, None, figures)
        for step, steps in GRAPHS.items():
            gained = await several(knowledge, questions, steps, figures)
            for figure in figures:
                told(name, f"{step}: {figure}", gained[figure], plain[figure])


async def several(
    knowledge: KnowledgeService,
    questions: Sequence[JudgedQuestion],
    steps: RetrievalSteps | None,
    figures: Sequence[str],
) -> dict[str, list[float]]:
    """Figures of each question, of one run."""
    run = scored(
        knowledge,
        questions,
        collection=COLLECTION,
        asker=lambda _: OWNER,
        steps=steps,
        named=document_name,
    )
    rows = [one.scores async for one in run]
    return {figure: [row[figure] for row in rows] for figure in figures}


async def evidence(name: str, folder: Path, limit: int | None) -> None:
    """Steps that change the context, by the share of the evidence in 6,000 characters of it."""
    texts = HOME / name / "texts"
    texts.mkdir(parents=True, exist_ok=True)
    held: dict[str, str] = {}
    for row in _rows(folder / "corpus.jsonl"):
        held[f"{row['_id']}.txt"] = row["text"]
        path = texts / f"{row['_id']}.txt"
        if not path.exists():
            path.write_text(row["text"], "utf-8")
    asked = [(row["text"], list(_evidence_of(row, held))) for row in _rows(folder / "queries.jsonl")]
    asked = [(text, wanted) for text, wanted in asked if wanted]
    if limit is not None:
        asked = random.Random(7).sample(asked, min(limit, len(asked)))
    async with house(name) as knowledge:
        await ingest(knowledge, {"path": str(texts.resolve())}, name)

        async def shares(
            steps: RetrievalSteps | None = None, packing: PackingSettings | None = None, most: int = 40
        ) -> list[float]:
            found = []
            for text, wanted in asked:
                passages = await knowledge.search(OWNER, text, collection=COLLECTION, limit=most, steps=steps)
                context = await knowledge.evidence(
                    OWNER, passages, budget_tokens=CONTEXT_CHARACTERS, count_tokens=len, packing=packing
                )
                spans = [(p.source, p.span.start, p.span.end) for p in context]
                found.append(sum(_covered(place, spans) for place in wanted) / sum(e - s for _, s, e in wanted))
            return found

        plain = await shares()
        for step in (name for name in ORDERINGS if not name.startswith("acronyms")):
            told(name, step, await shares(ORDERINGS[step]), plain)
        for most, tokens in ((2, 3000), (3, 2000), (4, 1500), (5, 1200)):
            packing = PackingSettings(sections=True, section_tokens=tokens)
            told(name, f"best {most}, sections", await shares(packing=packing, most=most), plain)


async def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = Path(os.environ["INTERLOCK_DATA"]) / "retrieval"
    runs: dict[str, Callable[[int | None], Awaitable[None]]] = {
        "anthropic_docs": lambda limit: ranked(
            "anthropic_docs", sets / "anthropic_docs", limit, typos_alone=args.typos
        ),
        "two_hops": lambda limit: hops("two_hops", HOME / "two_hops" / "set", limit),
        "anthropic_docs graph": lambda limit: hops("anthropic_docs", sets / "anthropic_docs", limit),
        "scifact": lambda limit: ranked("scifact", sets / "scifact", limit, typos_alone=args.typos),
        "chunking_eval": lambda limit: evidence("chunking_eval", sets / "chunking_eval", limit),
        "covidqa_long": lambda limit: evidence("covidqa_long", sets / "covidqa_long", limit),
    }
    parser.add_argument("--only", nargs="*", choices=list(runs), default=list(runs))
    parser.add_argument("--limit", type=int, help="so many questions of a set, drawn with a fixed seed")
    parser.add_argument("--typos", action="store_true", help="of ranked sets, only the misspelt questions")
    args = parser.parse_args()
    for name in args.only:
        await runs[name](args.limit)


if __name__ == "__main__":
    asyncio.run(main())
