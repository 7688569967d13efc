"""The operator's side over HTTP: limits, routes and why, providers, configuration, metrics, access log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import contextmanager

import httpx2
import pytest
import yaml

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

SETTINGS = {
    "gateway": {
        "breaker": {"failures": 1000},
        "providers": {
            "good": {"kind": "scripted", "models": ["a", "b"], "script": [{"reply": "a word or two"}]},
            "down": {"kind": "scripted", "models": ["x"], "script": [{"fail_status": 503}]},
            "keyless": {"kind": "openai", "key": "env:NO_SUCH_KEY_ANYWHERE", "base_url": "http://127.0.0.1:9/v1"},
        },
        "routes": {
            "answers": {"targets": ["down/x", "good/a"], "retries": 0},
            "europe": {"targets": ["good/a", "good/b"], "require": {"regions": ["eu"]}},
        },
        "approvals": {
            "good/a": {"regions": ["us"], "uses": ["public"]},
            "good/b": {"regions": ["eu"], "retention_days": 0, "trains_on_data": False},
            "down/x": {"deprecated_on": "2999-01-01"},
        },
    },
    "cost": {
        "prices": {"good/*": {"input_per_million": "1", "output_per_million": "2"}},
        "limits": [{"name": "from-file", "window": "1h", "requests": 100000}],
    },
    "server": {"access_log": "access.jsonl"},
}
APPS = {"helper": {"route": {"targets": ["down/x", "good/a"], "retries": 0}}}
ROLES = {"operator": [Role.OPERATOR], "viewer": [Role.VIEWER], "plain": [], "developer": [Role.DEVELOPER]}


class Site:
    def __init__(self, server, workspace, keys):
        self.server, self.workspace, self.keys = server, workspace, keys

    def client(self, name="operator"):
        headers = {"authorization": f"Bearer {self.keys[name]}"}
        return httpx2.Client(base_url=self.server.url, headers=headers, timeout=60, trust_env=False)


async def _keys(workspace):
    async with open_app(workspace) as app:
        access, owner = app.parts.access, app.owner()
        found = {
            name: (await access.create_key(owner, name=name, roles=roles, days=None)) for name, roles in ROLES.items()
        }
        store = Keys(app.sql)
        rival = await store.create(TenantId("rival"), name="rival", roles=[Role.ADMIN], by="test", expires_at=None)
        ids = {name: new.key.id for name, new in found.items()}
        return {**{name: new.secret for name, new in found.items()}, "rival": rival.secret}, ids


@contextmanager
def running(folder, settings=SETTINGS):
    workspace = write_workspace(folder, settings=settings, apps=APPS)
    keys, ids = asyncio.run(_keys(workspace))
    with run_server(workspace) as server:
        site = Site(server, workspace, keys)
        site.ids = ids
        yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("operations") / "workspace") as found:
        yield found


@pytest.fixture
def operator(site):
    with site.client() as client:
        yield client


def ask(client, model="route/answers", **more):
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20, **more}
    return client.post("/v1/chat/completions", json=body)


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def limit(client, name, **rule):
    set_ = client.put(f"/api/v1/limits/{name}", json=rule)
    assert set_.status_code == 200, set_.text
    try:
        yield set_.json()
    finally:
        assert client.delete(f"/api/v1/limits/{name}").status_code == 200


def test_a_limit_is_set_listed_used_and_removed(site, operator):
    key = site.ids["plain"]
    with limit(operator, "two", window="1h", requests=2, match={"key": key}, per=["key"]) as made:
        assert (made["source"], made["requests"], made["set_by"]) == ("run time", 2, site.ids["operator"])
        with site.client("plain") as plain:
            first = ask(plain)
            assert first.headers["x-ratelimit-limit-requests"] == "2"
            assert first.headers["x-ratelimit-remaining-requests"] == "1"
            assert 3600 <= int(first.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 3960
            assert "x-interlock-limit-warning" not in first.headers
            second = ask(plain)
            assert second.headers["x-interlock-limit-warning"] == "two"
            third = ask(plain)
        assert third.status_code == 429
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert 1 <= int(third.headers["retry-after"]) <= 3960
        (use,) = operator.get("/api/v1/limit-use?limit=two").json()["data"]
        assert (use["used"], use["of"], use["state"], use["scope"]) == (2, 2, "over", {"key": key})
    assert "two" not in [row["name"] for row in operator.get("/api/v1/limits").json()["data"]]
    lines = operator.get("/api/v1/audit?limit=100").json()["data"]
    assert {"limit.set", "limit.remove"} <= {line["action"] for line in lines if line["subject"] == "two"}


def test_a_soft_limit_warns_in_a_header_of_every_kind_of_answer(site, operator):
    with limit(operator, "soft", window="1h", requests=0, mode="soft"):
        bodies = {
            "/v1/chat/completions": {"model": "good/a", "messages": [{"role": "user", "content": "hi"}]},
            "/v1/messages": {"model": "good/a", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
            "/v1/responses": {"model": "good/a", "input": "hi"},
            "/v1beta/models/good/a:generateContent": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
            "/v1/embeddings": {"model": "good/a", "input": "hi"},
        }
        for path, body in bodies.items():
            answer = operator.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-interlock-limit-warning"] == "soft", path
        with operator.stream(
            "POST", "/v1/chat/completions", json={**bodies["/v1/chat/completions"], "stream": True}
        ) as s:
            assert s.headers["x-interlock-limit-warning"] == "soft"
            s.read()
    metrics = operator.get("/metrics").text
    assert float(_metric(metrics, 'interlock_limit_warnings_total{measure="requests"}')) >= 6


def _metric(text, name):
    return next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name))


REFUSED = {
    "/v1/chat/completions": (
        {"model": "good/a", "messages": [{"role": "user", "content": "hi"}]},
        lambda body: (body["error"]["type"], body["error"]["code"]),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("rate_limit_error", "insufficient_quota"),
    ),
    "/v1/responses": (
        {"model": "good/a", "input": "hi"},
        lambda body: (body["error"]["type"], body["error"]["code"]),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("rate_limit_error", "insufficient_quota"),
    ),
    "/v1/messages": (
        {"model": "good/a", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        lambda body: (body["type"], body["error"]["type"]),
        ("error", "rate_limit_error"),
        ("error", "rate_limit_error"),
    ),
    "/v1beta/models/good/a:generateContent": (
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        lambda body: (body["error"]["code"], body["error"]["status"]),
        (429, "RESOURCE_EXHAUSTED"),
        (429, "RESOURCE_EXHAUSTED"),
    ),
    "/v1/embeddings": (
        {"model": "good/a", "input": "hi"},
        lambda body: (body["error"]["type"], body["error"]["code"]),
        ("rate_limit_error", "rate_limit_exceeded"),
        ("rate_limit_error", "insufficient_quota"),
    ),
}


@pytest.mark.parametrize(
    ("path", "stream"),
    [(path, stream) for path in REFUSED for stream in (False, True) if not (stream and path == "/v1/embeddings")],
)
def test_limits_and_budgets_are_refused_in_the_words_of_each_api(operator, path, stream):
    body, shape, limited, broke = REFUSED[path]
    sent, where = ({**body, "stream": True}, path) if stream else (body, path)
    if stream and path.startswith("/v1beta"):
        sent, where = body, path.replace("generateContent", "streamGenerateContent") + "?alt=sse"
    with limit(operator, "none", window="10m", requests=0):
        answer = operator.post(where, json=sent)
        assert (answer.status_code, shape(answer.json())) == (429, limited)
    with limit(operator, "broke", period="month", money="0"):
        answer = operator.post(where, json=sent)
        assert (answer.status_code, shape(answer.json())) == (429, broke)
        # A client that tries again would only be refused again.
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"requests": 5}, "window"),
        ({"window": "60s", "requests": -5}, "requests"),
        ({"period": "month", "money": "much"}, "money"),
        ({"window": "60s", "requests": 1, "match": {"colour": "red"}}, "match.colour"),
        ({"name": "other", "window": "60s", "requests": 1}, "name"),
        ([], None),
    ],
)
def test_a_wrong_limit_names_its_field(operator, body, field):
    answer = operator.put("/api/v1/limits/x", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_only_operators_change_limits_and_tenants_see_their_own(site):
    rule = {"window": "60s", "requests": 1}
    for name in ("viewer", "plain", "developer"):
        with site.client(name) as client:
            assert client.put("/api/v1/limits/x", json=rule).status_code == 403
            assert client.delete("/api/v1/limits/from-file").status_code == 403
            assert client.get("/api/v1/limits").status_code == (403 if name == "plain" else 200)
    with site.client("rival") as rival:
        assert rival.get("/api/v1/limits").json() == {"data": []}
        assert rival.get("/api/v1/limits/from-file").status_code == 404
        assert rival.put("/api/v1/limits/theirs", json=rule).status_code == 200
    with site.client() as operator:
        assert operator.get("/api/v1/limits/theirs").status_code == 404
        assert operator.delete("/api/v1/limits/from-file").status_code == 409


def test_budgets_are_the_limits_on_money(operator):
    with limit(operator, "money", period="month", money="500"):
        assert [row["name"] for row in operator.get("/api/v1/budgets").json()["data"]] == ["money"]


def test_the_counters_agree_with_the_ledger(operator):
    with limit(operator, "sum", window="10m", tokens=100000):
        ask(operator, model="good/a")
        found = operator.post("/api/v1/limit-use/reconcile", json={"repair": True}).json()
        assert {row["state"] for row in found["counters"]} <= {"equal", "raised"}
        again = operator.post("/api/v1/limit-use/reconcile").json()
        assert {row["state"] for row in again["counters"]} == {"equal"}
        assert again["not_compared"] == ["from-file"]


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["route/answers", "app/helper"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_the_head_of_an_answer_tells_the_target_and_why_not_the_others(operator, model, stream, path):
    turn = {"role": "user", "content": "hi"}
    body = {"model": model, "stream": stream, "max_tokens": 9, "messages": [turn]}
    if path == "/v1/responses":
        body = {"model": model, "stream": stream, "input": "hi"}
    with operator.stream("POST", path, json=body) as answer:
        answer.read()
    assert answer.status_code == 200
    assert answer.headers["x-interlock-route"] == "good/a; down/x=provider_error"


def test_a_route_that_serves_nobody_says_so_in_the_head_too(operator):
    answer = operator.post(
        "/v1/chat/completions", json={"model": "down/x", "messages": [{"role": "user", "content": "hi"}]}
    )
    assert (answer.status_code, answer.headers["x-interlock-route"]) == (502, "none; down/x=provider_error")


def test_an_explanation_tells_order_reasons_price_and_limits(site, operator):
    found = operator.post("/api/v1/routes/explain", json={"model": "route/europe"}).json()
    assert (found["chosen"], found["regions"]) == ("good/b", [["eu"]])
    rows = {row["target"]: row for row in found["targets"]}
    assert (rows["good/a"]["position"], rows["good/a"]["code"]) == (None, "region")
    assert (rows["good/b"]["price_per_million_usd"], rows["good/b"]["approval"]["regions"]) == ("3", ["eu"])
    key = site.ids["plain"]
    with limit(operator, "none", period="day", tokens=10, match={"key": key}):
        body = {"model": "app/helper", "key": key, "input_tokens": 500}
        found = operator.post("/api/v1/routes/explain", json=body).json()
        assert {row["target"]: row["limits"] for row in found["targets"]} == {"down/x": ["none"], "good/a": ["none"]}
        own = operator.post("/api/v1/routes/explain", json={"model": "app/helper"}).json()
        assert own["targets"][0]["limits"] == []


def test_an_explanation_refuses_what_is_not_there_and_who_may_not(site, operator):
    missing = operator.post("/api/v1/routes/explain", json={"model": "route/nowhere"})
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "model")
    wrong = operator.post("/api/v1/routes/explain", json={"model": "good/a", "colour": 1})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "colour")
    with site.client("viewer") as viewer:
        assert viewer.post("/api/v1/routes/explain", json={"model": "good/a"}).status_code == 403


def test_routes_are_listed_with_the_state_of_their_targets(operator):
    ask(operator)
    rows = {row["name"]: row for row in operator.get("/api/v1/routes").json()["data"]}
    assert set(rows) == {"route/answers", "route/europe", "app/helper"}
    state = rows["route/answers"]["targets"][0]["state"]
    assert (state["breaker"], state["last_error"]) == ("closed", "provider_error")
    assert state["failures"] >= 1


# ── providers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_providers_are_tested_by_list_or_by_call_and_say_what_is_missing(operator):
    good = operator.post("/api/v1/providers/good/test").json()
    assert (good["ok"], good["how"]) == (True, "list")
    called = operator.post("/api/v1/providers/good/test", json={"model": "a"}).json()
    assert (called["ok"], called["how"], called["model"]) == (True, "call", "a")
    broken = operator.post("/api/v1/providers/down/test", json={"model": "x"}).json()
    assert (broken["ok"], broken["code"]) == (False, "provider_error")
    keyless = operator.post("/api/v1/providers/keyless/test").json()
    assert (keyless["ok"], keyless["code"]) == (False, "misconfigured")
    assert operator.post("/api/v1/providers/nobody/test").status_code == 404
    spent = operator.get("/api/v1/spend?by=provider").json()["data"]
    assert "good" in [row["key"] for row in spent]


def test_the_register_is_listed_with_what_uses_each_target(operator):
    rows = {row["target"]: row for row in operator.get("/api/v1/provider-register").json()["data"]}
    assert rows["good/b"]["retention_days"] == 0
    assert rows["good/a"]["used_by"] == ["route/answers", "route/europe", "app/helper"]
    assert rows["down/x"]["deprecated_on"] == "2999-01-01"


@pytest.mark.parametrize("path", ["providers", "routes", "provider-register", "config/history"])
def test_another_tenant_is_not_told_of_the_installation(site, path):
    with site.client("rival") as rival:
        assert rival.get(f"/api/v1/{path}").status_code == 404


def test_another_tenant_is_told_neither_where_a_route_goes_nor_what_is_kept(site):
    with site.client("rival") as rival:
        assert rival.post("/api/v1/routes/explain", json={"model": "good/a"}).status_code == 404
        assert rival.get("/api/v1/cache").json()["routes"] == {}


def test_metrics_tell_of_targets_queues_and_limits_and_not_of_made_up_models(operator):
    ask(operator)
    operator.post(
        "/v1/chat/completions",
        json={"model": "down/made-up-by-a-caller", "messages": [{"role": "user", "content": "x"}]},
    )
    text = operator.get("/metrics").text
    assert float(_metric(text, 'interlock_target_requests_total{model="a",outcome="ok",provider="good"}')) >= 1
    assert float(_metric(text, 'interlock_target_requests_total{model="x",outcome="error",provider="down"}')) >= 1
    assert float(_metric(text, 'interlock_target_fallbacks_total{model="x",provider="down"}')) >= 1
    assert float(_metric(text, 'interlock_target_first_token_seconds_count{model="a",provider="good"}')) >= 1
    assert _metric(text, 'interlock_target_breaker{model="x",provider="down",state="closed"}') == "1.0"
    assert _metric(text, 'interlock_provider_queue_length{provider="good"}') == "0.0"
    assert _metric(text, 'interlock_provider_retries_total{provider="down"}')
    assert 'model="other",outcome="error",provider="down"' in text
    assert "made-up" not in text


# ── access log ────────────────────────────────────────────────────────────────────────────────────────────────────


def until(check):
    for _ in range(400):
        found = check()
        if found:
            return found
        time.sleep(0.025)
    raise AssertionError("it never came to be")


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_request_is_one_line_without_content_and_a_renamed_file_is_left(site, operator):
    path = site.workspace / "access.jsonl"
    answer = ask(operator, messages=[{"role": "user", "content": "Ottoline"}])
    name = answer.headers["x-request-id"]
    (line,) = until(lambda: [one for one in lines_of(path) if one["request_id"] == name])
    assert line == {
        **line,
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "tenant": "acme",
        "key": site.ids["operator"],
        "model": "route/answers",
        "target": "good/a",
        "trace_id": answer.headers["x-interlock-trace-id"],
    }
    assert line["output_tokens"] > 0
    assert float(line["cost_usd"]) > 0
    moved = path.rename(site.workspace / "access.1.jsonl")
    refused = httpx2.get(f"{site.server.url}/api/v1/limits?secret=1", headers={"x-forwarded-for": "10.0.0.1"})
    assert refused.status_code == 401
    (line,) = until(lambda: [one for one in lines_of(path) if one["status"] == 401])
    assert (line["path"], "tenant" in line) == ("/api/v1/limits", False)
    assert "Ottoline" not in moved.read_text()
    assert "secret" not in path.read_text()
    assert not any(secret in moved.read_text() for secret in site.keys.values())


# ── configuration ─────────────────────────────────────────────────────────────────────────────────────────────────


def rewrite(site, change):
    path = site.workspace / "interlock.yaml"
    settings = yaml.safe_load(path.read_text())
    change(settings)
    path.write_text(yaml.safe_dump(settings))


@pytest.fixture
def own(tmp_path):
    with running(tmp_path / "workspace") as found:
        yield found


def test_a_reload_is_checked_whole_and_refused_with_the_field_while_the_old_serves(own):
    with own.client() as operator, own.client("developer") as developer:
        assert developer.post("/api/v1/config/reload").status_code == 403
        assert ask(operator, "route/answers").status_code == 200
        rewrite(own, lambda s: s["gateway"]["routes"].update(answers={"targets": ["nowhere/x"]}))
        refused = operator.post("/api/v1/config/reload")
        assert refused.json()["error"]["param"] == "gateway.routes.answers.targets[0]"
        rewrite(own, lambda s: s["gateway"].update(breaker={"failures": "many"}))
        assert operator.post("/api/v1/config/reload").json()["error"]["param"] == "gateway.breaker.failures"
        rewrite(own, lambda s: s["gateway"]["providers"].pop("down"))
        (own.workspace / "interlock.yaml").write_text("gateway: [")
        assert "not YAML" in operator.post("/api/v1/config/reload").json()["error"]["message"]
        assert ask(operator, "route/answers").status_code == 200
        lines = operator.get("/api/v1/audit?action=config.reload").json()["data"]
        assert [line["outcome"] for line in lines] == ["misconfigured"] * 3


def test_a_provider_that_an_app_needs_is_not_taken_away(own):
    def take(settings):
        settings["gateway"]["providers"].pop("down")
        settings["gateway"]["routes"]["answers"]["targets"] = ["good/a"]
        settings["gateway"]["approvals"].pop("down/x")

    rewrite(own, take)
    with own.client() as operator:
        refused = operator.post("/api/v1/config/reload").json()["error"]
        assert refused["param"] == "gateway.providers.down"
        assert "helper" in refused["message"]


def test_a_reload_changes_routes_limits_and_prices_and_says_what_waits_for_a_start(own):
    def change(settings):
        settings["gateway"]["routes"]["more"] = {"targets": ["good/b"]}
        settings["gateway"]["providers"]["good"]["script"] = [{"reply": "changed"}]
        settings["cost"]["limits"] = [
            {"name": "from-file", "window": "1h", "requests": 0, "match": {"model": "good/a"}}
        ]
        settings["cost"]["prices"]["good/*"]["output_per_million"] = "1000000"
        settings["server"]["port"] = 1
        settings["gateway"]["batch_concurrency"] = 9

    with own.client() as operator:
        rewrite(own, change)
        done = operator.post("/api/v1/config/reload").json()
        assert done["number"] == 2
        assert (done["added"], done["removed"]) == (["gateway.routes.more"], [])
        assert not [name for name in done["changed"] if name.startswith("gateway.routes.more")]
        assert "gateway.providers.good.script" in done["changed"]
        assert {"server.port", "gateway.batch_concurrency"} <= set(done["at_restart"])
        answer = ask(operator, "route/more")
        assert answer.json()["choices"][0]["message"]["content"] == "changed"
        assert float(answer.json()["interlock"]["cost_usd"]) > 0.5
        assert ask(operator, "good/a").status_code == 429
        assert _metric(operator.get("/metrics").text, "interlock_config_generation") == "1.0"
        history = operator.get("/api/v1/config/history").json()["data"]
        assert [row["number"] for row in history] == [2, 1]
        back = operator.post("/api/v1/config/rollback").json()
        assert back["number"] == 3
        assert ask(operator, "route/more").status_code == 404
        assert ask(operator, "good/a").status_code == 200
        assert "more" not in (own.workspace / "interlock.yaml").read_text()
        assert operator.post("/api/v1/config/rollback", json={"number": 99}).status_code == 404


def test_sighup_reloads_and_a_stream_under_way_ends_with_what_it_began_with(tmp_path):
    settings = json.loads(json.dumps(SETTINGS))
    slow = [{"reply": "one two three four five six", "chunk_chars": 4, "chunk_delay_s": 0.1}]
    settings["gateway"]["providers"]["good"]["script"] = slow
    with running(tmp_path / "workspace", settings) as own, own.client() as operator:
        body = {"model": "good/a", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        with operator.stream("POST", "/v1/chat/completions", json=body) as stream:
            pieces = stream.iter_lines()
            first = next(pieces)
            rewrite(own, lambda s: s["gateway"]["providers"]["good"].update(script=[{"reply": "new"}]))
            own.server.process.send_signal(signal.SIGHUP)
            with own.client() as other:
                until(lambda: ask(other, "good/a").json()["choices"][0]["message"]["content"] == "new")
            rest = [first, *pieces]
        said = "".join(
            json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or ""
            for line in rest
            if line.startswith("data: {")
        )
        assert said == "one two three four five six"


def test_a_watched_file_is_reloaded_when_it_changes_and_a_broken_one_is_not(tmp_path):
    settings = {**SETTINGS, "server": {"watch": True}}
    with running(tmp_path / "workspace", settings) as own, own.client() as operator:
        (own.workspace / "interlock.yaml").write_text("gateway: 3")
        until(lambda: "refused" in own.server.log.read_text())
        assert ask(operator, "good/a").status_code == 200
        (own.workspace / "interlock.yaml").write_text("")
        until(lambda: "interlock.yaml is empty" in own.server.log.read_text())
        assert ask(operator, "good/a").status_code == 200
        (own.workspace / "interlock.yaml").unlink()
        until(lambda: "interlock.yaml is gone" in own.server.log.read_text())
        assert ask(operator, "good/a").status_code == 200
        (own.workspace / "interlock.yaml").write_text(yaml.safe_dump({"tenant": "acme", **settings}))
        rewrite(own, lambda s: s["gateway"]["routes"].update(late={"targets": ["good/a"]}))
        until(lambda: ask(operator, "route/late").status_code == 200)


@pytest.mark.parametrize("text", ["", " \n\n", "# nothing but a comment\n"])
def test_a_reload_refuses_a_file_that_was_emptied(own, text):
    path = own.workspace / "interlock.yaml"
    before = path.read_text()
    with own.client() as operator:
        path.write_text(text)
        refused = operator.post("/api/v1/config/reload")
        assert (refused.status_code, refused.json()["error"]["param"]) == (500, "interlock.yaml")
        assert "{}" in refused.json()["error"]["hint"]
        assert ask(operator, "good/a").status_code == 200
        assert own.server.log.read_text().count("interlock.yaml is empty") == 1
        path.write_text(before)


def in_gateway(**changes):
    return lambda settings: settings["gateway"].update(changes)


def in_route(**changes):
    return lambda settings: settings["gateway"]["routes"]["answers"].update(changes)


def in_provider(**changes):
    return lambda settings: settings["gateway"]["providers"]["good"].update(changes)


WRONG = {
    "an unknown hook": (in_route(post=["nope"]), "gateway.routes.answers.post.0"),
    "a hook's option": (in_route(post=[{"max_chars": -5}]), "gateway.routes.answers.post.0"),
    "a weight that is no number": (
        in_route(strategy="weighted", weights={"good/a": float("nan")}),
        "gateway.routes.answers.weights.good/a",
    ),
    "no region at all": (in_gateway(residency={"acme": []}), "gateway.residency.acme"),
    "two lines in a header": (in_provider(headers={"x-a": "b\r\nc: d"}), "gateway.providers.good.headers"),
    "a header of the connection": (in_provider(headers={"Host": "evil"}), "gateway.providers.good.headers"),
    "two lines in an address": (in_provider(base_url="http://h/v1\r\nx: y"), "gateway.providers.good.base_url"),
    "a limit past all counting": (
        lambda settings: settings.update(cost={"limits": [{"name": "a", "tokens": 10**30, "window": "1h"}]}),
        "cost.limits.0.tokens",
    ),
}


def test_a_reload_refuses_what_no_call_could_be_served_by(own):
    path = own.workspace / "interlock.yaml"
    before = path.read_text()
    with own.client() as operator:
        for what, (change, field) in WRONG.items():
            path.write_text(before)
            rewrite(own, change)
            refused = operator.post("/api/v1/config/reload")
            assert refused.status_code == 500, what
            assert refused.json()["error"]["code"] == "misconfigured", what
            assert refused.json()["error"]["param"] == field, what


def test_a_date_that_does_not_exist_is_told_and_rolled_back(own):
    path = own.workspace / "interlock.yaml"
    with own.client() as operator:
        assert operator.post("/api/v1/config/reload").status_code == 200
        good = path.read_text()
        path.write_text(good + "\nlate: 2020-02-30\n")
        said = operator.post("/api/v1/config/reload").json()["error"]["message"]
        assert "not YAML" in said
        assert "out of range" in said
        assert operator.post("/api/v1/config/rollback").status_code == 200
        assert "2020-02-30" not in path.read_text()


def test_a_reload_takes_settings_that_are_meant_to_be_none_and_rolls_back_a_file_that_is_gone(own):
    path = own.workspace / "interlock.yaml"
    with own.client() as operator:
        path.unlink()
        refused = operator.post("/api/v1/config/reload").json()["error"]
        assert refused["param"] == "interlock.yaml"
        assert refused["message"].startswith("interlock.yaml is gone")
        assert ask(operator, "good/a").status_code == 200
        back = operator.post("/api/v1/config/rollback")
        assert (back.status_code, back.json()["number"]) == (200, 1)
        assert "good" in path.read_text()
        # An app would lack its provider, and that is refused for itself.
        (own.workspace / "apps" / "helper" / "app.yaml").unlink()
        path.write_text("{}")
        assert operator.post("/api/v1/config/reload").status_code == 200
        # It was taken for none on purpose: now there is nothing to lose.
        path.write_text("")
        assert operator.post("/api/v1/config/reload").status_code == 200


def test_the_console_shows_targets_that_answer_nothing_as_failing_and_keys_by_name(tmp_path):
    settings = json.loads(json.dumps(SETTINGS))
    settings["gateway"]["providers"] |= {
        "busy": {"kind": "scripted", "models": ["x"], "script": [{"fail_status": 429}]},
        "shut": {"kind": "scripted", "models": ["x"], "script": [{"fail_status": 401}]},
    }
    with running(tmp_path / "workspace", settings) as own, own.client() as operator:
        for model in ("good/a", *(f"{name}/x" for name in ("busy", "shut") for _ in range(3))):
            ask(operator, model)
        operator.put("/api/v1/limits/mine", json={"requests": 50, "window": "1h", "per": ["key"]})
        ask(operator, "good/a")
        page = httpx2.get(f"{own.server.url}/gateway", trust_env=False).text
        rows = {
            name: page.partition(f"<b>{name}</b>")[2].partition("</tr>")[0] for name in ("busy/x", "shut/x", "good/a")
        }
        assert [">fails<" in rows["busy/x"], ">fails<" in rows["shut/x"], ">answers<" in rows["good/a"]] == [True] * 3
        assert "2 of 3 targets do not answer" in page
        assert f"operator ({own.ids['operator']})" in page
        # One that answers again is not held to what it did before.
        rewrite(own, lambda s: s["gateway"]["providers"]["shut"].update(script=[{"reply": "back"}]))
        assert operator.post("/api/v1/config/reload").status_code == 200
        assert ask(operator, "shut/x").status_code == 200
        page = httpx2.get(f"{own.server.url}/gateway", trust_env=False).text
        assert "1 of 3 targets does not answer" in page


def test_a_changed_limit_says_when_it_counts_anew_and_regains_from_the_ledger(own):
    with own.client() as operator:
        operator.put("/api/v1/limits/mine", json={"tokens": 100_000, "window": "1h"})
        assert ask(operator, "good/a").status_code == 200

        def used():
            (row,) = operator.get("/api/v1/limit-use?limit=mine").json()["data"] or [{"used": 0}]
            return row["used"]

        until(lambda: used() > 0)
        counted = used()
        same = operator.put("/api/v1/limits/mine", json={"tokens": 50_000, "window": "1h", "mode": "soft"}).json()
        # Besides what was counted it may hold what this worker has leased.
        assert (same["begins_anew"], used() >= counted) == (False, True)
        other = operator.put("/api/v1/limits/mine", json={"tokens": 50_000, "window": "2h"}).json()
        assert (other["begins_anew"], used()) == (True, 0)
        assert operator.post("/api/v1/limit-use/reconcile", json={"repair": True}).status_code == 200
        assert used() > 0
        wrong = operator.put("/api/v1/limits/mine", json={"tokens": -1, "window": "2h"}).json()["error"]
        assert "it is at least 0" in wrong["message"]


def test_a_limit_of_the_command_line_reaches_the_running_server(own):
    import subprocess
    import sys

    def interlock(*arguments):
        command = [sys.executable, "-m", "interlock", "-w", str(own.workspace), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False, timeout=90)

    with own.client() as operator:
        assert ask(operator, "good/a").status_code == 200
        made = interlock("limits", "set", "none", "--requests", "0", "--window", "60s", "--json")
        assert made.returncode == 0, made.stderr
        until(lambda: ask(operator, "good/a").status_code == 429)
        assert interlock("limits", "remove", "none").returncode == 0
        until(lambda: ask(operator, "good/a").status_code == 200)
        rewrite(own, lambda s: s["gateway"]["routes"].update(late={"targets": ["good/a"]}))
        done = interlock("reload", "--json")
        assert (done.returncode, json.loads(done.stdout)["servers"][0]["number"]) == (0, 2)
        assert interlock("config", "history", "--json").stdout.count('"number": 2') == 1
        assert "configuration 2 holds" in own.server.log.read_text()
        assert ask(operator, "route/late").status_code == 200
        rewrite(own, lambda s: s["gateway"]["routes"].update(late={"targets": ["gone/a"]}))
        refused = interlock("reload", "--json")
        (server,) = json.loads(refused.stdout)["servers"]
        assert (refused.returncode, server["error"]["param"]) == (1, "gateway.routes.late.targets[0]")
        (own.workspace / "interlock.yaml").write_text("gateway: [")
        assert "2" in interlock("config", "history").stdout
        back = interlock("config", "rollback", "1", "--json")
        assert back.returncode == 0, back.stderr
        assert ask(operator, "route/late").status_code == 404
