"""What the admin API shows of requests that were made."""

from __future__ import annotations

import pytest
from dirty_equals import IsFloat, IsInt, IsPartialDict, IsStr

pytestmark = pytest.mark.model


def ask(client, question, model):
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    return client.post("/v1/chat/completions", json=body)


@pytest.fixture
def trace(http):
    answer = ask(http, "How many days have customers to return hardware?", "app/helper")
    return answer.headers["x-interlock-trace-id"]


def test_a_trace_shows_its_steps_and_its_ledger(http, trace):
    shown = http.get(f"/api/v1/traces/{trace}").json()
    names = {span["name"] for span in shown["spans"]}
    assert {"chat", "guardrails.input", "chat scripted", "answer select"} <= names
    assert shown["ledger"] == [
        IsPartialDict(
            provider="scripted", model="scripted", outcome="ok", price="override:scripted/*", cost_usd=IsStr()
        )
    ]
    short = http.get(f"/api/v1/traces/{trace[:12]}").json()
    assert short["trace_id"] == trace


def test_traces_are_listed_newest_first_page_by_page(http, trace):
    rows = http.get("/api/v1/traces?app=helper&limit=5").json()["data"]
    assert rows[0]["trace_id"] == trace
    assert rows[0] == IsPartialDict(
        name="chat", status="ok", app="helper", cost_nano=IsInt(gt=0), duration_ms=IsFloat()
    )
    seen = []
    cursor = None
    while True:
        page = http.get("/api/v1/traces", params={"limit": 2, **({"before": cursor} if cursor else {})}).json()["data"]
        if not page:
            break
        seen += [row["trace_id"] for row in page]
        cursor = page[-1]["cursor"]
    assert len(seen) == len(set(seen))
    assert trace in seen


def test_spend_adds_up_and_has_no_second_cost(http, trace):
    for by in ("app", "model", "provider", "principal", "end_user"):
        rows = http.get(f"/api/v1/spend?by={by}").json()["data"]
        assert rows[0] == IsPartialDict(cost_usd=IsStr(regex=r"\d+\.\d+|\d+"), calls=IsInt(ge=1), unpriced_calls=0)
        assert all("cost" not in row for row in rows)


def test_audit_lines_are_listed_without_gaps(http, trace):
    rows = http.get("/api/v1/audit?limit=500").json()["data"]
    assert [row["seq"] for row in rows] == sorted((row["seq"] for row in rows), reverse=True)
    assert any(row["trace_id"] == trace and row["action"] == "chat.answer" for row in rows)
    only = http.get("/api/v1/audit?action=key.create").json()["data"]
    assert {row["action"] for row in only} == {"key.create"}


def test_apps_and_version_are_shown(http):
    apps = {row["name"]: row for row in http.get("/api/v1/apps").json()["data"]}
    assert apps["helper"]["default_channel"] == "dev"
    assert http.get("/api/v1/version").json() == {"version": IsStr(), "schema": IsStr()}


def test_an_ingest_asked_for_twice_is_one_job(http):
    first, second = (http.post("/api/v1/collections/docs/ingest") for _ in range(2))
    assert first.status_code == 202
    assert second.json()["kind"] == "ingest"
    assert http.post("/api/v1/collections/nothing/ingest").status_code == 404


def test_metrics_count_requests_by_a_few_names(http, trace):
    text = http.get("/metrics").text
    assert 'interlock_http_requests_total{family="/v1/chat",method="POST",status="200"}' in text.replace(
        "/v1/chat/completions", "/v1/chat"
    )
    assert "interlock_spans_dropped 0.0" in text
    assert trace not in text


def test_health_and_readiness_need_no_key(site):
    with site.client(**{"x-forwarded-for": "10.0.0.1"}) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.get("/readyz").json() == {"status": "ready", "problems": []}
        assert client.get("/metrics").status_code == 401


def test_every_answer_carries_honest_headers(http):
    for path in ("/healthz", "/v1/models", "/nothing"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
