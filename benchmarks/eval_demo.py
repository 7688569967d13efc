"""The handbook's golden set through the whole product: what is cited, what is right, what is declined, how fast.

    INTERLOCK_MODELS=… python -m benchmarks.eval_demo [--extractive] [--limit 20] [--json] [--out FILE.jsonl]

`INTERLOCK_MODELS` is the folder with `minilm-l6-int8/` and `smollm2-135m-instruct/`. The example is copied to
`.interlock/benchmarks/handbook`, ingested there, and each question is asked as its user through `App.chat`, one at a
time. Providers are not detected, so that the figures are those of the built-in model. `--extractive` quotes only: the
floor. `--out` writes every cited sentence with its quote for labelling.

A gold passage counts as cited when a citation points into its document and the cited text overlaps the gold quote
(white space and cell separators aside). A leak is any passage, citation or quote of a document that the user may not
read. Every share comes with its 95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from interlock.app import App, open_app
from interlock.cli.knowledge import ingest_collection
from interlock.core.answers import Answer, Quote
from interlock.core.messages import ChatRequest, text_message
from interlock.stats.intervals import wilson

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "handbook"
WORK = Path(".interlock/benchmarks/handbook")
GOLDEN = EXAMPLE / "apps" / "handbook" / "evals" / "golden.jsonl"


@dataclass
class Asked:
    """One question and what came back."""

    case: dict[str, Any]
    answer: Answer
    sources_seen: set[str]
    quote_s: float | None
    total_s: float
    facts: bool = field(init=False)
    cited: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        text = self.answer.text.casefold()
        self.facts = all(any(form.casefold() in text for form in forms) for forms in self.case["facts"])
        self.cited = [
            any(c.source == gold["document"] and overlaps(c.quote, gold["quote"]) for c in self.answer.citations)
            for gold in self.case["gold"]
        ]

    @property
    def declined(self) -> bool:
        return self.answer.outcome == "declined"


def plain(text: str) -> str:
    """Text without cell separators and runs of white space."""
    return " ".join(text.replace("|", " ").split())


def overlaps(quote: str, gold: str) -> bool:
    """True when one holds the other, or the longer part of it."""
    a, b = plain(quote), plain(gold)
    return a in b or b in a or a[:60] in b or b[:60] in a


def prepare(extractive: bool) -> Path:
    """A fresh copy of the example's files; what was ingested before is kept."""
    root = WORK / ("extractive" if extractive else "generated")
    root.mkdir(parents=True, exist_ok=True)
    for name in ("documents", "knowledge", "apps", "policies"):
        shutil.rmtree(root / name, ignore_errors=True)
        if (EXAMPLE / name).exists():
            shutil.copytree(EXAMPLE / name, root / name)
    shutil.copy(EXAMPLE / "users.yaml", root / "users.yaml")
    (root / "interlock.yaml").write_text("tenant: handbook\naccess: {users: users.yaml}\ngateway: {detect: false}\n")
    file = root / "apps" / "handbook" / "app.yaml"
    app = yaml.safe_load(file.read_text())
    app["route"]["targets"] = ["extractive"] if extractive else ["local/smollm2-135m-instruct"]
    file.write_text(yaml.safe_dump(app))
    return root


async def ask(app: App, case: dict[str, Any]) -> Asked:
    """Ask one golden question as its user."""
    ctx = app.parts.access.act_as(app.owner(), case["as"])
    request = ChatRequest("app/handbook", (text_message("user", case["question"]),), stream=True)
    release = await app.resolve(ctx, request.model)
    began = time.perf_counter()
    quote_s: float | None = None
    answer: Answer | None = None
    seen: set[str] = set()
    async with aclosing(app.chat(ctx, request, release)) as events:
        async for event in events:
            if isinstance(event, Quote):
                quote_s = quote_s or time.perf_counter() - began
                seen.add(event.citation.source)
            elif isinstance(event, Answer):
                answer = event
    assert answer is not None, "an answer stream ends with its answer"
    seen |= {c.source for c in answer.citations} | {p.source for p in answer.passages}
    return Asked(case, answer, seen, quote_s, time.perf_counter() - began)


def readable(app: App, user: str) -> set[str]:
    """Documents the user may read, by the collection's own rules."""
    from fnmatch import fnmatchcase

    rules = yaml.safe_load((EXAMPLE / "knowledge" / "handbook.yaml").read_text())["permissions"]
    people = yaml.safe_load((EXAMPLE / "users.yaml").read_text())["users"]
    own = {"public", *(f"group:{g}" for p in people if p["id"] == user for g in p["groups"])}
    files = [p.relative_to(EXAMPLE / "documents").as_posix() for p in (EXAMPLE / "documents").rglob("*") if p.is_file()]
    return {f for f in files if own & set(next((r["readers"] for r in rules if fnmatchcase(f, r["match"])), ()))}


def share(hits: Sequence[bool]) -> list[float]:
    """Hits, trials, rate and its Wilson interval."""
    low, high = wilson(sum(hits), len(hits))
    return [sum(hits), len(hits), round(sum(hits) / max(1, len(hits)), 4), round(low, 4), round(high, 4)]


def percentile(values: Sequence[float], p: float) -> float:
    """The value below which a share `p` lies, by nearest rank."""
    ranked = sorted(values)
    return round(ranked[min(len(ranked) - 1, int(p * len(ranked)))], 2) if ranked else 0.0


def report(rows: Sequence[Asked], leaks: Sequence[str]) -> dict[str, Any]:
    """All figures."""
    yes = [r for r in rows if r.case["answerable"]]
    sentences = [s for r in rows for s in r.answer.sentences if s.origin != "notice"]
    quotes = [r.quote_s for r in rows if r.quote_s is not None]
    written = ("generated", "repaired")
    return {
        "questions": len(rows),
        "gold cited (any passage)": share([any(r.cited) for r in yes]),
        "gold cited (all passages)": share([all(r.cited) for r in yes]),
        "facts correct": share([r.facts and not r.declined for r in yes]),
        "answerable declined": share([r.declined for r in yes]),
        "unanswerable declined": share([r.declined for r in rows if r.case["kind"] == "unanswerable"]),
        "restricted declined": share([r.declined for r in rows if r.case["kind"] == "restricted"]),
        "restricted fact shown": share([r.facts for r in rows if r.case["kind"] == "restricted"]),
        "leaks": list(leaks),
        "answered by the model (answerable)": share(
            [any(s.origin in written for s in r.answer.sentences) for r in yes]
        ),
        "answered by the model, gold cited": share(
            [any(r.cited) and any(s.origin in written for s in r.answer.sentences) for r in yes]
        ),
        "sentences by origin": {o: sum(s.origin == o for s in sentences) for o in (*written, "extracted")},
        "outcomes": {o: sum(r.answer.outcome == o for r in rows) for o in (*written, "extracted", "declined")},
        "first quote s (p50, p95)": [percentile(quotes, 0.5), percentile(quotes, 0.95)],
        "whole answer s (p50, p95)": [percentile([r.total_s for r in rows], p) for p in (0.5, 0.95)],
        "wrong": [
            {
                "id": r.case["id"],
                "what": "declined" if r.declined else "not cited" if r.case["answerable"] else "answered",
                "answerability": round(r.answer.answerability, 3),
                "question": r.case["question"],
                "answer": r.answer.text[:160],
            }
            for r in rows
            if (not any(r.cited) if r.case["answerable"] else not r.declined)
        ],
    }


def write_sentences(rows: Sequence[Asked], path: Path) -> None:
    """Every cited sentence with its quote, one a line."""
    with path.open("w", encoding="utf-8") as file:
        for r in rows:
            for s in r.answer.sentences:
                for c in s.citations:
                    line = {
                        "id": r.case["id"], "question": r.case["question"], "sentence": s.text, "origin": s.origin,
                        "source": c.source, "quote": c.quote, "span": [c.span.start, c.span.end],
                    }  # fmt: skip
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """Ingest, ask everything, measure."""
    cases = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    if args.limit:
        cases = cases[:: max(1, len(cases) // args.limit)]
    rows: list[Asked] = []
    leaks: list[str] = []
    flags = {"models_dir": str(Path(os.environ["INTERLOCK_MODELS"]).resolve())}
    async with open_app(prepare(args.extractive), flags=flags) as app:
        await ingest_collection(app, "handbook", quiet=True)
        await app.warm()
        for case in cases:
            row = await ask(app, case)
            rows.append(row)
            leaks += [f"{case['id']}: {source}" for source in row.sources_seen - readable(app, case["as"])]
    if args.out:
        write_sentences(rows, Path(args.out))
    return report(rows, leaks)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractive", action="store_true")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out")
    args = parser.parse_args()
    figures = asyncio.run(run(args))
    if args.json:
        print(json.dumps(figures, ensure_ascii=False, indent=1))
        return
    for name, value in figures.items():
        if name == "wrong":
            for row in value:
                print("   ", row)
        elif isinstance(value, list) and len(value) == 5:
            print(f"{name:<38} {value[0]:>4} of {value[1]:<4} {value[2]:.1%}  [{value[3]:.1%}, {value[4]:.1%}]")
        else:
            print(f"{name:<38} {value}")


if __name__ == "__main__":
    main()
