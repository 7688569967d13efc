"""What an answer that arrived guarantees, checked by killing a real server at random moments under load."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx2
import pytest

from interlock.app import open_app
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

ROUNDS = 4
LIMIT = 4000
_MODEL = "gpt-4.1-mini"

# A provider in a process of its own: slow enough that kills meet calls in every state.
UPSTREAM = """
import asyncio, json, random, sys

async def serve(reader, writer):
    try:
        while await reader.readline():
            length = 0
            while (line := await reader.readline()) not in (b"\\r\\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = json.loads(await reader.readexactly(length))
            usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
            base = {"id": "c", "created": 1, "model": body["model"]}
            await asyncio.sleep(random.random() * 0.03)
            if body.get("stream"):
                writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n")
                writer.write(b"transfer-encoding: chunked\\r\\n\\r\\n")
                events = [{"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}] * 5
                events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
                events += [{"choices": [], "usage": usage}]
                texts = [json.dumps({**base, "object": "chat.completion.chunk", **event}) for event in events]
                for text in [*texts, "[DONE]"]:
                    piece = f"data: {text}\\n\\n".encode()
                    writer.write(f"{len(piece):x}\\r\\n".encode() + piece + b"\\r\\n")
                    await writer.drain()
                    await asyncio.sleep(random.random() * 0.008)
                writer.write(b"0\\r\\n\\r\\n")
            else:
                message = {"role": "assistant", "content": "word " * 5}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                answer = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
                answer = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\n")
                writer.write(f"content-length: {len(answer)}\\r\\n\\r\\n".encode() + answer)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def upstream(tmp_path):
    script = tmp_path / "upstream.py"
    script.write_text(UPSTREAM)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.kill()


class Callers:
    """Ask again and again, streams and whole answers, and remember what arrived."""

    def __init__(self, url, key):
        self.url, self.key = url, key
        self.sent = 0
        self.whole, self.heads = [], []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._go, args=(at % 2 == 0,)) for at in range(6)]

    def _go(self, stream):
        with httpx2.Client(base_url=self.url, timeout=30, trust_env=False) as http:
            while not self.stop.is_set():
                try:
                    self._ask(http, stream)
                except httpx2.HTTPError:
                    return

    def _ask(self, http, stream):
        asked = {"model": "route/r", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        with self.lock:
            self.sent += 1
        headers = {"authorization": f"Bearer {self.key}"}
        with http.stream("POST", "/v1/chat/completions", json=asked, headers=headers) as response:
            trace = response.headers["x-interlock-trace-id"]
            assert response.status_code == 200
            with self.lock:
                self.heads.append(trace)
            text = b"".join(response.iter_bytes())
        if stream:
            assert text.endswith(b"data: [DONE]\n\n")
        with self.lock:
            self.whole.append(trace)


def _until_the_lane_is(lane, url, whole):
    """The path that the name of the test says is the one that is taken."""
    for _ in range(400):
        found = httpx2.get(f"{url}/api/v1/traces/{whole[-1]}", timeout=30, trust_env=False)
        if found.status_code == 200:
            root = next(span for span in found.json()["spans"] if span["parent_id"] is None)
            if bool(root["attributes"].get("interlock.lane")) == lane:
                return
        time.sleep(0.02)
    raise AssertionError("no call took the path that is meant")


@pytest.mark.parametrize("wait", [False, True], ids=["group commit", "wait for ledger"])
@pytest.mark.parametrize("lane", [True, False], ids=["lane", "ordinary"])
@pytest.mark.timeout(300)
def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path, upstream, lane, wait):
    settings = {
        "gateway": {
            "providers": {"up": {"kind": "openai", "base_url": upstream, "api_key_env": "FAKE", "models": [_MODEL]}},
            "routes": {"r": {"targets": [f"up/{_MODEL}"], "retries": 0, "max_output_tokens": 50}},
        },
        "cost": {
            "limits": [{"name": "all", "requests": LIMIT, "window": "1h"}],
            "prices": {"up/*": {"input_per_million": "1", "output_per_million": "2"}},
            "wait_for_ledger": wait,
        },
        "server": {"fast_lane": lane},
    }
    workspace = write_workspace(tmp_path / "w", settings=settings)
    command = [sys.executable, "-m", "interlock", "-w", str(workspace), "keys", "create", "k", "--json"]
    key = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["secret"]
    dice = random.Random(20261122)
    whole, heads, sent = [], [], 0
    for round_ in range(ROUNDS):
        with run_server(workspace, environ={"FAKE": "x"}) as server:
            callers = Callers(server.url, key)
            for thread in callers.threads:
                thread.start()
            while len(callers.whole) < 12:
                time.sleep(0.005)
            if round_ == 0:
                # The lane leaves calls that wait for the database to the ordinary path.
                _until_the_lane_is(lane and not wait, server.url, callers.whole)
            time.sleep(dice.random() * 0.25)
            server.kill()
            callers.stop.set()
            for thread in callers.threads:
                thread.join()
            whole, heads, sent = whole + callers.whole, heads + callers.heads, sent + callers.sent

    async def look():
        async with open_app(workspace) as app:
            rows = await app.parts.cost.ledger(app.owner(), limit=100_000)
            (use,) = await app.parts.cost.limit_use(app.owner())
            return rows, use, await app.parts.governance.verify()

    rows, use, verified = asyncio.run(look())
    by_trace = Counter(row.trace_id for row in rows)
    # Every answer that arrived whole has exactly one row, and no call has two.
    assert set(whole) <= set(by_trace)
    assert set(by_trace.values()) == {1}
    arrived = set(whole)
    outcomes = {row.trace_id: row for row in rows}
    assert {outcomes[trace].outcome for trace in arrived} == {"ok"}
    # One that did not is flagged, unless the provider's last word had come when the server died.
    for row in rows:
        if row.trace_id not in arrived:
            assert row.outcome in {"orphaned", "cancelled"} or not row.usage.estimated
        assert (row.outcome == "orphaned") <= row.usage.estimated
    assert any(row.outcome == "orphaned" for row in rows), "no kill met a call under way"
    assert len(rows) - len(arrived) <= 6 * ROUNDS, "at most one call of each caller was under way"
    # The limit counts what was asked and holds nothing back.
    assert len(rows) <= use.used <= sent
    assert verified.ok, verified.problems


def test_a_budget_is_not_passed_by_dying(tmp_path, upstream):
    settings = {
        "gateway": {
            "providers": {"up": {"kind": "openai", "base_url": upstream, "api_key_env": "FAKE", "models": [_MODEL]}},
            "routes": {"r": {"targets": [f"up/{_MODEL}"], "retries": 0, "max_output_tokens": 50}},
        },
        "cost": {
            "limits": [{"name": "all", "requests": 60, "window": "1h"}],
            "prices": {"up/*": {"input_per_million": "1", "output_per_million": "2"}},
        },
    }
    workspace = write_workspace(tmp_path / "w", settings=settings)
    served = 0
    for round_ in range(4):
        last = round_ == 3
        with run_server(workspace, environ={"FAKE": "x"}) as server:
            with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as http:
                asked = {"model": "route/r", "messages": [{"role": "user", "content": "hi"}]}
                for _ in range(100 if last else 17):
                    served += http.post("/v1/chat/completions", json=asked).status_code == 200
            server.terminate() if last else server.kill()
    assert served == 60
