"""Labelled questions over HTTP."""

from __future__ import annotations

import httpx2
import pytest

from interlock.app import open_app
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.server.asgi import build_asgi
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.model
AT = "/api/v1/collections/docs/questions"


@pytest.fixture
async def client(tmp_path, models_dir):
    folder = write_workspace(
        tmp_path / "w",
        settings={"models_dir": str(models_dir)},
        documents={
            "a.md": "# Heron\n\nThe heron eats fish. The heron is a large wading bird of quiet rivers and lakes.",
            "pay/b.md": "# Pay\n\nThe owl is paid in mice. The owl is a silent hunter that is paid 30 mice a month.",
        },
        permissions=[{"match": "pay/**", "readers": ["group:finance"]}, {"match": "**", "readers": ["public"]}],
    )
    async with open_app(folder) as app:
        job = await enqueue_ingest(app.parts, app.owner(), "docs")
        claimed = await app.parts.jobs.claim("test", [KIND], lease_s=60, job=job.id)
        await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))
        transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield http, app


async def test_a_question_is_added_read_and_decided_on(client):
    http, app = client
    new = {"query": "what does the heron eat?", "relevant": {"a.md": 1}, "quotes": {"a.md": "eats fish"}}
    assert (await http.post(AT, json=new)).json() == {"added": 1, "known": 0}
    assert (await http.post(AT, json=new)).json() == {"added": 0, "known": 1}
    (one,) = (await http.get(AT, params={"state": "accepted"})).json()["data"]
    assert (one["origin"], one["answers"][0]["quote"], one["stale"]) == ("person", "eats fish", False)
    address = f"/api/v1/questions/{one['id']}"
    assert (await http.patch(address, json={"state": "rejected"})).json()["state"] == "rejected"
    changed = (await http.patch(address, json={"text": "what is a heron's food?"})).json()
    assert (changed["text"], changed["state"], changed["edited"]) == ("what is a heron's food?", "accepted", True)
    assert (await http.get(address)).json() == changed
    lines = await app.parts.governance.lines(app.owner(), limit=20)
    actions = [line.action for line in lines]
    assert {"questions.add", "questions.reject", "questions.edit"} <= set(actions)


async def test_questions_are_made_of_what_the_caller_may_read(client):
    http, _ = client
    made = await http.post(f"{AT}/make", json={"count": 5})
    assert made.status_code == 201, made.text
    told = made.json()
    assert told["made"] == len(told["questions"]) >= 1
    assert (told["calls"], told["spent_usd"], told["stopped"]) == (0, 0, "passages")
    assert {answer["source"] for one in told["questions"] for answer in one["answers"]} == {"a.md"}
    proposed = (await http.get(AT, params={"state": "proposed"})).json()["data"]
    assert {one["id"] for one in proposed} == {one["id"] for one in told["questions"]}
    # What is known is not proposed twice.
    assert (await http.post(f"{AT}/make", json={"count": 5})).json()["made"] == 0


@pytest.mark.parametrize(
    ("method", "address", "body", "status", "param"),
    [
        ("POST", AT, {"query": "x?", "relevant": {"none.md": 1}}, 400, "relevant"),
        ("POST", AT, {"query": "x?", "relevant": {"pay/b.md": 1}}, 400, "relevant"),
        ("POST", AT, {"query": "x?", "relevant": {"a.md": 0}}, 400, "relevant"),
        ("POST", AT, {"query": "x?", "relevant": {"a.md": 1}, "quotes": {"a.md": "owl"}}, 400, "relevant"),
        ("POST", AT, {"query": "", "relevant": {"a.md": 1}}, 400, "query"),
        ("GET", f"{AT}?state=odd", None, 400, "state"),
        ("POST", f"{AT}/make", {"count": 101}, 400, "count"),
        ("POST", f"{AT}/make", {"budget_usd": 0}, 400, "budget_usd"),
        ("POST", "/api/v1/collections/none/questions/make", {}, 404, "collection"),
        ("PATCH", "/api/v1/questions/qst_none", {"state": "accepted"}, 404, "question"),
        ("PATCH", "/api/v1/questions/qst_none", {}, 400, "state"),
        ("PATCH", "/api/v1/questions/qst_none", {"state": "odd"}, 400, "state"),
    ],
)
async def test_what_is_wrong_is_named(client, method, address, body, status, param):
    http, _ = client
    answer = await http.request(method, address, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
