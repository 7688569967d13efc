"""The serving process: shutdown, sudden death, clients that leave, keys that change."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx2
import openai
import pytest

from interlock.app import open_app
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import OpenAIWire, ToolUse
from interlock.testing.workspaces import write_workspace

from .conftest import workspace_of

pytestmark = pytest.mark.model
LONG = {"model": "route/answers", "messages": [{"role": "user", "content": "LONG"}], "stream": True}
SHORT = {"model": "route/answers", "messages": [{"role": "user", "content": "hi"}]}


def events(response):
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def until(check, *, tries=400):
    """Ask again until it is so; never so is the test's timeout."""
    for _ in range(tries):
        value = check()
        if value:
            return value
        time.sleep(0.025)
    raise AssertionError("it never came to be")


def client_of(server):
    return httpx2.Client(base_url=server.url, timeout=60, trust_env=False)


async def test_shutdown_lets_an_open_stream_finish_and_takes_no_more(tmp_path, models_dir):
    workspace = workspace_of(tmp_path, models_dir)

    def run():
        with run_server(workspace) as server, client_of(server) as client:
            body = {**LONG, "messages": [{"role": "user", "content": "A MOMENT"}]}
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                stream = events(response)
                next(stream)
                server.terminate()
                rest = list(stream)
            assert rest[-1] == "[DONE]"
            assert server.process.wait(30) == 0
            trace = response.headers["x-interlock-trace-id"]
            with pytest.raises(httpx2.ConnectError), client_of(server) as other:
                other.get("/healthz")
        return trace

    trace = await asyncio.to_thread(run)
    async with open_app(workspace) as app:
        rows = await app.parts.cost.ledger(app.owner(), trace_id=trace)
        assert [(row.outcome, row.usage.estimated) for row in rows] == [("ok", False)]
        lines = await app.parts.governance.lines(app.owner())
        assert [line.outcome for line in lines if line.trace_id == trace] == ["ok"]
        assert (await app.parts.observe.trace(app.owner(), trace))[0].status == "ok"


async def test_kill_9_in_a_stream_loses_no_settled_row_and_the_log_still_verifies(tmp_path, models_dir):
    workspace = workspace_of(tmp_path, models_dir)

    def run():
        done, stop = [], threading.Event()
        with run_server(workspace) as server:

            def keep_asking():
                with client_of(server) as client:
                    while not stop.is_set():
                        try:
                            answer = client.post("/v1/chat/completions", json=SHORT)
                        except httpx2.HTTPError:
                            return
                        done.append(answer.headers["x-interlock-trace-id"])

            askers = [threading.Thread(target=keep_asking) for _ in range(3)]
            for asker in askers:
                asker.start()
            with client_of(server) as client, client.stream("POST", "/v1/chat/completions", json=LONG) as response:
                next(events(response))
                until(lambda: len(done) > 25)
                server.kill()
            stop.set()
            for asker in askers:
                asker.join()
        return done

    done = await asyncio.to_thread(run)
    async with open_app(workspace) as app:
        rows = await app.parts.cost.ledger(app.owner(), limit=10_000)
        settled = [row.trace_id for row in rows]
        # An answer is sent after its row was committed.
        assert set(done) <= set(settled)
        assert len(settled) == len(set(settled))
        found = await app.parts.governance.verify()
        assert found.ok, found.problems
        lines = await app.parts.governance.lines(app.owner(), limit=1000)
        assert len({line.trace_id for line in lines}) == len(lines)
        # And it goes on from there.
        await app.parts.access.create_key(app.owner(), name="after", roles=[], days=None)
        assert (await app.parts.governance.verify()).ok


def _body_for(path, words):
    turn = {"role": "user", "content": words}
    if path.startswith("/v1beta"):
        return {"contents": [{"role": "user", "parts": [{"text": words}]}]}
    if path == "/v1/responses":
        return {"model": "route/answers", "input": [turn]}
    return {"model": "route/answers", "messages": [turn], "max_tokens": 4000}


@pytest.mark.parametrize("words", ["LONG", "SLOW START"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1beta"])
def test_a_client_that_hangs_up_stops_the_model(site, http, path, words, stream):
    body = {**_body_for(path, words), "stream": stream}
    if path == "/v1beta":
        path += f"/models/route/answers:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"
    before = {row["trace_id"] for row in http.get("/api/v1/traces?status=cancelled&limit=500").json()["data"]}
    with site.client("admin") as client:
        if stream and words == "LONG":
            with client.stream("POST", path, json=body) as response:
                next(events(response))
        else:
            with pytest.raises(httpx2.ReadTimeout):
                client.post(path, json=body, timeout=0.3)

    def cancelled():
        rows = http.get("/api/v1/traces?status=cancelled&limit=500").json()["data"]
        return [row["trace_id"] for row in rows if row["trace_id"] not in before]

    (trace,) = until(cancelled)
    shown = http.get(f"/api/v1/traces/{trace}").json()
    assert {span["status"] for span in shown["spans"]} == {"cancelled"}
    (paid,) = shown["ledger"]
    # Before the first word, what was sent to the model is all there is to pay.
    assert (paid["outcome"], paid["usage"]["output_tokens"] > 0) == ("cancelled", words == "LONG")
    lines = http.get("/api/v1/audit?limit=500").json()["data"]
    assert [line["outcome"] for line in lines if line["trace_id"] == trace] == ["client_left"]


async def test_a_providers_key_may_change_while_the_server_runs(tmp_path, models_dir):
    key_file = tmp_path / "provider.key"
    key_file.write_text("first")
    async with fake_upstream() as upstream:
        upstream.will(Reply(OpenAIWire().answer(["hi"])))
        gateway = {"providers": {"up": {"kind": "openai", "base_url": upstream.url, "api_key_file": str(key_file)}}}
        workspace = workspace_of(tmp_path / "workspace", models_dir, gateway=gateway)

        def run():
            body = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}
            with run_server(workspace) as server, client_of(server) as client:
                assert client.post("/v1/chat/completions", json=body).status_code == 200
                key_file.write_text("second")
                assert client.post("/v1/chat/completions", json=body).status_code == 200
                key_file.unlink()
                refused = client.post("/v1/chat/completions", json=body)
                assert refused.json()["error"]["param"] == "gateway.providers.up.api_key_file"
                assert "second" not in server.log.read_text()

        await asyncio.to_thread(run)
        assert [r.headers["authorization"] for r in upstream.requests] == ["Bearer first", "Bearer second"]


def test_a_port_that_is_taken_is_told_with_the_way_out(site, tmp_path, models_dir):
    port = int(site.url.rpartition(":")[2])
    workspace = workspace_of(tmp_path, models_dir)
    with pytest.raises(AssertionError, match="server ended with 1"), run_server(workspace, port=port):
        pass


def test_the_log_of_the_server_names_no_secret_and_no_words(site, http):
    http.post("/v1/chat/completions", json={**SHORT, "messages": [{"role": "user", "content": "Ottoline"}]})
    http.get("/v1/models/Ottoline-model")
    log = site.server.log.read_text()
    assert "POST /v1/chat/completions 200" in log
    assert "Ottoline " not in log
    assert not any(key in log for key in site.keys.values())
    assert site.secret not in log


def test_streams_are_valid_events_to_the_last_byte(http):
    with http.stream("POST", "/v1/chat/completions", json={**SHORT, "stream": True}) as response:
        body = b"".join(response.iter_raw()).decode()
    frames = body.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(frame.removeprefix("data: "))["choices"] is not None for frame in frames[:-2])


async def test_tool_calls_and_schemas_go_through_to_the_provider_and_back(tmp_path, models_dir):
    tools = [ToolUse("call_1", "weather", ['{"city": ', '"Leeds"}']), ToolUse("call_2", "now", ["{}"])]
    function = {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}
    arguments = {
        "model": "up/gpt-4.1-mini",
        "messages": [{"role": "user", "content": "What is the weather?"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "max_tokens": 60,
        "stop": ["END"],
    }
    async with fake_upstream() as upstream:
        upstream.will(Reply(OpenAIWire().answer([], tools=tools)))
        gateway = {"providers": {"up": {"kind": "openai", "base_url": upstream.url}}}
        workspace = workspace_of(tmp_path, models_dir, gateway=gateway)

        def run():
            with (
                run_server(workspace) as server,
                openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client,
            ):
                whole = client.chat.completions.create(**arguments)
                with client.chat.completions.stream(**arguments) as stream:
                    for _ in stream:
                        pass
                    streamed = stream.get_final_completion()
                history = [
                    *arguments["messages"],
                    whole.choices[0].message.model_dump(exclude_none=True),
                    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
                ]
                client.chat.completions.create(**{**arguments, "messages": history})
            return whole, streamed

        for answer in await asyncio.to_thread(run):
            calls = answer.choices[0].message.tool_calls
            assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
                ("call_1", "weather", '{"city": "Leeds"}'),
                ("call_2", "now", "{}"),
            ]
            assert answer.choices[0].finish_reason == "tool_calls"
            assert answer.choices[0].message.content is None
        first, _, last = (request.body for request in upstream.requests)
        assert first["tools"][0]["function"] == function
        assert (first["tool_choice"], first["max_tokens"], first["stop"]) == ("required", 60, ["END"])
        assert first["response_format"]["json_schema"]["schema"] == {"type": "object"}
        assert [turn["role"] for turn in last["messages"]] == ["user", "assistant", "tool"]
        assert last["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


def test_a_server_warns_of_apps_that_have_nothing_to_search(tmp_path):
    quoting = {"route": {"targets": ["extractive"]}}
    workspace = write_workspace(
        tmp_path / "w",
        apps={
            "lost": {**quoting, "knowledge": {"collection": "elsewhere"}},
            "early": {**quoting, "knowledge": {"collection": "docs"}},
            "plain": quoting,
        },
        documents={"a.md": "# A\n\nText.\n"},
    )
    with run_server(workspace) as server:
        said = [line for line in server.log.read_text().splitlines() if "warning: app" in line]
    assert len(said) == 2, said
    assert any("app lost" in line and "'elsewhere', which does not exist" in line for line in said)
    assert any("app early" in line and "fix: interlock ingest docs" in line for line in said)
