"""Kept answers as callers and operators meet them: headers, ledger, metrics, purge."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from interlock.app import open_app
from interlock.core.context import Role
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

SCRIPT = [
    {"match": "DOWN", "fail_status": 503},
    {"match": "SLOW", "reply": "slow answer", "first_delay_s": 0.4},
    {"match": "hardware", "reply": "Customers may return hardware within 30 days of delivery [1]."},
    {"reply": "You said: {question}"},
]


@pytest.fixture(scope="module")
def house(tmp_path_factory, models_dir):
    route = {"targets": ["scripted"], "retries": 0}
    cached = {**route, "cache": {"ttl_s": 600}}
    workspace = write_workspace(
        tmp_path_factory.mktemp("cache") / "workspace",
        settings={
            "models_dir": str(models_dir),
            "gateway": {
                "providers": {"scripted": {"kind": "scripted", "script": SCRIPT}},
                "routes": {
                    "kept": cached,
                    "plain": route,
                    "refusing": {**route, "degrade": ["refuse"], "refuse_retry_after_s": 7},
                },
            },
            "cost": {"prices": {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}},
        },
        apps={"helper": {"route": cached, "knowledge": {"collection": "docs"}}},
        documents={"returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery.\n"},
    )
    with (
        run_server(workspace) as server,
        httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as client,
    ):
        yield client, workspace


def ask(client, text, model="route/kept", stream=False, **headers):
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def test_a_header_says_what_the_cache_did_and_the_ledger_that_it_cost_nothing(house):
    client, _ = house
    answers = [ask(client, "first question") for _ in range(2)]
    assert [answer.headers["x-interlock-cache"] for answer in answers] == ["miss", "hit"]
    first, second = (answer.json() for answer in answers)
    assert first["choices"] == second["choices"]
    assert first["usage"] == second["usage"]
    assert (second["interlock"]["cache"], second["interlock"]["cost_usd"]) == ("hit", "0")
    assert answers[1].headers["x-interlock-route"] == "cache/scripted"
    trace = client.get(f"/api/v1/traces/{answers[1].headers['x-interlock-trace-id']}").json()
    (row,) = trace["ledger"]
    assert (row["provider"], row["model"], row["cost_usd"], row["price"]) == ("cache", "scripted", "0", "cache")
    assert any(span["attributes"].get("interlock.cache") == "hit" for span in trace["spans"])
    spend = {row["key"]: row for row in client.get("/api/v1/spend", params={"by": "provider"}).json()["data"]}
    assert spend["cache"]["cost_usd"] == "0"
    assert spend["cache"]["unpriced_calls"] == 0


def test_a_request_header_goes_past_the_cache_or_renews_it(house):
    client, _ = house

    def status(**headers):
        return ask(client, "second question", **headers).headers["x-interlock-cache"]

    assert [status(), status()] == ["miss", "hit"]
    assert status(**{"x-interlock-cache": "no-store"}) == "bypass"
    assert status(**{"x-interlock-cache": "refresh"}) == "refresh"
    wrong = ask(client, "second question", **{"x-interlock-cache": "maybe"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-interlock-cache")
    assert "x-interlock-cache" not in ask(client, "x", model="route/plain").headers


def test_a_stream_and_a_whole_answer_share_what_is_kept(house):
    client, _ = house
    ask(client, "a longer question " * 10)
    answer = ask(client, "a longer question " * 10, stream=True)
    assert answer.headers["x-interlock-cache"] == "hit"
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    texts = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    assert "".join(texts) == "You said: " + "a longer question " * 10
    assert sum(bool(text) for text in texts) > 2
    assert answer.text.rstrip().endswith("[DONE]")


def test_equal_calls_at_once_are_one_call_of_the_provider(house):
    client, _ = house
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(client, "SLOW please"), range(6)))
    statuses = sorted(answer.headers["x-interlock-cache"] for answer in answers)
    assert statuses.count("miss") == 1
    assert set(statuses) <= {"miss", "shared", "hit"}
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"slow answer"}


def test_a_purge_forgets_for_the_tenant_and_is_audited(house):
    client, _ = house
    for text in ("third", "fourth"):
        ask(client, text)
    done = client.delete("/api/v1/cache", params={"route": "kept"}).json()
    assert done["purged"] == "route:kept"
    assert done["removed"] >= 2
    assert ask(client, "third").headers["x-interlock-cache"] == "miss"
    (line, *_) = client.get("/api/v1/audit", params={"action": "cache.purge"}).json()["data"]
    assert (line["subject"], line["details"]["removed"]) == ("route:kept", done["removed"])
    misspelt = client.delete("/api/v1/cache", params={"rout": "kept"})
    assert (misspelt.status_code, misspelt.json()["error"]["param"]) == (400, "rout")
    assert client.delete("/api/v1/cache", params={"route": "a", "app": "b"}).status_code == 400


def test_an_apps_answer_is_kept_until_its_documents_change(house):
    client, workspace = house

    def ingest():
        job = client.post("/api/v1/collections/docs/ingest").json()
        while job["state"] in {"queued", "running"}:
            job = client.get(f"/api/v1/jobs/{job['id']}").json()
        assert job["state"] == "succeeded", job

    def status():
        answer = ask(client, "How long may I return hardware?", model="app/helper")
        assert "30 days" in answer.json()["choices"][0]["message"]["content"] or "60 days" in answer.text
        return answer.headers.get("x-interlock-cache")

    ingest()
    assert [status(), status()] == ["miss", "hit"]
    document = workspace / "documents" / "returns.md"
    document.write_text(document.read_text() + "\nThe fee is 10 percent.\n")
    ingest()
    assert status() == "miss"
    listed = client.get("/api/v1/documents").json()["data"]
    assert status() == "hit"
    removed = client.delete("/api/v1/cache", params={"document": listed[0]["id"]}).json()["removed"]
    assert removed >= 1
    assert status() == "miss"


def test_metrics_count_what_the_cache_did(house):
    client, _ = house
    for _ in range(2):
        ask(client, "sixth")
    text = client.get("/metrics").text
    assert 'interlock_cache_total{status="hit"}' in text
    assert 'interlock_shadow_total{result="sent"} 0.0' in text
    assert client.get("/api/v1/cache").json()["worker"]["hit"] >= 1


def test_a_route_may_refuse_honestly(house):
    client, _ = house
    answer = ask(client, "DOWN", model="route/refusing")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.json()["error"]["code"] == "degraded_refusal"


def test_the_command_line_sees_and_forgets_what_the_server_kept(house):
    client, workspace = house

    def run(*arguments):
        command = [sys.executable, "-m", "interlock", "-w", str(workspace), "cache", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)

    for _ in range(2):
        ask(client, "fifth")
    code, stats = run("stats")
    assert (code, stats["given_again"] >= 1, stats["routes"]["kept"]["ttl_s"]) == (0, True, 600)
    code, done = run("purge", "--all")
    assert (code, done["purged"], done["removed"] >= 1) == (0, "all", True)
    assert ask(client, "fifth").headers["x-interlock-cache"] == "miss"
    stored = client.post("/v1/responses", json={"model": "scripted", "input": "hi"}).json()["id"]
    assert run("purge", "--user", "nobody") == (0, {"purged": "user", "removed": 0, "stored": 0})
    code, done = run("purge", "--everything", "--yes")
    assert (code, done["purged"], done["stored"] >= 1) == (0, "everything", True)
    assert client.get(f"/v1/responses/{stored}").status_code == 404
    assert run("purge")[0] == 2
    assert run("purge", "--app", "a", "--all")[0] == 2


def test_a_purge_needs_a_role(house):
    client, workspace = house

    async def key():
        async with open_app(workspace) as app:
            return (await app.parts.access.create_key(app.owner(), name="v", roles=[Role.VIEWER], days=1)).secret

    headers = {"authorization": f"Bearer {asyncio.run(key())}"}
    assert client.get("/api/v1/cache", headers=headers).status_code == 200
    assert client.delete("/api/v1/cache", headers=headers).status_code == 403
