"""Teams say what of an app's answers they read; a release that they could not read is neither frozen nor let out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.flows.commands import Run, runner

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

ORDER = {
    "type": "object",
    "properties": {"state": {"enum": ["open", "paid"]}, "total": {"type": "integer"}},
    "required": ["state", "total"],
}
READS = {"type": "object", "properties": {"state": {"enum": ["open", "paid", "gone"]}}, "required": ["state"]}
STATE = {"type": "object", "properties": {"state": {"type": "string"}}, "required": ["state"]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    provider = {"kind": "scripted", "script": [{"reply": "{}"}]}
    root = write_workspace(
        tmp_path / "w",
        settings={"gateway": {"providers": {"scripted": provider}, "detect": False}},
        apps={"orders": {"route": {"targets": ["scripted/m"], "retries": 0}, "output": {"schema": "o.json"}}},
        prompt="Give state and total as JSON.",
    )
    answers(root, ORDER)
    return root


def answers(at: Path, schema: Any) -> None:
    (at / "apps" / "orders" / "o.json").write_text(json.dumps(schema))


def reads(run: Run, at: Path, name: str, schema: Any, *more: str) -> Any:
    file = at / f"{name}.json"
    file.write_text(json.dumps(schema))
    done = run(at, "release", "consumers", "add", "orders", "--name", name, "--schema", file, "--json", *more)
    return done.json if done.code == 0 else done


def build(run: Run, at: Path) -> Any:
    return run(at, "release", "build", "--app", "orders", "--json")


CHANGES = [
    ({**ORDER, "properties": {"total": {"type": "integer"}}, "required": ["total"]}, "state is gone, and is required"),
    ({**ORDER, "required": ["total"]}, "state may be left out, and is required"),
    ({**ORDER, "properties": {"state": {"type": "integer"}}}, "state is of type integer, and string is read"),
    ({**ORDER, "properties": {"state": {"enum": ["open", "lost"]}}}, 'state may be "lost", which is not read'),
]


@pytest.mark.parametrize(("schema", "said"), CHANGES)
def test_a_release_that_a_consumer_cannot_read_is_not_frozen(at: Path, run: Run, schema: Any, said: str) -> None:
    assert (
        reads(
            run, at, "billing", {**READS, "properties": {"state": {"type": "string", **READS["properties"]["state"]}}}
        )["unread"]
        is None
    )
    assert build(run, at).code == 0
    answers(at, schema)
    refused = build(run, at)
    assert refused.code == 4
    error = refused.json["error"]
    assert (error["code"], error["param"]) == ("consumer_incompatible", "output.schema")
    assert f"billing: {said}" in error["message"]
    assert run(at, "release", "consumers", "accept", "orders", "live", "--reason", "hurry").code == 4
    run(at, "release", "consumers", "remove", "orders", "billing")
    assert build(run, at).code == 0
    acts = [(line["action"], line["outcome"]) for line in run(at, "audit", "list", "--json").json]
    for act in (("consumer.add", "ok"), ("release.consumers", "consumer_incompatible"), ("consumer.remove", "ok")):
        assert act in acts


def test_one_that_was_frozen_before_goes_to_no_channel_but_back_it_goes(at: Path, run: Run) -> None:
    first = build(run, at).json["id"]
    run(at, "release", "point", first, "--app", "orders", "--channel", "prod")
    answers(at, {**ORDER, "required": ["total"]})
    second = build(run, at).json["id"]
    run(at, "release", "point", second, "--app", "orders", "--channel", "stage")
    told = reads(run, at, "billing", STATE, "--contact", "#billing")
    assert told["unread"]["state"] == "incompatible"
    assert told["unread"]["misfits"][0]["field"] == "state"
    for channel in ("prod",):
        refused = run(at, "release", "point", second, "--app", "orders", "--channel", channel)
        assert refused.code == 4 and "billing: state may be left out" in refused.err
    rollout = run(at, "rollout", "start", second, "--app", "orders")
    assert rollout.code == 4 and "billing" in rollout.err
    assert run(at, "release", "point", first, "--app", "orders", "--channel", "prod").code == 0
    assert run(at, "release", "point", second, "--app", "orders", "--channel", "stage").code == 0, "it served there"
    listed = run(at, "release", "consumers", "list", "orders", "--release", "stage", "--json").json
    assert [each["contact"] for each in listed["consumers"]] == ["#billing"]
    assert [each["state"] for each in listed["unread"]] == ["incompatible"]
    assert run(at, "release", "consumers", "list", "orders", "--release", "prod", "--json").json["unread"] == []


def test_what_cannot_be_told_goes_out_with_a_reason_for_this_release_alone(at: Path, run: Run) -> None:
    odd = {**STATE, "properties": {"state": {"type": "string", "pattern": "^(open|paid)$"}}}
    reads(run, at, "search", odd)
    refused = build(run, at)
    assert (refused.code, refused.json["error"]["code"]) == (4, "consumer_undecided")
    assert "search: state it is held to `pattern`" in refused.json["error"]["message"]
    assert run(at, "release", "consumers", "accept", "orders", "live", "--reason", " ").code == 1
    accepted = run(at, "release", "consumers", "accept", "orders", "live", "--reason", "same words", "--json")
    assert accepted.code == 0, accepted.err
    frozen = build(run, at)
    assert frozen.code == 0
    assert run(at, "release", "point", frozen.json["id"], "--app", "orders", "--channel", "prod").code == 0
    [shown] = run(at, "release", "evidence", frozen.json["id"], "--app", "orders", "--json").json
    assert (shown["kind"], shown["name"], shown["note"]) == ("consumers", "search", "same words")
    (at / "apps" / "orders" / "prompt.md").write_text("Give state and total as JSON, quickly.")
    assert build(run, at).code == 4, "another release is accepted anew"
    reads(run, at, "search", {**odd, "required": []})
    assert run(at, "release", "point", frozen.json["id"], "--app", "orders", "--channel", "stage").code == 4


@pytest.mark.parametrize(
    ("name", "schema", "said"),
    [
        ("Billing", STATE, "named with small letters"),
        ("billing", {"type": "text"}, "type"),
        ("billing", {}, "says something"),
        ("billing", {"unevaluatedProperties": False}, "unevaluatedProperties"),
        ("billing", [], "is an object"),
    ],
)
def test_a_wrong_consumer_is_refused(at: Path, run: Run, name: str, schema: Any, said: str) -> None:
    done = reads(run, at, name, schema)
    assert done.code == 1 and said in done.err + done.out


def test_an_app_without_a_form_is_read_by_nobody_who_wants_one(at: Path, run: Run) -> None:
    reads(run, at, "billing", STATE)
    (at / "apps" / "orders" / "app.yaml").write_text("route: {targets: [scripted/m]}")
    assert "billing: the answer is free text" in build(run, at).json["error"]["message"]
    (at / "apps" / "orders" / "app.yaml").write_text("route: {targets: 7}")
    shown = run(at, "release", "consumers", "list", "orders")
    assert shown.code == 0 and "not known" in shown.out and "route.targets" in shown.out


async def keys(root: Path) -> dict[str, str]:
    callers = {"dev": ("acme", Role.DEVELOPER), "auditor": ("acme", Role.AUDITOR), "rival": ("rival", Role.ADMIN)}
    async with open_app(root) as app:
        store = Keys(app.sql)
        return {
            name: (await store.create(TenantId(tenant), name=name, roles=[role], by="test", expires_at=None)).secret
            for name, (tenant, role) in callers.items()
        }


def test_consumers_are_kept_over_http_by_role_and_tenant(at: Path) -> None:
    secrets = asyncio.run(keys(at))
    with run_server(at) as server:

        def call(who: str, method: str, path: str, body: Any = None) -> httpx2.Response:
            headers = {"authorization": f"Bearer {secrets[who]}"}
            with httpx2.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as client:
                return client.request(method, f"/api/v1/apps/orders{path}", json=body)

        assert call("auditor", "PUT", "/consumers/billing", {"schema": STATE}).status_code == 403
        assert call("dev", "PUT", "/consumers/billing", {"schema": "x"}).json()["error"]["param"] == "schema"
        made = call("dev", "PUT", "/consumers/billing", {"schema": STATE, "contact": "#b"})
        assert (made.status_code, made.json()["unread"]) == (200, None)
        assert [each["name"] for each in call("auditor", "GET", "/consumers").json()["data"]] == ["billing"]
        assert call("rival", "GET", "/consumers").json()["data"] == [], "another tenant's are its own"
        assert call("rival", "DELETE", "/consumers/billing").status_code == 404
        answers(at, {**ORDER, "required": []})
        frozen = call("dev", "POST", "/releases", {})
        assert (frozen.status_code, frozen.json()["error"]["code"]) == (403, "consumer_incompatible")
        assert call("rival", "POST", "/releases", {}).status_code == 201
        assert call("dev", "POST", "/releases/live/consumers/accept", {"reason": "r"}).status_code == 403
        assert call("dev", "DELETE", "/consumers/billing").status_code == 204
        assert call("dev", "POST", "/releases", {}).status_code == 201
