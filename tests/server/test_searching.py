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
        assert rival.post(path, json=ASKED).json() == {"data": []}
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
    ],
)
def test_a_wrong_search_names_its_field(http, body, param):
    for what in ("search", "explain"):
        refused = http.post(f"/api/v1/collections/docs/{what}", json=body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == param
