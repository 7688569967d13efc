"""Answers of a server are sampled as they are given, scored by its worker, and told over HTTP and in the console."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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

pytestmark = pytest.mark.model
CALLERS = {
    "boss": ("acme", Role.ADMIN),
    "dev": ("acme", Role.DEVELOPER),
    "auditor": ("acme", Role.AUDITOR),
    "viewer": ("acme", Role.VIEWER),
    "rival": ("rival", Role.ADMIN),
}
MONITOR = {
    "share": 1.0,
    "every_minutes": 0.05,
    "metrics": [{"metric": "contains", "name": "polite", "options": {"none": ["sorry"]}}],
    "reference": 50,
    "false_alarm_every": 1000,
}


class House(NamedTuple):
    root: Path
    url: str
    keys: dict[str, str]

    def call(self, who: str, method: str, path: str, body: object = None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False) as client:
            return client.request(method, path, json=body)

    def ask(self, *questions: str) -> None:
        headers = {"authorization": f"Bearer {self.keys['boss']}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False) as client:
            for question in questions:
                body = {"model": "app/helper", "messages": [{"role": "user", "content": question}]}
                answer = client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text

    def run(self, *words: str) -> str:
        done = CliRunner().invoke(cli, ["-w", str(self.root), *words])
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
def house(tmp_path: Path, models_dir: Path) -> Iterator[House]:
    script = [{"match": "bad", "reply": "I am sorry."}, {"reply": "It is {question}"}]
    root = write_workspace(
        tmp_path / "workspace",
        settings={
            "gateway": {"providers": {"scripted": {"kind": "scripted", "script": script}}, "detect": False},
            "models_dir": str(models_dir),
        },
        apps={"helper": {"route": {"targets": ["scripted/m"]}, "monitor": MONITOR}},
        prompt="Be kind.",
    )

    async def keys() -> dict[str, str]:
        async with open_app(root) as app:
            store = Keys(app.sql)
            return {
                name: (await store.create(TenantId(tenant), name=name, roles=[role], by="test", expires_at=None)).secret
                for name, (tenant, role) in CALLERS.items()
            }

    made = asyncio.run(keys())
    with run_server(root) as server:
        yield House(root, server.url, made)


def waited(house: House, count: int) -> dict[str, object]:
    """What the API says once so many samples are scored by the server's own worker."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        told = house.call("dev", "GET", "/api/v1/apps/helper/monitor?days=1").json()
        if told["samples"] >= count and told["waiting"] == 0:
            return dict(told)
        time.sleep(0.5)
    raise AssertionError(told)


@pytest.mark.timeout(240)
def test_what_a_server_answers_is_watched_from_the_request_to_the_alert(house: House) -> None:
    house.ask(*(f"good question {n}" for n in range(60)))
    told = waited(house, 60)
    (release,) = told["releases"]  # type: ignore[misc]
    assert release["scores"] == {"polite": {"mean": 1.0, "count": 60}}
    (newest, *_) = house.call("dev", "GET", "/api/v1/apps/helper/monitor/samples?limit=1").json()["data"]
    assert newest["question"].startswith("good question") and newest["answer"].startswith("It is good")
    for who, status in {"viewer": 403, "auditor": 403, "rival": 200}.items():
        answer = house.call(who, "GET", "/api/v1/apps/helper/monitor/samples")
        assert answer.status_code == status
        assert who != "rival" or answer.json()["data"] == []
    assert house.call("dev", "GET", "/api/v1/apps/helper/monitor?days=0").status_code == 400
    assert house.call("dev", "GET", "/api/v1/apps/nobody/monitor").status_code == 404

    house.ask(*(f"bad question {n}" for n in range(30)))
    waited(house, 90)
    (alert,) = house.call("auditor", "GET", "/api/v1/alerts").json()["data"]
    assert (alert["kind"], alert["subject"], alert["app"]) == ("score_drift", "polite", "helper")
    opened = house.call("dev", "GET", f"/api/v1/traces/{alert['traces'][0]}")
    assert opened.status_code == 200, "the offending traces can be opened"
    assert house.call("rival", "GET", "/api/v1/alerts").json()["data"] == []
    with httpx2.Client(base_url=house.url, timeout=60, trust_env=False) as browser:
        page = browser.get("/alerts").text
        assert "score drift" in page and f"/traces/{alert['traces'][0]}" in page
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)
        assert csrf is not None
        assert browser.post(f"/alerts/{alert['id']}", data={"csrf": "x" * 32}).status_code == 403
        done = browser.post(f"/alerts/{alert['id']}", data={"csrf": csrf[1]}, follow_redirects=True)
        assert "Nothing waits for anybody." in done.text
    assert house.call("auditor", "POST", f"/api/v1/alerts/{alert['id']}/acknowledge").status_code == 403
    assert house.call("rival", "POST", f"/api/v1/alerts/{alert['id']}/acknowledge").status_code == 404
    assert house.call("dev", "POST", f"/api/v1/alerts/{alert['id']}/acknowledge").status_code == 200
    assert house.call("dev", "GET", "/api/v1/alerts").json()["data"] == []
    everything = house.call("dev", "GET", "/api/v1/alerts?all=true").json()["data"]
    assert [each["id"] for each in everything] == [alert["id"]]

    found = house.call("dev", "GET", "/api/v1/apps/helper/coverage?days=1&limit=5").json()
    assert (found["questions"], found["near_case"], found["cases"]) == (90, 0.0, 0)
    assert not found["intents"][0]["covered"] and found["intents"][0]["traces"]
    for who, status in {"viewer": 403, "auditor": 403, "rival": 404}.items():
        assert house.call(who, "GET", "/api/v1/apps/helper/coverage").status_code == status

    assert "polite" in house.run("monitor", "show", "helper")
    listed = json.loads(house.run("monitor", "alerts", "--all", "--json"))
    assert [each["id"] for each in listed] == [alert["id"]]
    assert json.loads(house.run("monitor", "samples", "helper", "--limit", "3", "--json"))[0]["scores"] == {
        "polite": 0.0
    }
    assert "nothing has drifted" in house.run("monitor", "look", "helper")
