"""Collections searched by OpenAI's own client as vector stores."""

from __future__ import annotations

import openai
import pytest

pytestmark = pytest.mark.model


def client(site, key="plain", token=None):
    headers = {} if token is None else {"x-interlock-on-behalf-of": token}
    return openai.OpenAI(
        base_url=f"{site.url}/v1", api_key=site.keys[key], default_headers=headers, max_retries=0, timeout=60
    )


def test_the_official_client_lists_and_searches(site):
    with client(site, token=site.token()) as finance:
        (store,) = finance.vector_stores.list().data
        assert (store.id, store.status) == ("docs", "completed")
        assert finance.vector_stores.retrieve("docs").file_counts.total == store.file_counts.total
        page = finance.vector_stores.search("docs", query="salary band of a senior engineer", max_num_results=3)
        found = page.data
        assert found[0].filename == "pay/bands.md"
        assert "61,000" in found[0].content[0].text
        assert found[0].score <= 1
        several = finance.vector_stores.search("docs", query=["salary band", "return hardware"], max_num_results=6).data
        assert {"pay/bands.md", "returns.md"} <= {row.filename for row in several}
        only = {"type": "eq", "key": "document.source", "value": "returns.md"}
        narrowed = finance.vector_stores.search("docs", query="salary band", filters=only).data
        assert {row.filename for row in narrowed} == {"returns.md"}


def test_each_caller_finds_what_it_may_read(site):
    with client(site) as plain, client(site, "rival") as rival:
        found = plain.vector_stores.search("docs", query="salary band of a senior engineer").data
        assert "pay/bands.md" not in {row.filename for row in found}
        assert rival.vector_stores.list().data == []
        for name in ("docs", "nothing"):
            with pytest.raises(openai.NotFoundError) as caught:
                rival.vector_stores.search(name, query="salary")
            assert caught.value.param == "vector_store_id"


EQ = {"type": "eq", "key": "team", "value": "red"}


@pytest.mark.parametrize(
    ("filters", "fine"),
    [
        ({"type": "and", "filters": [EQ, {"type": "ne", "key": "year", "value": 2020}]}, True),
        ({"type": "or", "filters": [EQ, {**EQ, "value": "blue"}]}, True),
        ({"type": "nin", "key": "team", "value": ["a", "b"]}, True),
        ({"type": "or", "filters": [EQ, {"type": "gt", "key": "year", "value": 1}]}, False),
        ({"type": "near", "key": "team", "value": "x"}, False),
        ({"key": "team"}, False),
        ({"type": "and", "filters": [{"type": "and", "filters": ["x"]}]}, False),
        ({"type": "nin", "key": "team", "value": [str(n) for n in range(200)]}, True),
        ({"type": "nin", "key": "team", "value": [str(n) for n in range(201)]}, False),
        ({"type": "or", "filters": [EQ] * 201}, False),
        ({"type": "and", "filters": [{"type": "and", "filters": [EQ] * 101}] * 2}, False),
    ],
)
def test_filters_are_taken_or_named(http, filters, fine):
    answer = http.post("/v1/vector_stores/docs/search", json={"query": "hardware", "filters": filters})
    assert answer.status_code == (200 if fine else 400), answer.text
    if not fine:
        assert answer.json()["error"]["param"] == "filters"


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "query"), ({"query": []}, "query"), ({"query": "x", "max_num_results": 51}, "max_num_results")],
)
def test_a_wrong_search_names_its_field(http, body, param):
    refused = http.post("/v1/vector_stores/docs/search", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_threshold_keeps_nonsense_out_and_answers_in(site):
    ranking = {"score_threshold": 0.3}
    with client(site) as plain:
        nonsense = plain.vector_stores.search("docs", query="purple elephants juggle teapots", ranking_options=ranking)
        assert nonsense.data == []
        found = plain.vector_stores.search("docs", query="how long may hardware be returned", ranking_options=ranking)
        assert found.data[0].filename == "returns.md"
        both = plain.vector_stores.search(
            "docs", query=["purple elephants juggle teapots", "how long may hardware be returned"], max_num_results=3
        )
        assert both.data[0].filename == "returns.md"
        assert both.data[0].score == found.data[0].score
