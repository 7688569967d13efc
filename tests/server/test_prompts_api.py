"""Prompts over HTTP: variables of callers, drafts that become patches, labels, by role and for their own tenant."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.client import Answer, ApiError, AsyncClient, Client
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

PROMPT = """---
variables:
  plan: {type: enum, values: [free, pro], description: what they pay for}
  note: {max_length: 20, required: false}
---
The plan is {{ plan }}.{% if note %} <note>{{ note }}</note>{% endif %} {% include "partials/tone.md" %}
"""
HEAD = PROMPT.partition("The plan")[0]
SCRIPT = [
    {"match_system": "^Small text for pro", "reply": "small"},
    {"match_system": "<note>&lt;/note&gt;&lt;x&gt;</note>", "reply": "escaped"},
    {"match_system": "plan is pro", "reply": "pro"},
    {"reply": "other"},
]
FILE = "apps/helper/prompt.md"
AT = "/api/v1/prompts/helper"
CALLERS = {
    "dev": ("acme", Role.DEVELOPER),
    "reviewer": ("acme", Role.REVIEWER),
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

    def ask(self, variables: object, model: str = "app/helper") -> httpx2.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "interlock": {"variables": variables}}
        return self.call("dev", "POST", "/v1/chat/completions", body)


async def _keys(root: Path) -> dict[str, str]:
    async with open_app(root) as app:
        store = Keys(app.sql)
        return {
            name: (await store.create(TenantId(tenant), name=name, roles=[role], by="test", expires_at=None)).secret
            for name, (tenant, role) in CALLERS.items()
        }


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    providers = {name: {"kind": "scripted", "script": SCRIPT} for name in ("scripted", "small")}
    down = {"kind": "scripted", "script": [{"fail_status": 503}]}
    route = {"targets": ["scripted/m"], "retries": 0}
    checked = {**route, "structured": {"check": True, "repairs": 0}}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    root = write_workspace(
        tmp_path / "repository" / "workspace",
        settings={"gateway": {"providers": {**providers, "down": down}, "detect": False}},
        apps={
            "helper": {"route": route, "tenants": ["acme"]},
            "falls": {"route": {"targets": ["down/m", "small/m"], "retries": 0}, "prompt": "../helper/prompt.md"},
            "formed": {
                "route": checked,
                "output": {"schema": "output.json"},
            },
        },
        prompt="Plain.",
    )
    (root / FILE).write_text(PROMPT)
    (root / "apps" / "helper" / "prompt.small.md").write_text("---\nmodels: [small/*]\n---\nSmall text for {{ plan }}")
    (root / "apps" / "formed" / "output.json").write_text(json.dumps(schema))
    (root / "prompts" / "partials").mkdir(parents=True)
    (root / "prompts" / "partials" / "tone.md").write_text("Be kind.\n")
    keys = asyncio.run(_keys(root))
    with run_server(root) as server:
        yield House(root, server.url, keys)


def said(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_callers_pass_variables_on_every_wire_and_are_told_which_is_wrong(house: House) -> None:
    assert said(house.ask({"plan": "pro"})) == "pro"
    assert said(house.ask({"plan": "pro", "note": "</note><x>"})) == "escaped"
    turn = {"role": "user", "content": "hi"}
    variables = {"interlock": {"variables": {"plan": "pro"}}}
    anthropic = {"model": "app/helper", "max_tokens": 9, "messages": [turn], **variables}
    assert house.call("dev", "POST", "/v1/messages", anthropic).json()["content"][0]["text"] == "pro"
    responses = house.call("dev", "POST", "/v1/responses", {"model": "app/helper", "input": "hi", **variables})
    assert responses.json()["output"][0]["content"][0]["text"] == "pro"
    wrong = house.ask({"plan": "golden secret"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "interlock.variables.plan")
    assert "golden" not in wrong.text
    assert house.ask({}).json()["error"]["code"] == "missing_variable"
    assert house.ask({"plan": "pro", "paln": 1}).json()["error"]["code"] == "unknown_variable"
    assert house.ask({"plan": "pro"}, "scripted/m").json()["error"]["param"] == "interlock.variables"
    assert house.ask("text").status_code == 400


def test_a_fallback_is_sent_the_text_for_its_own_model_and_the_trace_says_so(house: House) -> None:
    answer = house.ask({"plan": "pro"}, "app/falls")
    assert said(answer) == "small"
    spans = house.call("dev", "GET", f"/api/v1/traces/{answer.json()['interlock']['trace_id']}").json()["spans"]
    chosen = [each["attributes"].get("interlock.prompt.variant") for each in spans]
    assert [each for each in chosen if each] == ["default", "small"]
    root = next(each["attributes"] for each in spans if "interlock.prompt.digest" in each["attributes"])
    assert root["interlock.prompt.digest"].startswith("sha256:")
    assert root["interlock.prompt.tokens.system"] > 0


def test_an_app_answers_in_its_own_form_alone(house: House) -> None:
    body = {"model": "app/formed", "messages": [{"role": "user", "content": "hi"}]}
    assert house.call("dev", "POST", "/v1/chat/completions", body).json()["error"]["code"] == "schema_unmet"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
    refused = house.call("dev", "POST", "/v1/chat/completions", {**body, "response_format": form})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")


def test_a_draft_becomes_a_patch_and_serves_nobody_before(house: House) -> None:
    shown = house.call("dev", "GET", AT).json()
    text = PROMPT.replace("The plan", "Their plan").rstrip("\n")
    draft = {"files": {FILE: text}, "base": {FILE: shown["base"][FILE]}, "rationale": "friendlier"}
    assert house.call("risk", "POST", f"{AT}/drafts", draft).status_code == 403
    assert house.call("dev", "POST", f"{AT}/drafts", {**draft, "rationale": " "}).status_code == 400
    kept = house.call("dev", "POST", f"{AT}/drafts", draft)
    assert kept.status_code == 201, kept.text
    digest = kept.json()["digest"]
    assert house.call("dev", "GET", AT).json()["digest"] == shown["digest"], "the files are as they were"
    patch = house.call("risk", "GET", f"{AT}/versions/{digest}/patch").text
    repository = house.root.parent
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    subprocess.run(["git", "apply", "-"], cwd=house.root, input=patch.encode(), check=True)
    assert (house.root / FILE).read_text() == text
    assert house.call("dev", "GET", AT).json()["digest"] == digest
    assert house.call("dev", "GET", f"{AT}/versions/{digest}/patch").text == ""


def test_a_file_that_was_changed_underneath_is_a_conflict_on_saving_and_on_exporting(house: House) -> None:
    base = house.call("dev", "GET", AT).json()["base"]
    draft = {"files": {FILE: PROMPT + "More."}, "base": base, "rationale": "more"}
    digest = house.call("dev", "POST", f"{AT}/drafts", draft).json()["digest"]
    (house.root / FILE).write_text(PROMPT + "Somebody else's.")
    late = house.call("dev", "POST", f"{AT}/drafts", {**draft, "files": {FILE: PROMPT + "Again."}})
    assert (late.status_code, late.json()["error"]["code"]) == (409, "file_changed")
    assert house.call("dev", "GET", f"{AT}/versions/{digest}/patch").status_code == 409


@pytest.mark.parametrize(
    "path",
    ["apps/helper/app.yaml", "interlock.yaml", "../x.md", "/tmp/x.md", "apps/formed/prompt.md", "apps/helper/../x.md"],
)
def test_a_draft_writes_files_of_its_own_prompt_alone(house: House, path: str) -> None:
    refused = house.call("dev", "POST", f"{AT}/drafts", {"files": {path: "x"}, "rationale": "r"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "files")


def test_a_preview_reads_no_file_that_is_no_prompts(house: House) -> None:
    head = "---\nvariants: [{name: a, models: ['*'], file: ../../interlock.yaml}]\n---\nA"
    refused = house.call("dev", "POST", f"{AT}/render", {"files": {FILE: head}})
    assert refused.status_code == 400
    assert "providers" not in refused.text


def test_versions_are_rendered_compared_and_labelled(house: House) -> None:
    made = house.call("risk", "POST", f"{AT}/render", {"variables": {"plan": "pro"}, "model": "small/m"}).json()
    assert (made["variant"], made["system"]) == ("small", "Small text for pro")
    first = house.call("dev", "POST", f"{AT}/versions", {"rationale": "as it was"}).json()["digest"]
    moved = house.call("dev", "PUT", f"{AT}/labels/production", {"version": first[7:19]})
    assert moved.json()["version"] == first
    assert house.call("risk", "PUT", f"{AT}/labels/production", {"version": first}).status_code == 403
    (house.root / "prompts" / "partials" / "tone.md").write_text("Be strict.\n")
    sections = house.call("risk", "GET", f"{AT}/versions/files/diff?against=production").json()["sections"]
    assert sections == [{"section": "partials/tone.md", "diff": ["@@ -1 +1 @@", "-Be kind.", "+Be strict."]}]
    assert house.call("dev", "DELETE", f"{AT}/labels/production").status_code == 204
    assert house.call("dev", "DELETE", f"{AT}/labels/production").status_code == 404


def test_versions_that_only_releases_know_and_those_who_use_them_are_listed(house: House) -> None:
    release = house.call("dev", "POST", "/api/v1/apps/helper/releases", {"note": "first"}).json()
    (found,) = house.call("risk", "GET", f"{AT}/versions").json()["data"]
    assert (found["digest"], found["origin"], found["rationale"]) == (
        release["components"]["prompt"], "release", "first",
    )  # fmt: skip
    using = house.call("risk", "GET", f"{AT}/dependants").json()["data"]
    assert [each["release"] for each in using] == [None, release["id"]]


def test_another_tenant_and_a_viewer_see_nothing_of_it(house: House) -> None:
    assert house.call("viewer", "GET", "/api/v1/prompts").status_code == 403
    assert house.call("rival", "GET", AT).status_code == 404
    assert "helper" not in {each["name"] for each in house.call("rival", "GET", "/api/v1/prompts").json()["data"]}


def test_the_sdk_passes_values_and_says_which_is_wrong(house: House) -> None:
    with Client(house.url, api_key=house.keys["dev"]) as client:
        assert client.ask("helper", "hi", variables={"plan": "pro"}).text == "pro"
        *_, answer = client.stream("helper", "hi", variables={"plan": "pro", "note": "</note><x>"})
        assert isinstance(answer, Answer) and answer.text == "escaped"
        with pytest.raises(ApiError) as refused:
            client.ask("helper", "hi", variables={"plan": "golden"})
        assert (refused.value.code, refused.value.param) == ("wrong_variable", "interlock.variables.plan")


@pytest.mark.anyio
async def test_the_asyncio_sdk_does_so_too(house: House) -> None:
    async with AsyncClient(house.url, api_key=house.keys["dev"]) as client:
        assert (await client.ask("helper", "hi", variables={"plan": "pro"})).text == "pro"
        events = [event async for event in client.stream("helper", "hi", variables={"plan": "free"})]
        assert isinstance(events[-1], Answer) and events[-1].text == "other"
        with pytest.raises(ApiError, match="'plan' is missing"):
            await client.ask("helper", "hi")


def test_what_rules_find_is_told_by_role_and_when_a_release_is_frozen(house: House) -> None:
    found = house.call("viewer", "POST", f"{AT}/lint", {})
    assert found.status_code == 403
    assert house.call("rival", "POST", f"{AT}/lint", {}).status_code == 404
    known = house.call("risk", "POST", f"{AT}/lint", {}).json()
    assert "variant_lacks_variable" in {each["rule"] for each in known["findings"]}
    drafted = house.call("dev", "POST", f"{AT}/lint", {"files": {FILE: PROMPT + "\nTODO {plan}"}}).json()
    told = {each["rule"]: each for each in drafted["findings"]}
    assert (told["single_braces"]["severity"], told["single_braces"]["file"]) == ("error", FILE)
    assert told["single_braces"]["line"] == 8
    frozen = house.call("dev", "POST", "/api/v1/apps/helper/releases", {})
    assert frozen.status_code == 201
    assert {each["rule"] for each in frozen.json()["lint"]} == {each["rule"] for each in known["findings"]}


def test_a_draft_is_run_for_who_may_write_one_and_keeps_nobody_waiting(house: House) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    for path, more in (("render", {"variables": {"plan": "pro"}}), ("lint", {})):
        refused = house.call("reviewer", "POST", f"{AT}/{path}", {"files": {FILE: endless}})
        assert refused.status_code == 403
        stored = house.call("reviewer", "POST", f"{AT}/{path}", {"version": "files", **more})
        assert stored.status_code == 200
    for draft in (endless, "{{ 'a' * 10**9 }}", "{{ '%1000000000d' % 1 }}"):
        body = {"files": {FILE: HEAD + draft}, "variables": {"plan": "pro"}}
        began = time.monotonic()
        found = house.call("dev", "POST", f"{AT}/render", body)
        assert time.monotonic() - began < 10
        assert found.status_code >= 400
        assert "the prompt of app 'helper' does more than a template may" in found.text


def test_others_are_served_while_a_draft_takes_its_time(house: House) -> None:
    slow = "{% set w = ['a'] * 99999 %}{% for a in range(9999) %}{% if 'b' in w %}{% endif %}{% endfor %}"
    with ThreadPoolExecutor(1) as threads:
        body = {"files": {FILE: HEAD + slow}, "variables": {"plan": "pro"}}
        running = threads.submit(house.call, "dev", "POST", f"{AT}/render", body)
        waits: list[float] = []
        while not running.done():
            began = time.monotonic()
            assert house.call("viewer", "GET", "/healthz").status_code == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.05)
    assert "rendering is bounded to 5 seconds" in running.result().text
    assert len(waits) > 5
    assert max(waits) < 2
