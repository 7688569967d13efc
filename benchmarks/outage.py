"""A provider that fails 30 % of its calls in every way, and a healthy one behind it: what do users notice?

``python -m benchmarks.outage [--requests 2000] [--share 0.3]``

One real server, two upstreams on loopback. The flaky one answers the given share of calls with a status (429, 500,
503), a cut connection, silence, a malformed stream, or a stream that breaks off after its first words. The route
retries once, then falls back. Printed for answers taken whole and for streams: the share that ended well, how the
others ended, and the latency beside that of the same drill with an upstream that is well.

A stream that broke off after its first words cannot be taken back, by anybody: those are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from interlock.stats.intervals import wilson
from interlock.testing.servers import run_server
from interlock.testing.upstream import FakeUpstream, Reply, fake_upstream
from interlock.testing.wires import OpenAIWire
from interlock.testing.workspaces import write_workspace

__all__ = ["FAULTS", "Report", "drill"]

_WIRE = OpenAIWire()
_GOOD = Reply(_WIRE.answer(["All ", "is ", "well."]))
FAULTS: dict[str, Reply] = {
    "rate limit": Reply([b'{"error": {"message": "slow down"}}'], status=429, headers={"retry-after": "0"}),
    "server error": Reply([b"oops"], status=500),
    "unavailable": Reply([b"{}"], status=503),
    "reset": Reply([], then="break off"),
    "stall": Reply(silent_first=True),
    "malformed": Reply([b"data: {not json\n\n"]),
    "mid-stream": Reply(_WIRE.answer(["All ", "is ", "well."])[:2], then="break off"),
}


@dataclass
class Report:
    """What callers of one drill saw."""

    requests: int
    good: int
    broken_off: int
    """Streams that ended after their first words."""
    errors: dict[str, int]
    faults: int
    """Faulty answers that the flaky upstream gave."""
    charged: int
    """Rows in the ledger."""
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def success(self) -> float:
        """Share of requests that ended well, of those that could."""
        return self.good / (self.requests - self.broken_off)


def _replies(requests: int, share: float, seed: int, breaker: bool) -> list[Reply]:
    """Enough answers for every request and its retry, faulty ones of every kind at the given share."""
    draw = random.Random(seed)
    kinds = [reply for reply in FAULTS.values() if breaker or reply.status != 429]
    count = requests * 3 + 10
    faulty = [kinds[n % len(kinds)] for n in range(round(count * share))]
    replies = [*faulty, *[_GOOD] * (count - len(faulty))]
    draw.shuffle(replies)
    return replies


async def drill(
    requests: int,
    *,
    share: float = 0.3,
    stream: bool = False,
    breaker: bool = True,
    concurrency: int = 16,
    seed: int = 1,
) -> Report:
    """Send `requests` calls through a server in front of a flaky and a healthy upstream.

    Args:
        breaker: False keeps asking the flaky one, however often it fails: no breaker, and no 429, whose sender is left
            alone for a while as well.
    """
    async with fake_upstream() as flaky, fake_upstream() as healthy, _server(flaky, healthy, breaker) as client:
        healthy.will(_GOOD)
        flaky.will(_GOOD)
        # The first call opens connections and loads the price list, which no drill is about.
        await _ask(client, stream)
        flaky.will(*_replies(requests, share, seed, breaker))
        before = len(flaky.replies)
        turns = asyncio.Semaphore(concurrency)
        seconds: list[float] = []
        errors: Counter[str] = Counter()

        async def one() -> str:
            async with turns:
                began = time.perf_counter()
                outcome = await _ask(client, stream)
                seconds.append(time.perf_counter() - began)
            if outcome not in {"good", "broken off"}:
                errors[outcome] += 1
            return outcome

        outcomes = Counter(await asyncio.gather(*(one() for _ in range(requests))))
        used = before - len(flaky.replies)
        spend = (await client.get("/api/v1/spend", params={"by": "provider"})).json()["data"]
        charged = sum(row["calls"] for row in spend) - 1
        faults = sum(reply is not _GOOD for reply in _replies(requests, share, seed, breaker)[:used])
    seconds.sort()

    def at(quantile: float) -> float:
        return round(1000 * seconds[min(len(seconds) - 1, math.ceil(quantile * len(seconds)) - 1)], 1)

    return Report(
        requests=requests,
        good=outcomes["good"],
        broken_off=outcomes["broken off"],
        errors=dict(errors),
        faults=faults,
        charged=charged,
        p50_ms=at(0.5),
        p95_ms=at(0.95),
        p99_ms=at(0.99),
    )


async def _ask(client: httpx2.AsyncClient, stream: bool) -> str:
    body = {"model": "route/answers", "messages": [{"role": "user", "content": "How are you?"}], "stream": stream}
    if not stream:
        answer = await client.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            return str(answer.json()["error"]["code"])
        return "good" if answer.json()["choices"][0]["message"]["content"] == "All is well." else "wrong text"
    text, code = "", ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            return str(json.loads(await answer.aread())["error"]["code"])
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                code = event["error"]["code"] if "error" in event else code
                for choice in event.get("choices", ()):
                    text += choice["delta"].get("content") or ""
    if code:
        return "broken off" if text else code
    return "good" if text == "All is well." else "wrong text"


@asynccontextmanager
async def _server(flaky: FakeUpstream, healthy: FakeUpstream, breaker: bool) -> AsyncIterator[httpx2.AsyncClient]:
    def provider(upstream: FakeUpstream) -> dict[str, object]:
        return {"kind": "openai", "base_url": upstream.url, "api_key_env": "DRILL_KEY", "idle_timeout_s": 3}

    route = {"targets": ["flaky/gpt-4.1-mini", "healthy/gpt-4.1-mini"], "retries": 1, "first_token_timeout_s": 3}
    with tempfile.TemporaryDirectory() as folder:
        workspace = write_workspace(
            Path(folder) / "workspace",
            settings={
                "gateway": {
                    "providers": {"flaky": provider(flaky), "healthy": provider(healthy)},
                    "routes": {"answers": route},
                    **({} if breaker else {"breaker": {"failures": 100_000, "failure_rate": 1.0}}),
                }
            },
        )
        server = run_server(workspace, environ={"DRILL_KEY": "sk-drill"})
        running = await asyncio.to_thread(server.__enter__)
        try:
            async with httpx2.AsyncClient(base_url=running.url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


async def _main(requests: int, share: float) -> None:
    columns = ["answers", "faulty", "breaker", "met", "success", "95 % Wilson", "broken off", "p50", "p95", "p99 ms"]
    print(" | ".join(columns))
    for stream in (False, True):
        for faulty, breaker in ((0.0, True), (share, True), (share, False)):
            report = await drill(requests, share=faulty, stream=stream, breaker=breaker)
            low, high = wilson(report.good, report.requests - report.broken_off)
            row = [
                "streams" if stream else "whole",
                f"{faulty:.0%}",
                "on" if breaker else "off",
                report.faults,
                f"{report.success:.2%}",
                f"{low:.2%} to {high:.2%}",
                report.broken_off,
                report.p50_ms,
                report.p95_ms,
                report.p99_ms,
                report.errors or "",
            ]
            print(" | ".join(str(cell) for cell in row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.3)
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.requests, arguments.share))
