"""Two machines and one Redis: limits, kept answers and purges are shared; what a killed server held comes back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from interlock.app import open_app
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.valkey import running_valkey
from interlock.testing.workspaces import write_workspace


@pytest.fixture
def redis():
    with running_valkey() as server:
        yield server


def machine(folder, redis, *, limits=(), upstream="http://127.0.0.1:9/v1"):
    """A workspace with a data folder of its own: nothing but Redis is shared."""
    providers = {
        "quick": {"kind": "scripted", "models": ["m"], "script": [{"reply": "a word or two"}]},
        "silent": {"kind": "openai", "base_url": upstream, "api_key_env": "FAKE"},
    }
    cache = {"targets": ["quick/m"], "cache": {"ttl_s": 600, "share": "tenant"}}
    settings = {
        "stores": {"kv": redis.address},
        "gateway": {"providers": providers, "routes": {"kept": cache}, "breaker": {"failures": 1000}},
        "cost": {"limits": list(limits)},
    }
    return write_workspace(folder, settings=settings)


def start(stack, workspace):
    return stack.enter_context(run_server(workspace, environ={"FAKE": "x", "INTERLOCK_SERVER__SHUTDOWN_S": "1"}))


def ask(server, model="quick/m", text="hi"):
    call = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 20}
    return httpx2.post(f"{server.url}/v1/chat/completions", json=call, timeout=60, trust_env=False)


def used(server):
    (use,) = httpx2.get(f"{server.url}/api/v1/limit-use", timeout=60, trust_env=False).json()["data"]
    return use["used"]


def until(check, *, tries=1200):
    for _ in range(tries):
        value = check()
        if value:
            return value
        time.sleep(0.025)
    raise AssertionError("it never came to be")


def test_a_budget_is_one_budget_on_two_machines(tmp_path, redis):
    limit = {"name": "all", "requests": 100, "window": "1h"}
    with ExitStack() as stack:
        servers = [start(stack, machine(tmp_path / name, redis, limits=[limit])) for name in "ab"]
        with ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(lambda at: ask(servers[at % 2]).status_code, range(160)))
        assert set(statuses) == {200, 429}
        assert 100 - 2 * (100 // 64) <= statuses.count(200) <= 100
        until(lambda: {ask(server).status_code for server in servers} == {429})
        assert [used(server) for server in servers] == [100, 100]


def test_an_answer_kept_by_one_is_given_by_the_other_until_a_purge(tmp_path, redis):
    with ExitStack() as stack:
        a, b = (start(stack, machine(tmp_path / name, redis)) for name in "ab")

        def status(server):
            answer = ask(server, "route/kept", "How do returns work?")
            assert answer.status_code == 200
            return answer.headers["x-interlock-cache"]

        assert status(a) == "miss"
        assert until(lambda: status(b) == "hit")
        purged = httpx2.delete(f"{b.url}/api/v1/cache", timeout=60, trust_env=False)
        assert purged.status_code == 200, purged.text
        assert status(a) == "miss"
        assert until(lambda: status(b) == "hit")


async def test_what_a_killed_machine_held_comes_back_when_it_does(tmp_path, redis):
    # A lease of this limit is 100 requests; one killed in mid-call must not keep the other 99.
    limit = {"name": "all", "requests": 6400, "window": "1h"}
    async with fake_upstream() as upstream:
        upstream.will(Reply(silent_first=True))

        def run():
            with ExitStack() as stack:
                first, second = (machine(tmp_path / n, redis, limits=[limit], upstream=upstream.url) for n in "ab")
                a, b = start(stack, first), start(stack, second)
                assert [ask(server).status_code for server in (a, b)] == [200, 200]

                def hang():
                    with pytest.raises(httpx2.HTTPError):
                        ask(a, "silent/m")

                hanging = threading.Thread(target=hang)
                hanging.start()
                until(lambda: upstream.requests)
                a.kill()
                hanging.join()
                assert used(b) >= 100
                again = start(stack, first)
                assert until(lambda: used(again) == 3)
                assert until(lambda: used(b) == 3)
            return first

        first = await asyncio.to_thread(run)
    async with open_app(first) as app:
        rows = await app.parts.cost.ledger(app.owner())
        assert sorted((row.provider, row.outcome) for row in rows) == [("quick", "ok"), ("silent", "orphaned")]


def test_a_redis_that_goes_away_stops_limited_calls_and_nothing_else(tmp_path, redis):
    limit = {"name": "some", "requests": 64, "window": "1h", "match": {"model": "quick/limited"}}
    workspace = machine(tmp_path / "a", redis, limits=[limit])
    command = [sys.executable, "-m", "interlock", "-w", str(workspace), "doctor", "--json"]
    with run_server(workspace) as server:
        assert ask(server, "quick/limited").status_code == 200
        assert ask(server, "route/kept").headers["x-interlock-cache"] == "miss"
        found = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
        assert [row["state"] for row in found if row["what"].startswith("shared state")] == ["ok"]
        redis.stop()
        refused = until(lambda: (r := ask(server, "quick/limited")).status_code != 200 and r)
        assert refused.status_code == 503
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("kv_unavailable", "stores.kv")
        assert ask(server).status_code == 200
        # Without its store the cache is a miss, not a failure.
        assert ask(server, "route/kept").status_code == 200
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 1
        (row,) = [row for row in json.loads(done.stdout) if row["state"] == "fail"]
        assert "does not answer" in row["cause"]
        assert "stores.kv" in row["fix"]


def test_a_password_in_an_address_is_shown_to_nobody(tmp_path):
    settings = {"stores": {"kv": "redis://me:hunter2@kv.internal/0?password=hunter3", "sql": "postgresql://u:h4@db/x"}}
    workspace = write_workspace(tmp_path / "w", settings=settings)
    command = [sys.executable, "-m", "interlock", "-w", str(workspace), "config", "show", "stores"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "redis://me:•••@kv.internal/0?password=•••" in shown
    assert "hunter" not in shown
    assert "h4" not in shown
