"""What the admin API shows of requests that were made."""

from __future__ import annotations

import time

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


@pytest.fixture
def viewer(http, site):
    """A caller who sees traces and jobs, and oversees no documents."""
    made = http.post("/api/v1/keys", json={"name": "viewer", "roles": ["viewer"], "days": 1}).raise_for_status().json()
    with site.client("plain") as client:
        client.headers["authorization"] = f"Bearer {made['secret']}"
        yield client


def numbers_of(trace):
    return {
        name: value
        for span in trace["spans"]
        for name, value in span["attributes"].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def test_jobs_tell_those_who_oversee_no_documents_that_they_ran(http, viewer):
    everything = http.get("/api/v1/jobs").json()["data"]
    ingest = next(job for job in everything if job["kind"] == "ingest" and job["result"].get("passages"))
    brief = {name: ingest[name] for name in ("id", "kind", "state", "created_at", "updated_at")}
    assert viewer.get(f"/api/v1/jobs/{ingest['id']}").json() == brief
    listed = viewer.get("/api/v1/jobs").json()["data"]
    assert brief in listed
    assert {name for job in listed for name in job} == brief.keys()


def test_counts_of_documents_in_a_trace_are_for_its_asker_and_overseers(http, viewer, trace):
    assert {"lexical_hits", "interlock.answer.citations", "interlock.passages"} <= numbers_of(
        http.get(f"/api/v1/traces/{trace}").json()
    ).keys()
    shown = viewer.get(f"/api/v1/traces/{trace}").json()
    assert {name.split(".")[0] for name in numbers_of(shown)} == {"gen_ai", "interlock"}
    assert {name for name in numbers_of(shown) if name.startswith("interlock.")} == {"interlock.cost.nano_usd"}
    assert shown["ledger"]
    own = ask(viewer, "How many days have customers to return hardware?", "app/helper")
    mine = viewer.get(f"/api/v1/traces/{own.headers['x-interlock-trace-id']}").json()
    assert numbers_of(mine)["lexical_hits"] > 0


def test_the_trace_of_an_ingest_counts_nothing_for_those_who_oversee_no_documents(http, viewer):
    rows = {row["trace_id"]: row for row in http.get("/api/v1/traces?limit=500").json()["data"]}
    # The first one: a run that finds nothing to do counts nothing.
    run = [row for row in rows.values() if row["name"] == "ingest"][-1]
    assert numbers_of(http.get(f"/api/v1/traces/{run['trace_id']}").json())["documents"] > 0
    shown = viewer.get(f"/api/v1/traces/{run['trace_id']}").json()
    assert numbers_of(shown) == {}
    assert shown["ledger"] == []
    listed = {row["trace_id"]: row for row in viewer.get("/api/v1/traces?limit=500").json()["data"]}
    row = listed[run["trace_id"]]
    assert (row["cost_nano"], row["input_tokens"], row["spans"]) == (None, 0, 0)
    assert row["duration_ms"] == run["duration_ms"]


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


def test_an_ingest_may_say_where_it_computes_and_needs_an_operator_for_it(http, site):
    asked = {"executor": "processes", "workers": 2}
    deadline = time.monotonic() + 60
    while (job := http.post("/api/v1/collections/docs/ingest", json=asked)).status_code == 409:
        # A run that was asked for without it is not over yet.
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job.status_code == 202
    refused = http.post("/api/v1/collections/docs/ingest", json={"executor": "moon"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "executor")
    assert http.post("/api/v1/collections/docs/ingest", json={"workers": 0}).json()["error"]["param"] == "workers"
    key = http.post("/api/v1/keys", json={"name": "dev", "roles": ["developer"], "days": 1}).json()["secret"]
    with site.client(authorization=f"Bearer {key}", **{"x-forwarded-for": "10.0.0.1"}) as developer:
        assert developer.post("/api/v1/collections/docs/ingest").status_code == 202
        assert developer.post("/api/v1/collections/docs/ingest", json={"executor": "ray"}).status_code == 403


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


def test_the_ledger_knows_end_users_by_pseudonyms_and_finds_one_by_id(http, site):
    with site.client("plain", token=site.token(sub="fay")) as client:
        said = client.post(
            "/v1/chat/completions", json={"model": "app/talker", "messages": [{"role": "user", "content": "hi"}]}
        )
        assert said.status_code == 200
    keys = {row["key"] for row in http.get("/api/v1/spend?by=end_user").json()["data"]}
    assert keys and "fay" not in str(keys)
    assert any(key.startswith("user:") for key in keys)
    mine = http.get("/api/v1/spend?by=model&user=fay").json()["data"]
    assert sum(row["calls"] for row in mine) >= 1
    assert http.get("/api/v1/spend?by=model&user=nobody-of-this-name").json()["data"] == []
    with site.client("rival") as rival:
        assert rival.get("/api/v1/spend?by=model&user=fay").json()["data"] == []
    with site.client("plain") as client:
        assert client.get("/api/v1/spend?by=app&user=fay").status_code == 403


def test_deleting_an_unknown_document_is_refused_and_leaves_a_line(http, site):
    refused = http.delete("/api/v1/documents/doc_nothing")
    assert refused.status_code == 404
    line = http.get("/api/v1/audit?action=document.delete").json()["data"][0]
    assert (line["subject"], line["outcome"]) == ("doc_nothing", refused.json()["error"]["code"])


def test_documents_say_how_well_they_were_read_and_where_their_text_stands(http, site):
    listed = http.get("/api/v1/documents").json()["data"]
    assert listed and all(info["quality"] == 1.0 and info["review"] == [] for info in listed)
    public = next(info["id"] for info in listed if info["readers"] == ["public"])
    boxes = f"/api/v1/documents/{public}/boxes"
    assert http.get(f"{boxes}?start=0&end=5").json() == {"data": []}, "Markdown has no layout"
    for query in ("", "?start=0", "?start=-1&end=2", "?start=1&end=9" + "9" * 20, "?start=1e2&end=3"):
        refused = http.get(boxes + query)
        assert (refused.status_code, refused.json()["error"]["param"] in {"start", "end"}) == (400, True)
    assert http.get(f"{boxes}?start=0&end=5&digest=sha256:{'0' * 64}").status_code == 404
    with site.client("rival") as rival:
        assert rival.get(f"{boxes}?start=0&end=5").status_code == 404


def test_an_app_of_named_tenants_does_not_exist_for_others(http, site):
    file = site.workspace / "apps" / "talker" / "app.yaml"
    whole = file.read_text()
    question = {"model": "app/talker", "messages": [{"role": "user", "content": "hi"}]}
    try:
        with site.client("rival") as rival:
            assert "app/talker" in {model["id"] for model in rival.get("/v1/models").json()["data"]}
            file.write_text(whole + "\ntenants: [acme]\n")
            assert http.post("/v1/chat/completions", json=question).status_code == 200
            for asked in (question, {**question, "model": "app/talker@dev"}, {**question, "model": "app/talker@prod"}):
                refused = rival.post("/v1/chat/completions", json=asked)
                assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
                assert "talker" not in refused.json()["error"]["message"].replace("app named 'talker'", "")
            assert "app/talker" not in {model["id"] for model in rival.get("/v1/models").json()["data"]}
            assert "talker" not in {app["name"] for app in rival.get("/api/v1/apps").json()["data"]}
            file.write_text(whole + "\ntenants: acme: broken\n")
            assert rival.post("/v1/chat/completions", json=question).status_code == 404, "a broken file opens nothing"
    finally:
        file.write_text(whole)
