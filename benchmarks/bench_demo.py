"""How long a reader waits in the demo: to the first quote, and to the whole checked answer.

    make bench-demo
    python -m benchmarks.bench_demo [--limit N]

The model is warm, questions come one at a time. The extractive floor runs in the same session as the yardstick, so the
ratio holds on any machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform

from benchmarks.eval_demo import APP, WORKSPACE, extractive, run
from interlock.app import open_app
from interlock.cli.knowledge import ingest_collection
from interlock.evals.golden.judging import percentile, read_golden
from interlock.evals.golden.types import CaseOutcome


def line(label: str, outcomes: list[CaseOutcome]) -> tuple[float, float]:
    """Print one stack's figures; gives both 95th percentiles."""
    first = [o.first_quote_s for o in outcomes if o.first_quote_s is not None]
    whole = [o.seconds for o in outcomes]
    shares = (0.5, 0.95, 1.0)
    print(
        f"{label:18} first quote {' / '.join(f'{percentile(first, s):5.2f}' for s in shares)} s   "
        f"whole answer {' / '.join(f'{percentile(whole, s):5.2f}' for s in shares)} s   ({len(whole)} questions)"
    )
    return percentile(first, 0.95), percentile(whole, 0.95)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=60, help="questions a stack")
    options = parser.parse_args()
    cases = [c for c in read_golden(WORKSPACE / "apps" / APP / "evals" / "golden.jsonl") if c.answerable]
    cases = cases[: options.limit]
    async with open_app(WORKSPACE, flags={"gateway": {"detect": False}}) as app:
        for name in app.collections():
            await ingest_collection(app, name, quiet=True)
        await app.warm()
        release = app.parts.releases.live(APP)
        await run(app, release, cases[:1], "warm-up")
        local = await run(app, release, cases, "local stack")
        floor = await run(app, extractive(release), cases, "extractive only")
    load = os.getloadavg()[0]
    print(f"\n{os.cpu_count()} cores, {platform.machine()}, load {load:.1f}; p50 / p95 / most")
    _, whole = line("local stack", local)
    _, least = line("extractive only", floor)
    print(f"whole answer at p95: {whole / least:.1f} times the extractive floor")


if __name__ == "__main__":
    asyncio.run(main())
