"""How soon everybody is served by the control again, once harm is proven: real servers, real traffic.

``python -m benchmarks.rollback [--workers 2] [--callers 60] [--rounds 3]``

A server with several workers serves an app whose channel is under a rollout at 50 %. Callers, each a conversation of
its own, ask on and on; the candidate fails every third of its questions. The workers look once a second, prove the harm
and roll back by themselves. Printed for every round: seconds from the start to the proof, and from the proof (as the
rollout's own record dates it) to the last request that the candidate was given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

SCRIPT = [
    {"match_system": "terse", "match": "[147]$", "fail_status": 500},
    {"match": "", "reply": "It is {question}"},
]
SPEC = {
    "steps": [50],
    "min_units": 20,
    "check_every_s": 1,
    "guardrails": [{"measure": "error", "margin": 0.1}],
    "stops": [],
}


class Seen(NamedTuple):
    """One answer."""

    sent_at: float
    release: str


def _cli(workspace: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "interlock", "--workspace", str(workspace), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _workspace(folder: Path, workers: int) -> tuple[str, str]:
    """A workspace with a control in prod and a candidate; gives their ids."""
    write_workspace(
        folder,
        settings={
            "gateway": {"providers": {"scripted": {"kind": "scripted", "script": SCRIPT}}, "detect": False},
            "server": {"workers": workers},
        },
        apps={"helper": {"route": {"targets": ["scripted/m"]}, "rollout": SPEC}},
        prompt="Be kind.",
    )
    control = _cli(folder, "release", "build", "--app", "helper", "--channel", "prod")["id"]
    (folder / "apps" / "helper" / "prompt.md").write_text("Be terse.")
    return control, _cli(folder, "release", "build", "--app", "helper")["id"]


async def _ask_on(url: str, caller: int, stop: asyncio.Event, seen: list[Seen]) -> None:
    headers = {"x-interlock-conversation": f"conversation-{caller}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        number = 0
        while not stop.is_set():
            number += 1
            sent = time.time()
            body = {"model": "app/helper@prod", "messages": [{"role": "user", "content": f"question {number}"}]}
            reply = await client.post("/v1/chat/completions", json=body)
            seen.append(Seen(sent, reply.headers.get("x-interlock-release", "")))
            await asyncio.sleep(0.02)


async def round_trip(folder: Path, workers: int, callers: int) -> tuple[float, float, int]:
    """Seconds to the proof, from it to the last request of the candidate, and how many it was given after the proof."""
    _, candidate = await asyncio.to_thread(_workspace, folder, workers)
    server = run_server(folder)
    running = await asyncio.to_thread(server.__enter__)
    stop = asyncio.Event()
    seen: list[Seen] = []
    try:
        words = ("rollout", "start", candidate, "--app", "helper", "--channel", "prod")
        rollout = await asyncio.to_thread(_cli, folder, *words)
        began = time.time()
        async with asyncio.TaskGroup() as group:
            for caller in range(callers):
                group.create_task(_ask_on(running.url, caller, stop, seen))
            for _ in range(120):
                await asyncio.sleep(0.5)
                state = await asyncio.to_thread(_cli, folder, "rollout", "show", rollout["id"])
                if state["state"] != "canary":
                    break
            await asyncio.sleep(3.0)
            stop.set()
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
    if state["state"] != "rolled_back":
        raise SystemExit(f"the rollout is {state['state']}: {state['reason']}")
    proven = next(datetime.fromisoformat(each["at"]) for each in state["history"] if each["action"] == "roll_back")
    late = [each.sent_at for each in seen if each.release == candidate and each.sent_at > proven.timestamp()]
    return proven.timestamp() - began, max(late, default=proven.timestamp()) - proven.timestamp(), len(late)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--callers", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(words)
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory(prefix="rollback-") as folder:
            proof, last, late = asyncio.run(round_trip(Path(folder) / "house", given.workers, given.callers))
        print(
            f"round {number + 1}: proven after {proof:.1f} s; the candidate's last request {last:.3f} s later ({late})",
            flush=True,
        )


if __name__ == "__main__":
    main()
