"""`interlock knowledge search` and `explain`, as people and scripts meet them."""

from __future__ import annotations

import pytest

from .test_cli import run, workspace

pytestmark = pytest.mark.model
__all__ = ["run", "workspace"]


def test_a_search_shows_what_its_asker_may_read(run):
    assert run("ingest").code == 0
    rows = run("knowledge", "search", "salary band of a senior engineer", "--as", "ada", "--json").json
    assert {row["source"] for row in rows} == {"returns.md"}
    rows = run("knowledge", "search", "salary band of a senior engineer", "--as", "fay", "--json").json
    assert rows[0]["source"] == "pay/bands.md"
    only = run("knowledge", "search", "fee", "--as", "fay", "--filter", "document.source~pay/**", "--json").json
    assert {row["source"] for row in only} == {"pay/bands.md"}
    shown = run("knowledge", "search", "restocking fee", "--as", "ada").out
    assert "1. Returns" in shown
    assert "restocking fee is 10 percent" in shown


def test_an_explanation_tells_stages_fates_and_why_not(run):
    assert run("ingest").code == 0
    told = run("knowledge", "explain", "restocking fee", "--as", "ada", "--document", "pay/bands.md")
    assert "none of its readers (group:finance)" in told.out
    assert "61,000" not in told.out
    told = run("knowledge", "explain", "restocking fee", "--as", "ada")
    for part in ("asked  restocking fee", "convex, dense weight 0.4", "lexical", "context: 1 passages"):
        assert part in told.out
    assert run("knowledge", "explain", "fee", "--json").json["candidates"][0]["fate"] == "context"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "x", "--filter", "nonsense"], "is no condition"),
        (["search", "x", "--limit", "0"], "--limit"),
        (["explain", "x", "--document", "none.md"], "no document of 'docs' has the source 'none.md'"),
        (["search", " "], "the query is empty"),
        (["search", "x", "--as", "nobody"], "no user 'nobody'"),
    ],
)
def test_what_is_wrong_is_said(run, arguments, said):
    refused = run("knowledge", *arguments)
    assert refused.code in {1, 2, 3}
    assert said in refused.err
