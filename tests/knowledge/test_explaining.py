"""A search told stage by stage, by the code path that answers."""

from __future__ import annotations

import pytest

from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId
from interlock.knowledge.filters import read_filter
from interlock.knowledge.settings import FusionSettings

from .conftest import OPERATOR, caller

OLD = "---\nstatus: withdrawn\n---\n# Returns, old\n\nA customer may return hardware within 14 days of delivery.\n"
NEW = "# Returns\n\nA customer may return hardware within 30 days of delivery.\n"


async def shelf(house):
    house.write("old.md", OLD)
    house.write("new.md", NEW)
    house.write("copy.md", NEW.replace("# Returns", "# Returns again"))
    house.write("board.md", "# Board\n\nHardware returns cost us too much, the board says.\n")
    house.write("other.md", "# Fire\n\nLeave the building by the stairs.\n")
    rules = [{"match": "board.md", "readers": ["group:board"]}, {"match": "**", "readers": ["public"]}]
    await house.ingest(permissions=rules)
    infos = await house.knowledge.documents(OPERATOR, collection="docs")
    return {info.source.removesuffix(".md"): info.id for info in infos}


async def explain(house, ctx=None, query="may a customer return hardware", **more):
    return await house.knowledge.explain(ctx or caller(), query, collection="docs", **more)


async def test_it_shows_what_the_search_gives_with_both_legs(house):
    await shelf(house)
    told = await explain(house, limit=3)
    found = await house.search("may a customer return hardware", limit=3)
    assert [c.passage for c in told.candidates[:3]] == found
    best = told.candidates[0]
    assert (best.dense.rank, best.lexical.rank) in {(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1)}
    assert {"custom", "return", "hardwar"} <= set(best.words)
    assert told.terms == ("may", "custom", "return", "hardwar")
    assert told.languages == ("en",)
    assert told.fusion == "convex, dense weight 0.4"
    assert [stage.name for stage in told.stages] == ["analyse", "lexical", "embed", "dense", "fuse", "registry"]
    assert all(stage.seconds >= 0 for stage in told.stages)


async def test_every_candidate_says_what_became_of_it(house):
    await shelf(house)
    told = await explain(house, limit=3, budget_tokens=200)
    fates = {c.passage.source: c.fate for c in told.candidates}
    assert fates["old.md"] == "withdrawn"
    assert sorted([fates["new.md"], fates["copy.md"]]) == ["context", "repeat"]
    assert fates["other.md"] == "below_limit"
    assert {p.id for p in told.context} == {c.passage.id for c in told.candidates if c.fate == "context"}
    assert told.context_tokens <= told.budget_tokens
    tight = await explain(house, limit=3, budget_tokens=3)
    assert {c.fate for c in tight.candidates if c.passage.source in {"new.md", "copy.md"}} <= {"over_budget", "repeat"}
    assert tight.context == []


async def test_nothing_is_told_of_what_the_caller_may_not_read(house):
    ids = await shelf(house)
    told = await explain(house, limit=50)
    assert "board.md" not in {c.passage.source for c in told.candidates}
    assert "board.md" in {c.passage.source for c in (await explain(house, caller("board"), limit=50)).candidates}
    for document in (ids["board"], DocumentId("doc_none")):
        with pytest.raises(NotFound) as caught:
            await explain(house, document=document)
        assert str(document) in caught.value.message
    assert (await explain(house, OPERATOR, document=ids["board"])).why_not.reason == "unreadable"
    with pytest.raises(NotFound):
        await explain(house, caller(tenant="rival"), document=ids["new"])


@pytest.mark.parametrize(
    ("name", "reason", "more"),
    [
        ("new", "found", {"limit": 3}),
        ("other", "behind_others", {"limit": 2}),
        ("old", "left_out", {"limit": 3}),
        ("other", "nothing_in_common", {"mode": "lexical"}),
        ("other", "filtered", {"filter": read_filter({"status": "withdrawn"})}),
    ],
)
async def test_why_not_this_document(house, name, reason, more):
    ids = await shelf(house)
    why = (await explain(house, document=ids[name], **more)).why_not
    # Of two documents that say the same, either is the repeat.
    assert why.reason == reason or (name == "new" and why.reason == "left_out")
    assert why.source == f"{name}.md"
    assert why.told


async def test_a_document_that_failed_says_so(house):
    house.write("ok.md", NEW)
    house.write("broken.pdf", b"%PDF-1.7 nothing more")
    await house.ingest()
    infos = {info.source: info for info in await house.knowledge.documents(OPERATOR, collection="docs")}
    why = (await explain(house, OPERATOR, document=infos["broken.pdf"].id)).why_not
    assert why.reason == "failed"
    assert infos["broken.pdf"].error_message in why.told


async def test_documents_weigh_in_when_told_to(house):
    house.write("many.md", "# Many\n\n" + "\n\n".join(f"## Part {n}\n\nlamp number {n}" for n in range(4)))
    house.write("one.md", "# One\n\nlamp number one\n")
    house.write("far.md", "# Far\n\nOf another number, and of quite another thing that nobody asked about here.\n")
    await house.ingest()
    plain = await explain(house, query="lamp number", limit=5)
    mixed = await explain(house, query="lamp number", limit=5, fusion=FusionSettings(document_weight=0.9))
    assert mixed.fusion.endswith("document weight 0.9")
    assert {c.passage.id for c in plain.candidates} == {c.passage.id for c in mixed.candidates}
    assert mixed.candidates[0].passage.source == "many.md"
    assert plain.candidates[0].passage.source == "one.md"


async def test_wrong_questions_name_the_field(house):
    await shelf(house)
    for more, field in (({"query": " "}, "query"), ({"limit": 0}, "limit"), ({"budget_tokens": 0}, "budget_tokens")):
        with pytest.raises(InvalidInput) as caught:
            await explain(house, **more)
        assert caught.value.param == field
