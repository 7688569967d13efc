"""Several worker processes on one port: spread, limits, sudden death, signals, metrics, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from interlock.app import open_app
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.workspaces import write_workspace

TWO = {"INTERLOCK_SERVER__WORKERS": "2"}
PROVIDERS = {
    "quick": {"kind": "scripted", "models": ["m"], "script": [{"reply": "a word or two"}]},
    "slow": {"kind": "scripted", "models": ["m"], "script": [{"reply": "word " * 200, "chunk_delay_s": 0.02}]},
}


def settings(**more):
    prices = {"quick/*": {"input_per_million": "1", "output_per_million": "2"}}
    return {
        "gateway": {"providers": PROVIDERS, "breaker": {"failures": 1000}, **more.pop("gateway", {})},
        "cost": {"prices": prices, "limits": more.pop("limits", [])},
        **more,
    }


def body(model="quick/m", **more):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20, **more}


def ask(server, **more):
    """One call on a connection of its own."""
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        return http.post("/v1/chat/completions", json=body(**more))


def until(check, *, tries=1200):
    for _ in range(tries):
        value = check()
        if value:
            return value
        time.sleep(0.025)
    raise AssertionError("it never came to be")


def metrics(server):
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        lines = http.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def served(found):
    """Answered chat calls by worker."""
    return {
        name.partition('worker="')[2][0]: value
        for name, value in found.items()
        if name.startswith("interlock_http_requests_total") and "chat" in name and 'status="200"' in name
    }


def test_calls_are_spread_counted_once_and_stopped_at_the_limit(tmp_path):
    limit = {"name": "all", "requests": 150, "window": "1h"}
    workspace = write_workspace(tmp_path / "w", settings=settings(limits=[limit]))
    with run_server(workspace, environ=TWO) as server:
        assert len(server.workers()) == 2
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(server).status_code, range(220)))
        # A worker keeps at most a 64th of the limit that the other one could have used.
        unused = 2 * (150 // 64)
        assert set(answers) == {200, 429}
        assert 150 - unused <= answers.count(200) <= 150
        by_worker = served(found := metrics(server))
        assert sum(by_worker.values()) == answers.count(200)
        assert min(by_worker.get(number, 0) for number in "12") > 10
        assert found['interlock_worker_up{worker="1"}'] == found['interlock_worker_up{worker="2"}'] == 1
        refused = sum(v for n, v in found.items() if n.startswith("interlock_limit_refusals_total") and "requests" in n)
        assert refused == answers.count(429)
        # What idle workers held is given back, and the rest of the limit can be used.
        until(lambda: ask(server).status_code == 429)
        server.terminate()
        assert server.process.wait(60) == 0

    async def look():
        async with open_app(workspace) as app:
            return await app.parts.cost.ledger(app.owner(), limit=1000), await app.parts.governance.verify()

    rows, verified = asyncio.run(look())
    assert len({row.trace_id for row in rows}) == len(rows)
    assert answers.count(200) <= len(rows) <= 150
    assert verified.ok, verified.problems


async def test_a_worker_killed_under_load_comes_back_and_its_calls_are_settled(tmp_path):
    async with fake_upstream() as upstream:
        upstream.will(Reply(silent_first=True))
        providers = {**PROVIDERS, "silent": {"kind": "openai", "base_url": upstream.url, "api_key_env": "FAKE"}}
        limit = {"name": "all", "requests": 100_000, "window": "1h"}
        workspace = write_workspace(tmp_path / "w", settings=settings(gateway={"providers": providers}, limits=[limit]))

        def run():
            done, stop, lost = [], threading.Event(), []

            def keep_asking():
                while not stop.is_set():
                    try:
                        answer = ask(server)
                    except httpx2.HTTPError:
                        continue
                    assert answer.status_code == 200, answer.text
                    done.append(answer.headers["x-interlock-trace-id"])

            def hang():
                try:
                    ask(server, model="silent/m")
                except httpx2.HTTPError as error:
                    lost.append(error)

            with run_server(workspace, environ={**TWO, "FAKE": "x", "INTERLOCK_SERVER__SHUTDOWN_S": "1"}) as server:
                first = server.workers()
                hanging = [threading.Thread(target=hang) for _ in range(12)]
                asking = [threading.Thread(target=keep_asking) for _ in range(3)]
                for thread in (*hanging, *asking):
                    thread.start()
                until(lambda: len(upstream.requests) == 12 and len(done) > 50)
                os.kill(first[0], signal.SIGKILL)
                until(lambda: len(server.workers()) == 2 and first[0] not in server.workers())
                more = len(done) + 50
                until(lambda: len(done) > more)
                found = metrics(server)
                died = len(lost)
                stop.set()
                server.terminate()
                for thread in (*hanging, *asking):
                    thread.join()
                assert server.process.wait(60) == 0
            return done, died, found

        done, died, found = await asyncio.to_thread(run)
    assert 0 < died < 12, "both workers had calls under way"
    restarts = [v for n, v in found.items() if n.startswith("interlock_worker_restarts")]
    assert sorted(restarts) == [0, 1]
    async with open_app(workspace) as app:
        rows = await app.parts.cost.ledger(app.owner(), limit=100_000)
        by_trace = [row.trace_id for row in rows]
        assert len(set(by_trace)) == len(by_trace), "a call was charged twice"
        assert set(done) <= set(by_trace)
        orphaned = [row for row in rows if row.outcome == "orphaned"]
        silent = [row for row in orphaned if row.provider == "silent"]
        assert len(silent) == died
        assert all(row.usage.estimated for row in orphaned)
        verified = await app.parts.governance.verify()
        assert verified.ok, verified.problems
        # Nothing stays reserved: what is counted is what was asked.
        (use,) = await app.parts.cost.limit_use(app.owner())
        assert len(rows) <= use.used <= len(rows) + 12


def test_open_streams_end_well_when_all_are_told_to_stop(tmp_path):
    workspace = write_workspace(tmp_path / "w", settings=settings())
    with run_server(workspace, environ=TWO) as server:
        begun, ends = threading.Semaphore(0), []

        def stream():
            asked = body("slow/m", stream=True, max_tokens=4000)
            with (
                httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http,
                http.stream("POST", "/v1/chat/completions", json=asked) as response,
            ):
                lines = response.iter_lines()
                next(lines)
                begun.release()
                ends.append([line for line in lines if line][-1])

        threads = [threading.Thread(target=stream) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in threads:
            begun.acquire()
        server.terminate()
        for thread in threads:
            thread.join()
        assert server.process.wait(60) == 0
    assert ends == ["data: [DONE]"] * 6


def test_a_reload_reaches_every_worker(tmp_path):
    workspace = write_workspace(tmp_path / "w", settings=settings())
    with run_server(workspace, environ=TWO) as server:
        text = (workspace / "interlock.yaml").read_text()
        (workspace / "interlock.yaml").write_text(text.replace("a word or two", "another word"))
        server.process.send_signal(signal.SIGHUP)

        def all_new():
            return all("another word" in ask(server).text for _ in range(12))

        until(all_new)
        generations = [v for n, v in metrics(server).items() if n.startswith("interlock_config_generation")]
        assert generations == [1.0, 1.0]


def test_workers_end_when_their_parent_is_killed(tmp_path):
    workspace = write_workspace(tmp_path / "w", settings=settings())
    with run_server(workspace, environ=TWO) as server:
        workers = server.workers()
        server.kill()
        until(lambda: not any(_lives(pid) for pid in workers))


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _up(workspace, *more):
    command = [sys.executable, "-m", "interlock", "-w", str(workspace), "up", "--no-warm", "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"stores": {"kv": "memory"}}, "stores.kv"),
        ({"server": {"workers": 0}}, "server.workers"),
        ({"stores": {"kv": "redis://:hunter2@127.0.0.1:9"}}, "stores.kv"),
        ({"stores": {"kv": "mongodb://x"}}, "stores.kv"),
    ],
)
def test_what_cannot_work_is_refused_with_the_field(tmp_path, extra, field):
    workspace = write_workspace(tmp_path / "w", settings=settings(**extra))
    more = [] if extra.get("server") else ["--workers", "2"]
    code, error = _up(workspace, "--port", "0", *more)
    assert code == 1
    assert error["param"] == field
    assert "hunter2" not in json.dumps(error)


def test_an_address_that_is_taken_is_refused_even_by_others_who_share(tmp_path):
    workspace = write_workspace(tmp_path / "w", settings=settings())
    with run_server(workspace, environ=TWO) as server:
        port = server.url.rpartition(":")[2]
        code, error = _up(workspace, "--port", port, "--workers", "2")
        assert (code, error["param"]) == (1, "server.port")
        assert ask(server).status_code == 200
