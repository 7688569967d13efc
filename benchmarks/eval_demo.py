"""The golden set of the demo through the default local stack, beside the extractive-only floor.

    make eval-demo
    python -m benchmarks.eval_demo [--json FILE] [--limit N] [--sentences FILE] [--no-floor]

Every rate comes with its 95 % interval (Wilson's; exact for leaks). `--sentences` writes every cited sentence of the
final answers with its quote, for labelling by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from interlock.app import App, open_app
from interlock.cli.knowledge import ingest_collection
from interlock.core.release import Release
from interlock.evals.golden.judging import percentile, rates, read_golden
from interlock.evals.golden.types import Case, CaseOutcome
from interlock.flows.evaluate import run_golden
from interlock.releases.service import manifest_of

WORKSPACE = Path(__file__).parent.parent / "examples" / "handbook"
APP = "handbook"


def extractive(release: Release) -> Release:
    """The same app without a model."""
    components = {**release.components, "route": {**release.components["route"], "targets": ["extractive"]}}
    release_id, manifest = manifest_of(components)
    return replace(release, id=release_id, components=components, digests=manifest)


async def run(app: App, release: Release, cases: Sequence[Case], label: str) -> list[CaseOutcome]:
    """Ask every question, one after the other."""
    outcomes: list[CaseOutcome] = []
    async for outcome in run_golden(app.parts, release, cases):
        outcomes.append(outcome)
        if len(outcomes) % 20 == 0:
            print(f"  {label}: {len(outcomes)} of {len(cases)}", flush=True)
    return outcomes


def show(columns: dict[str, list[CaseOutcome]]) -> None:
    """One line a rate, one column a stack."""
    names = [rate.name for rate in rates(next(iter(columns.values())))]
    tables = {label: {rate.name: rate for rate in rates(outcomes)} for label, outcomes in columns.items()}
    print("\n" + f"{'':44}" + "".join(f"{label:>34}" for label in columns))
    for name in names:
        line = f"{name:44}"
        for label in columns:
            rate = tables[label].get(name)
            if rate is None:
                line += " " * 34
                continue
            low, high = rate.interval
            line += f"{rate.successes:>6}/{rate.trials:<4} {rate.value:6.1%} [{low:5.1%}, {high:6.1%}]"
        print(line)
    for what, values in (
        ("first quote", {label: [o.first_quote_s for o in outs if o.first_quote_s] for label, outs in columns.items()}),
        ("whole answer", {label: [o.seconds for o in outs] for label, outs in columns.items()}),
    ):
        for share in (0.5, 0.95):
            line = f"{f'{what}, p{int(share * 100)}, seconds':44}"
            print(line + "".join(f"{percentile(v, share):>34.2f}" for v in values.values() if v))


def write_sentences(outcomes: Sequence[CaseOutcome], path: Path) -> None:
    """Every cited sentence with its quotes."""
    with path.open("w", encoding="utf-8") as out:
        for outcome in outcomes:
            for sentence in outcome.answer.sentences if outcome.answer else ():
                if sentence.citations:
                    row = {
                        "id": outcome.case.id,
                        "question": outcome.case.question,
                        "sentence": sentence.text,
                        "origin": sentence.origin,
                        "quotes": [c.quote for c in sentence.citations],
                        "sources": [c.source for c in sentence.citations],
                    }
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")


async def main() -> None:
    """Run both stacks and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every outcome here")
    parser.add_argument("--limit", type=int, help="only the first N questions")
    parser.add_argument("--sentences", type=Path, help="write cited sentences here")
    parser.add_argument("--no-floor", action="store_true", help="leave the extractive-only floor out")
    options = parser.parse_args()
    cases = read_golden(WORKSPACE / "apps" / APP / "evals" / "golden.jsonl")[: options.limit]
    # The figures are those of the local stack, whatever keys or servers this machine has.
    async with open_app(WORKSPACE, flags={"gateway": {"detect": False}}) as app:
        for name in app.collections():
            await ingest_collection(app, name, quiet=True)
        await app.warm()
        release = app.parts.releases.live(APP)
        columns = {"local stack": await run(app, release, cases, "local stack")}
        if not options.no_floor:
            columns["extractive only"] = await run(app, extractive(release), cases, "extractive only")
    show(columns)
    if options.sentences:
        write_sentences(columns["local stack"], options.sentences)
    if options.json:
        rows = [
            {
                "stack": label,
                "id": o.case.id,
                "kind": o.case.kind,
                "question": o.case.question,
                "outcome": o.answer.outcome if o.answer else o.error,
                "answerability": o.answer.answerability if o.answer else None,
                "answer": o.answer.text if o.answer else "",
                "gold": [g.model_dump() for g in o.case.gold],
                "cited": [[c.source, c.quote] for c in o.answer.citations] if o.answer else [],
                "passages": [p.source for p in o.answer.passages] if o.answer else [],
                **o.judgement._asdict(),
                "seconds": round(o.seconds, 3),
                "first_quote_s": o.first_quote_s,
            }
            for label, outcomes in columns.items()
            for o in outcomes
        ]
        options.json.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
