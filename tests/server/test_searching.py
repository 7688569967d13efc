"""Search and its explanation over REST, by the caller's rights."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.model
ASKED = {"query": "what is the salary band of a senior engineer", "limit": 5}


def sources(answer):
    assert answer.status_code == 200, answer.text
    return {row["source"] for row in answer.json()["data"]}


def test_each_caller_finds_what_it_may_read(site):
    path = "/api/v1/collections/docs/search"
    with site.client("plain") as plain, site.client("rival") as rival, site.client() as nobody:
        assert "pay/bands.md" not in sources(plain.post(path, json=ASKED))
        # Of another tenant: as if it were not there.
        refused = rival.post(path, json=ASKED)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "collection_not_found")
        assert refused.json()["error"]["hint"] == "one of: none yet"
        assert nobody.post(path, json=ASKED).status_code in {200, 401}
    with site.client("plain", token=site.token()) as finance:
        found = finance.post(path, json=ASKED)
        assert "pay/bands.md" in sources(found)
        assert found.json()["data"][0]["score"] <= 1
        only = finance.post(path, json={**ASKED, "filter": {"document.source": {"matches": "pay/**"}}})
        assert sources(only) == {"pay/bands.md"}


def test_an_explanation_keeps_to_the_same_rights(site):
    path = "/api/v1/collections/docs/explain"
    with site.client("admin") as admin:
        infos = {info["source"]: info["id"] for info in admin.get("/api/v1/documents").json()["data"]}
        secret = infos["pay/bands.md"]
        told = admin.post(path, json={**ASKED, "document": secret}).json()
        # An overseer is told why; the text stays out.
        assert told["why_not"]["reason"] == "unreadable"
        assert "61,000" not in str(told)
    with site.client("plain") as plain:
        assert plain.post(path, json={**ASKED, "document": secret}).status_code == 404
        told = plain.post(path, json=ASKED).json()
        assert [stage["name"] for stage in told["stages"]][-1] == "registry"
        assert all(c["passage"]["source"] != "pay/bands.md" for c in told["candidates"])
        assert told["context_tokens"] <= told["budget_tokens"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "mode": "psychic"}, "mode"),
        ({"query": "x", "fusion": {"dense_weight": 2}}, "fusion.dense_weight"),
        ({"query": "x", "filter": {"document.nope": 1}}, "filter.document.nope"),
        ({"query": "x", "more": 1}, "more"),
        ({"query": "x", "steps": {"speling": True}}, "steps.speling"),
        ({"query": "x", "steps": {"diversity": {"mmr": 2}}}, "steps.diversity.mmr"),
        ({"query": "x", "history": [{"role": "system", "text": "x"}]}, "history[0].role"),
    ],
)
def test_a_wrong_search_names_its_field(http, body, param):
    for what in ("search", "explain"):
        refused = http.post(f"/api/v1/collections/docs/{what}", json=body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == param


def test_steps_are_taken_and_told(site):
    body = {
        "query": "and the restockign fee?",
        "history": [{"role": "user", "text": "How long may hardware be returned?"}],
        "steps": {"spelling": True, "diversity": {"per_document": 1}, "expansion": {"hyde": True}},
    }
    with site.client("plain") as plain:
        refused = plain.post("/api/v1/collections/docs/search", json=body)
        assert refused.status_code == 403, "what a model costs is not the caller's to choose"
        steps = {name: value for name, value in body["steps"].items() if name != "expansion"}
        assert plain.post("/api/v1/collections/docs/search", json={**body, "steps": steps}).status_code == 200
    with site.client("admin") as admin:
        told = admin.post("/api/v1/collections/docs/explain", json=body).json()
        found = admin.post("/api/v1/collections/docs/search", json=body).json()["data"]
    assert told["searched"] == "How long may hardware be returned? and the restocking fee?"
    outcomes = {step["name"]: step["outcome"] for step in told["steps"]}
    assert outcomes["conversation"] == outcomes["spelling"] == "applied"
    assert outcomes["hyde"] == "failed", "no model is named, and the search stands"
    assert [row["id"] for row in found] == [c["passage"]["id"] for c in told["candidates"]][: len(found)]


def test_the_graph_keeps_to_the_rights_of_its_caller(site):
    path = "/api/v1/collections/docs/graph"
    with site.client("plain") as plain, site.client("rival") as rival, site.client("admin") as admin:
        told = plain.get(path).json()
        assert told["total"] == len(told["entities"]) > 0
        assert rival.get(path).status_code == 404
        seen = [place["source"] for row in told["entities"] for place in row["places"]]
        assert seen and "pay/bands.md" not in seen
        assert "pay/bands.md" not in str(admin.get(path).json()), "a role reads no document"
        name = told["entities"][0]["name"]
        one = plain.get(path, params={"entity": name, "limit": 5}).json()
        assert one["entities"][0]["name"] == name and len(one["edges"]) <= 5
        for query, status, param in (
            ({"entity": "Nobody Ofthatname"}, 404, "entity"),
            ({"entity": "x" * 201}, 400, "entity"),
            ({"limit": "0"}, 400, "limit"),
            ({"limit": "many"}, 400, "limit"),
        ):
            refused = plain.get(path, params=query)
            assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    with site.client("plain", token=site.token()) as finance:
        assert "pay/bands.md" in str(finance.get(path).json())


def test_a_collection_that_is_not_there_is_404_and_names_only_what_the_caller_may_know(site):
    with site.client("plain") as plain, site.client("admin") as admin, site.client("rival") as rival:
        for what in ("search", "explain"):
            path = f"/api/v1/collections/nope/{what}"
            for client, hint in ((plain, "one of: docs"), (admin, "one of: docs"), (rival, "one of: none yet")):
                refused = client.post(path, json=ASKED)
                assert refused.status_code == 404, refused.text
                assert refused.json()["error"] | {"type": ""} == {
                    "code": "collection_not_found",
                    "hint": hint,
                    "message": f"no collection 'nope' ({hint})",
                    "param": "collection",
                    "type": "",
                }
        assert plain.get("/api/v1/collections/nope/graph").status_code == 404


def test_a_score_says_how_near_a_passage_is_by_itself(site):
    path = "/api/v1/collections/docs/search"
    with site.client("plain") as plain:
        near = plain.post(path, json={"query": "how long may hardware be returned"}).json()["data"][0]
        far = plain.post(path, json={"query": "purple elephants juggle teapots"}).json()["data"][0]
        assert near["score"] > 0.3 > far["score"]
        told = plain.post("/api/v1/collections/docs/explain", json={"query": "purple elephants"}).json()
        assert told["candidates"][0]["fused"] > told["candidates"][0]["passage"]["score"]


def test_a_filter_on_a_field_that_nothing_readable_has_is_told(site):
    body = {"query": "hardware", "filter": {"yeer": 3}}
    with site.client("plain") as plain:
        told = plain.post("/api/v1/collections/docs/search", json=body).json()
        assert told["data"] == []
        assert told["hint"].startswith("no document you may read has a field 'yeer'; fields: ")
        assert plain.post("/api/v1/collections/docs/explain", json=body).json()["hint"] == told["hint"]
        fine = plain.post(
            "/api/v1/collections/docs/search", json={"query": "hardware", "filter": {"document.title": "x"}}
        )
        assert fine.json() == {"data": []}


def test_only_overseers_are_told_what_rights_removed(site):
    path = "/api/v1/collections/docs/explain"
    with site.client("admin") as admin, site.client("plain") as plain:
        told = admin.post(path, json=ASKED).json()
        infos = {info["source"]: info["id"] for info in admin.get("/api/v1/documents").json()["data"]}
        assert told["removed_by_rights"][0] == {
            "document_id": infos["pay/bands.md"],
            "rank": 1,
            "readers": ["group:finance"],
        }
        assert "61,000" not in str(told)
        assert plain.post(path, json=ASKED).json()["removed_by_rights"] is None
    with site.client("plain", token=site.token()) as finance:
        assert finance.post(path, json=ASKED).json()["removed_by_rights"] is None


def test_an_explanation_brings_the_claims_of_an_apps_answer(site):
    body = {"query": "How long may hardware be returned?", "app": "helper"}
    with site.client("plain") as plain:
        told = plain.post("/api/v1/collections/docs/explain", json=body)
        assert told.status_code == 200, told.text
        answer = told.json()["answer"]
        assert answer["text"]
        assert isinstance(answer["support_map"], list) and answer["trace_id"]
