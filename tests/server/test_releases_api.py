"""Releases, rollouts and evaluations over HTTP: by role, and for their own tenant alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from click.testing import CliRunner

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.cli.root import cli
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

AT = "/api/v1/apps/helper"
POLICY = {"prod": {"evaluations": ["kindness"], "sign_off": {"roles": ["risk"]}}}
CASES = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(30)]
SUITE = {
    "suite": "kindness",
    "cases": CASES,
    "metrics": ["exact"],
    "gate": {"rules": [{"metric": "exact", "at_least": 0.8}]},
}
CALLERS = {
    "boss": ("acme", Role.ADMIN),
    "dev": ("acme", Role.DEVELOPER),
    "ops": ("acme", Role.OPERATOR),
    "risk": ("acme", Role.RISK),
    "viewer": ("acme", Role.VIEWER),
    "rival": ("rival", Role.ADMIN),
}


class House(NamedTuple):
    """A server, and callers of each role."""

    root: Path
    url: str
    keys: dict[str, str]

    def call(self, who: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False) as client:
            return client.request(method, path, json=body)

    def get(self, who: str, path: str) -> Any:
        answer = self.call(who, "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, who: str, path: str, body: Any = None) -> Any:
        answer = self.call(who, "POST", path, body or {})
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    def prompt(self, text: str) -> None:
        (self.root / "apps" / "helper" / "prompt.md").write_text(text)

    def gate(self) -> None:
        done = CliRunner().invoke(cli, ["-w", str(self.root), "gate", "--app", "helper", "--run", "-q"])
        assert "evaluation 'kindness'" in done.output


async def _keys(root: Path) -> dict[str, str]:
    async with open_app(root) as app:
        store = Keys(app.sql)
        return {
            name: (await store.create(TenantId(tenant), name=name, roles=[role], by="test", expires_at=None)).secret
            for name, (tenant, role) in CALLERS.items()
        }


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    script = [{"match_system": "rude", "reply": "no"}, {"reply": "It is {question}"}]
    root = write_workspace(
        tmp_path / "workspace",
        settings={"gateway": {"providers": {"scripted": {"kind": "scripted", "script": script}}, "detect": False}},
        apps={"helper": {"route": {"targets": ["scripted/m"]}, "channels": POLICY}},
        prompt="Be kind.",
    )
    (root / "apps" / "helper" / "evals").mkdir()
    (root / "apps" / "helper" / "evals" / "kindness.yaml").write_text(json.dumps(SUITE))
    keys = asyncio.run(_keys(root))
    with run_server(root) as server:
        yield House(root, server.url, keys)


def test_a_release_goes_out_once_it_has_shown_what_prod_asks_and_another_has_signed(house: House) -> None:
    house.gate()
    first = house.post("dev", f"{AT}/releases", {"note": "first"})["id"]
    assert house.call("dev", "POST", f"{AT}/channels/prod", {"release": first}).status_code == 403
    blocked = house.call("ops", "POST", f"{AT}/channels/prod", {"release": first}).json()["error"]
    assert (blocked["code"], "sign-off by risk: 0 of 1" in blocked["message"]) == ("blocked_by_policy", True)
    assert house.call("ops", "POST", f"{AT}/releases/{first}/sign", {"role": "risk"}).status_code == 403
    rejected = house.call("risk", "POST", f"{AT}/releases/{first}/sign", {"role": "risk", "verdict": "rejected"})
    assert (rejected.status_code, rejected.json()["error"]["param"]) == (400, "note")
    signed = house.post("risk", f"{AT}/releases/{first}/sign", {"role": "risk", "note": "read"})
    assert signed["verdict"] == "approved"
    gate = house.get("risk", f"{AT}/gate?release={first}")
    assert (gate["verdict"], {each["state"] for each in gate["demands"]}) == ("pass", {"met"})
    assert house.post("ops", f"{AT}/channels/prod", {"release": first, "reason": "launch"})["release"] == first
    told = house.get("dev", f"{AT}/releases/{first}")
    assert told["channels"] == ["prod"]
    assert told["values"]["prompt"]["system"] == "Be kind."
    assert [each["kind"] for each in told["evidence"]] == ["evaluation", "sign_off"]
    assert [each["reason"] for each in house.get("dev", f"{AT}/channels/history?channel=prod")["data"]] == ["launch"]
    report = house.get("dev", f"{AT}/releases/{first}/evidence/{told['evidence'][0]['digest']}")
    assert report["suite"] == "kindness"
    assert house.get("dev", f"{AT}/releases/{first}/verify")["whole"]
    assert house.call("dev", "GET", f"{AT}/releases/{first}/evidence/sha256:{'0' * 64}").status_code == 404
    retired = house.call("ops", "POST", f"{AT}/releases/{first}/retire", {"reason": "x"})
    assert retired.status_code == 409
    house.prompt("Be very kind.")
    second = house.post("dev", f"{AT}/releases")["id"]
    changed = house.get("dev", f"{AT}/releases/{second}/diff")
    assert {each["kind"] for each in changed["components"] if each["state"] != "same"} == {"prompt"}
    assert house.post("ops", f"{AT}/releases/{second}/retire", {"reason": "a slip"})["retired"]["by"] != ""
    assert house.post("ops", f"{AT}/releases/{second}/reinstate", {"reason": "it was none"})["retired"] is None
    assert [each["id"] for each in house.get("dev", f"{AT}/releases?limit=1")["data"]] == [second]


def test_a_rollout_is_started_looked_at_and_ended_with_reasons(house: House) -> None:
    (house.root / "apps" / "helper" / "app.yaml").write_text("route: {targets: [scripted/m]}\n")
    first = house.post("dev", f"{AT}/releases")["id"]
    house.post("ops", f"{AT}/channels/prod", {"release": first})
    house.prompt("Be very kind.")
    second = house.post("dev", f"{AT}/releases")["id"]
    wrong = house.call("ops", "POST", "/api/v1/rollouts", {"app": "helper", "release": second, "spec": {"steps": [80]}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "spec")
    assert house.call("dev", "POST", "/api/v1/rollouts", {"app": "helper", "release": second}).status_code == 403
    begun = house.post("ops", "/api/v1/rollouts", {"app": "helper", "release": second, "spec": {"steps": [25, 50]}})
    at = f"/api/v1/rollouts/{begun['id']}"
    assert "seed" not in begun, "who has it can tell whom a keyed hash in a trace stands for"
    assert (begun["state"], begun["percent"], begun["candidate"]) == ("canary", 25, second)
    assert house.call("ops", "POST", f"{at}/pause", {}).status_code == 400
    assert house.call("risk", "POST", f"{at}/pause", {"reason": "no"}).status_code == 403
    assert house.post("ops", f"{at}/pause", {"reason": "a holiday"})["state"] == "paused"
    assert house.post("ops", f"{at}/resume", {"reason": "we are back"})["state"] == "canary"
    assert house.post("ops", f"{at}/look")["state"] == "canary"
    assert [each["id"] for each in house.get("risk", "/api/v1/rollouts?active=true&app=helper")["data"]] == [
        begun["id"]
    ]
    assert house.post("ops", f"{at}/promote", {"reason": "enough"})["state"] == "promoted"
    told = house.get("risk", at)
    assert [(each["action"], each["reason"]) for each in told["history"]] == [
        ("start", "started"),
        ("pause", "a holiday"),
        ("resume", "we are back"),
        ("promote", "enough"),
    ]
    assert house.get("risk", "/api/v1/rollouts?active=true")["data"] == []
    assert house.call("ops", "POST", f"{at}/abort", {"reason": "too late"}).status_code == 409


def test_an_experiment_is_planned_started_looked_at_and_ended_with_reasons(house: House) -> None:
    (house.root / "apps" / "helper" / "app.yaml").write_text("route: {targets: [scripted/m]}\n")
    first = house.post("dev", f"{AT}/releases")["id"]
    house.post("ops", f"{AT}/channels/prod", {"release": first})
    house.prompt("Be very kind.")
    second = house.post("dev", f"{AT}/releases")["id"]
    arms = [{"name": "control"}, {"name": "kinder", "release": second[:15]}]
    plan = {"name": "kinder", "app": "helper", "arms": arms, "primary": {"measure": "declined", "effect": 0.05}}
    wrong = house.call("dev", "POST", "/api/v1/experiments", {"plan": {**plan, "alpha": {"primary": 2}}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "plan.alpha.primary")
    made = house.post("dev", "/api/v1/experiments", {"plan": plan})
    assert (made["state"], made["plan"]["arms"][1]["release"], "seed" in made) == ("planned", second, False)
    assert made["plan"]["forecast"]["units"] > 100
    assert house.post("dev", "/api/v1/experiments", {"plan": plan})["id"] == made["id"]
    at = f"/api/v1/experiments/{made['id']}"
    assert house.call("dev", "POST", f"{at}/start", {}).status_code == 403
    assert house.post("ops", f"{at}/start")["state"] == "running"
    assert house.call("ops", "POST", f"{AT}/channels/prod", {"release": second}).status_code == 409
    assert [each["id"] for each in house.get("risk", "/api/v1/experiments?active=true&app=helper")["data"]] == [
        made["id"]
    ]
    assert house.post("ops", f"{at}/look")["report"]["verdict"] == "inconclusive"
    assert house.call("viewer", "GET", at).status_code == 403
    assert house.call("rival", "GET", at).status_code == 404
    assert house.call("ops", "POST", f"{at}/conclude", {"reason": ""}).status_code == 400
    assert house.post("ops", f"{at}/conclude", {"reason": "enough"})["state"] == "concluded"
    assert house.call("ops", "POST", f"{at}/stop", {"reason": "again"}).status_code == 409
    shown = house.get("risk", at)
    assert [each["action"] for each in shown["history"]] == ["plan", "start", "conclude"]
    (evidence,) = house.get("dev", f"{AT}/releases/{second}")["evidence"]
    assert (evidence["kind"], evidence["verdict"]) == ("experiment", "not_enough_evidence")


def test_who_asked_may_rate_the_answer_and_nobody_else(house: House) -> None:
    asked = {"model": "app/helper", "messages": [{"role": "user", "content": "word 1"}]}
    answer = house.call("viewer", "POST", "/v1/chat/completions", asked)
    assert answer.status_code == 200, answer.text
    trace = answer.headers["x-interlock-trace-id"]
    said = house.call("viewer", "POST", "/api/v1/feedback", {"trace": trace, "rating": "down", "issue": "wrong"})
    assert (said.status_code, said.content) == (204, b"")
    assert house.call("boss", "POST", "/api/v1/feedback", {"trace": trace, "rating": "down"}).status_code == 404
    assert house.call("rival", "POST", "/api/v1/feedback", {"trace": trace, "rating": "down"}).status_code == 404
    wrong = house.call("viewer", "POST", "/api/v1/feedback", {"trace": trace, "rating": "meh"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "rating")
    shouted = house.call("viewer", "POST", "/api/v1/feedback", {"trace": trace, "rating": "up", "issue": "MY NAME IS"})
    assert (shouted.status_code, "MY NAME" in shouted.text) == (400, False)


def test_runs_of_evaluations_are_listed_and_read(house: House) -> None:
    house.prompt("Be rude.")
    house.gate()
    (row,) = house.get("dev", "/api/v1/evaluations?suite=kindness")["data"]
    assert (row["verdict"], row["target"], row["cases"]) == ("fail", "app/helper@dev", 30)
    told = house.get("dev", f"/api/v1/evaluations/{row['id']}")["report"]
    assert told["gate"]["verdict"] == "fail"
    evidence = house.get("dev", f"{AT}/releases/live/evidence")["data"]
    assert [each["digest"] for each in evidence] == [told["digest"]]
    assert house.get("dev", "/api/v1/evaluations?suite=other")["data"] == []
    assert house.call("dev", "GET", "/api/v1/evaluations?limit=0").status_code == 400
    assert house.call("dev", "GET", "/api/v1/evaluations/ev_nothing").status_code == 404


def test_viewers_see_none_of_it_and_other_tenants_do_not_learn_of_it(house: House) -> None:
    house.gate()
    first = house.post("dev", f"{AT}/releases")["id"]
    paths = [
        f"{AT}/releases",
        f"{AT}/releases/{first}",
        f"{AT}/releases/{first}/diff?against=live",
        f"{AT}/gate",
        f"{AT}/channels/history",
        "/api/v1/rollouts",
        "/api/v1/experiments",
        "/api/v1/evaluations",
    ]
    assert {house.call("viewer", "GET", path).status_code for path in paths} == {403}
    assert house.get("rival", f"{AT}/releases")["data"] == []
    assert house.get("rival", "/api/v1/rollouts")["data"] == []
    assert house.get("rival", "/api/v1/experiments")["data"] == []
    hidden = [f"{AT}/releases/{first}", f"{AT}/releases/{first}/evidence", "/api/v1/evaluations"]
    assert {house.call("rival", "GET", path).status_code for path in hidden} == {404}
    assert house.call("rival", "POST", f"{AT}/releases/{first}/sign", {"role": "risk"}).status_code == 404
    assert house.get("boss", f"{AT}/releases/live/evidence")["data"][0]["name"] == "kindness"
    assert house.get("rival", f"{AT}/releases/live/evidence")["data"] == [], "of the same files, in another tenant"
