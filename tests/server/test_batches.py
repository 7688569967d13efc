"""Batches: through the official clients, over a worker that is killed, under limits, seen by their owner alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from decimal import Decimal

import anthropic
import httpx2
import openai
import pytest

from interlock.app import open_app
from interlock.testing.servers import run_server

from .conftest import workspace_of

pytestmark = pytest.mark.model


def line(number, text, model="scripted", url="/v1/chat/completions", **body):
    content = {"model": model, "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": content}


def upload(client, lines):
    data = "".join(json.dumps(row) + "\n" for row in lines).encode()
    return client.files.create(file=("requests.jsonl", data), purpose="batch")


def until_ended(client, batch, *, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch.id)
        if batch.status in {"completed", "failed", "cancelled", "expired"}:
            return batch
        time.sleep(0.1)
    raise AssertionError(f"the batch is still {batch.status}")


def rows(client, file):
    return [json.loads(row) for row in client.files.content(file).text.splitlines()]


@pytest.fixture
def client(site):
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.keys["plain"], max_retries=0) as client:
        yield client


def test_a_batch_answers_each_line_and_tells_what_failed(client):
    lines = [line(1, "one"), line(2, "UPSTREAM BROKEN", model="scripted"), line(3, "three"), line(4, "x", model="no/x")]
    batch = client.batches.create(
        input_file_id=upload(client, lines).id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"team": "search"},
    )
    batch = until_ended(client, batch)
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 2, "failed": 2}
    done = {row["custom_id"]: row for row in rows(client, batch.output_file_id)}
    assert set(done) == {"line-1", "line-3"}
    assert done["line-3"]["response"]["body"]["choices"][0]["message"]["content"] == "You said: three"
    failed = {row["custom_id"]: row["response"]["status_code"] for row in rows(client, batch.error_file_id)}
    assert failed == {"line-2": 502, "line-4": 404}
    assert batch.id in [each.id for each in client.batches.list(limit=5)]


def test_a_file_with_wrong_lines_fails_before_anything_runs(client):
    wrong = [line(1, "a"), line(1, "b"), {"custom_id": "x"}, line(3, "c", url="/v1/embeddings")]
    made = client.batches.create(
        input_file_id=upload(client, wrong).id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch = until_ended(client, made)
    assert batch.status == "failed"
    assert [error.line for error in batch.errors.data] == [2, 3, 4]
    assert batch.output_file_id is None


def test_a_batch_of_embeddings_and_one_of_responses(client):
    body = {"model": "local/minilm-l6-int8", "input": ["red", "blue"]}
    embed = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": body}
    respond = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": {"model": "scripted", "input": "hi"}}
    for row, endpoint in ((embed, "/v1/embeddings"), (respond, "/v1/responses")):
        made = client.batches.create(input_file_id=upload(client, [row]).id, endpoint=endpoint, completion_window="1h")
        batch = until_ended(client, made)
        answer = rows(client, batch.output_file_id)[0]["response"]["body"]
        if endpoint == "/v1/embeddings":
            assert len(answer["data"]) == 2
        else:
            assert client.responses.retrieve(answer["id"]).output_text == "You said: hi"


def test_a_batch_is_cancelled_and_says_what_did_not_run(client):
    lines = [line(number, "LONG", model="route/answers") for number in range(30)]
    made = client.batches.create(
        input_file_id=upload(client, lines).id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while client.batches.retrieve(made.id).status == "validating":
        time.sleep(0.05)
    assert client.batches.cancel(made.id).status == "cancelling"
    batch = until_ended(client, made)
    assert batch.status == "cancelled"
    told = rows(client, batch.error_file_id)
    assert {row["error"]["code"] for row in told} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError, match="the batch has already ended: it was cancelled"):
        client.batches.cancel(made.id)


def test_files_and_batches_are_their_owners_alone(site, client):
    file = upload(client, [line(1, "secret plans")])
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    with site.client("plain") as plain:
        assert plain.get(f"/v1/files/{file.id}").status_code == 200
    others = [site.client("admin"), site.client("rival"), site.client("plain", token=site.token())]
    for other in others:
        with other:
            for path in (f"/v1/files/{file.id}", f"/v1/files/{file.id}/content", f"/v1/batches/{batch.id}"):
                assert other.get(path).status_code == 404, path
            assert other.delete(f"/v1/files/{file.id}").status_code == 404
            assert other.post(f"/v1/batches/{batch.id}/cancel").status_code == 404
            body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            assert other.post("/v1/batches", json=body).status_code == 404
            assert file.id not in other.get("/v1/files").text
    until_ended(client, batch)
    for stored in (site.workspace / ".interlock").rglob("*"):
        if stored.is_file() and "audit" not in stored.name:
            assert b"secret plans" not in stored.read_bytes(), stored.name


def files(site):
    with site.client("plain") as http:
        return {file["id"] for file in http.get("/v1/files").json()["data"]}


def test_message_batches_in_anthropics_shape(site):
    before = files(site)
    with anthropic.Anthropic(base_url=site.url, api_key=site.keys["plain"], max_retries=0) as client:
        params = {"model": "scripted", "max_tokens": 50}
        made = client.messages.batches.create(
            requests=[
                {"custom_id": "a", "params": {**params, "messages": [{"role": "user", "content": "hi"}]}},
                {"custom_id": "b", "params": {**params, "messages": []}},
            ]
        )
        assert made.processing_status == "in_progress"
        counts = made.request_counts
        assert (counts.processing, counts.succeeded, counts.errored) == (2, 0, 0)
        for _ in range(400):
            batch = client.messages.batches.retrieve(made.id)
            if batch.processing_status == "ended":
                break
            time.sleep(0.1)
        results = {row.custom_id: row.result for row in client.messages.batches.results(made.id)}
        assert results["a"].message.content[0].text == "You said: hi"
        assert results["b"].type == "errored"
        assert results["b"].error.error.type == "invalid_request_error"
        assert batch.request_counts.succeeded == 1
        assert client.messages.batches.delete(made.id).to_dict() == {"id": made.id, "type": "message_batch_deleted"}
        for gone in (client.messages.batches.retrieve, client.messages.batches.delete):
            with pytest.raises(anthropic.NotFoundError):
                gone(made.id)
        assert made.id not in {each.id for each in client.messages.batches.list()}
    assert files(site) == before, "the requests and the results are gone as well"


def test_a_message_batch_is_deleted_by_its_owner_alone_and_once_it_has_ended(site):
    with anthropic.Anthropic(base_url=site.url, api_key=site.keys["plain"], max_retries=0) as client:
        params = {"model": "route/answers", "max_tokens": 50, "messages": [{"role": "user", "content": "LONG"}]}
        requests = [{"custom_id": str(number), "params": params} for number in range(20)]
        made = client.messages.batches.create(requests=requests)
        with pytest.raises(anthropic.ConflictError, match="has not ended yet"):
            client.messages.batches.delete(made.id)
        with site.client("admin") as other:
            assert other.delete(f"/v1/messages/batches/{made.id}").status_code == 404
            wrong = other.put(f"/v1/messages/batches/{made.id}")
            assert (wrong.status_code, wrong.json()["request_id"]) == (405, wrong.headers["x-request-id"])
            assert wrong.headers["x-request-id"].startswith("req")
        client.messages.batches.cancel(made.id)
        for _ in range(400):
            if client.messages.batches.retrieve(made.id).processing_status == "ended":
                break
            time.sleep(0.1)
        assert client.messages.batches.delete(made.id).id == made.id


async def test_kill_9_in_a_batch_loses_no_line_and_writes_none_twice(tmp_path, models_dir):
    workspace = workspace_of(tmp_path, models_dir)
    count = 24
    lines = [line(number, f"A MOMENT {number}", model="route/answers") for number in range(count)]

    def run():
        with run_server(workspace) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            batch = client.batches.create(
                input_file_id=upload(client, lines).id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            for _ in range(400):
                if client.batches.retrieve(batch.id).request_counts.completed >= 4:
                    break
                time.sleep(0.05)
            server.kill()
        with run_server(workspace) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            before = client.batches.retrieve(batch.id).request_counts.completed
            batch = until_ended(client, batch, seconds=100)
            return before, batch, rows(client, batch.output_file_id)

    before, batch, found = await asyncio.to_thread(run)
    assert 4 <= before < count
    assert [row["custom_id"] for row in found] == [f"line-{number}" for number in range(count)]
    assert batch.request_counts.completed == count
    async with open_app(workspace) as app:
        ledger = await app.parts.cost.ledger(app.owner(), limit=1000)
    # A line under way at the kill is asked again, both calls were paid for, and its row says so.
    lost = [each for row in found for each in row.get("interlock", {}).get("lost", ())]
    assert len(ledger) == count + len(lost) <= count + 4
    charged = {row.trace_id: row for row in ledger}
    assert all(charged[each["trace_id"]].cost.decimal() == Decimal(each["cost_usd"]) for each in lost)


async def test_a_provider_that_asks_for_time_is_given_it(tmp_path, models_dir):
    script = [
        {"match": "BUSY", "fail_status": 429, "retry_after_s": 1, "fail_times": 3, "reply": "now"},
        {"reply": "You said: {question}"},
    ]
    providers = {"scripted": {"kind": "scripted", "script": script}}
    gateway = {"providers": providers, "routes": {"answers": {"targets": ["scripted"], "retries": 0}}}
    workspace = workspace_of(tmp_path, models_dir, gateway=gateway)

    def run():
        lines = [line(number, "BUSY", model="route/answers") for number in range(6)]
        with run_server(workspace) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            made = client.batches.create(
                input_file_id=upload(client, lines).id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            return until_ended(client, made)

    batch = await asyncio.to_thread(run)
    assert batch.request_counts.model_dump() == {"total": 6, "completed": 6, "failed": 0}


def test_what_is_uploaded_is_bounded_and_checked(site):
    with site.client("plain") as http:
        form = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"\xff\xfe\x00")}}
        assert http.post("/v1/files", **form).status_code == 400
        assert http.post("/v1/files", data={"purpose": "batch"}, files={"other": b"x"}).status_code == 400
        assert http.post("/v1/files", json={}).status_code == 415
        wrong = {"data": {"purpose": "evil"}, "files": {"file": ("a", b"x")}}
        assert http.post("/v1/files", **wrong).status_code == 400
        big = {"data": {"purpose": "batch"}, "files": {"file": ("a", b"x" * 26_000_000)}}
        # Or the server answers and hangs up before the body was sent.
        with contextlib.suppress(httpx2.WriteError):
            assert http.post("/v1/files", **big).status_code == 413
        body = {"input_file_id": "file-x", "endpoint": "/v1/secret", "completion_window": "24h"}
        assert http.post("/v1/batches", json=body).json()["error"]["param"] == "endpoint"
        body |= {"endpoint": "/v1/embeddings", "completion_window": "soon"}
        assert http.post("/v1/batches", json=body).json()["error"]["param"] == "completion_window"
