"""The graph through the service: what it shows, what a search finds by it, and what nobody gets from it."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace

import pytest
from tests.knowledge.conftest import OPERATOR, caller
from tests.knowledge.retrieval.conftest import Assistant

from interlock.core.errors import InvalidInput, NotFound, Unavailable
from interlock.knowledge.filters import read_filter
from interlock.knowledge.retrieval.settings import RetrievalSteps, parse_steps

RULES = [
    {"match": "board/**", "readers": ["group:board"]},
    {"match": "**", "readers": ["public"]},
]
SHELF = {
    "people/olin.md": "# Marta Olin\n\nThe rota is hers. Marta Olin works for Nordwind Freight.\n",
    "firms/nordwind.md": "# Nordwind Freight\n\nLetters to Nordwind Freight go to a yellow house in Torvik.\n",
    "firms/basalt.md": "# Basalt Mills\n\nLetters to Basalt Mills go to a green house in Lunde.\n",
    "board/deal.md": "# Deal\n\nNordwind Freight is acquired by Zephyrine Holding (ZH). "
    "Marta Olin leads Project Halcyon.\n",
}
QUESTION = "where does the firm get its letters that Marta Olin works for"


async def shelf(house):
    for name, text in SHELF.items():
        house.write(name, text)
    await house.ingest(permissions=RULES)


async def graph(house, entity=None, ctx=None, **more):
    return await house.knowledge.graph(ctx or caller(), "docs", entity, **more)


async def explain(house, query, *chosen, ctx=None, **more):
    return await house.knowledge.explain(ctx or caller(), query, collection="docs", steps=parse_steps(chosen), **more)


def told(explanation):
    return next(step for step in explanation.steps if step.name == "graph")


def shown(view):
    """Everything a caller sees, but for ids of documents, which differ from house to house."""
    return json.loads(
        json.dumps(asdict(view), default=str), object_hook=lambda d: {k: v for k, v in d.items() if k != "document_id"}
    )


async def test_an_entity_is_shown_with_its_edges_and_the_places_that_say_so(house):
    await shelf(house)
    view = await graph(house, "marta  OLIN")
    assert view.entities[0].name == "Marta Olin" and view.entities[0].documents == 1
    edge = view.edges[0]
    assert (edge.source, edge.kind, edge.target) == ("marta olin", "works for", "nordwind freight")
    place = edge.places[0]
    text = await house.knowledge.document_text(caller(), place.document_id, place.digest)
    assert text.text[place.span.start : place.span.end] == "Marta Olin works for Nordwind Freight."
    assert place.source == "people/olin.md"
    whole = await graph(house)
    assert whole.total == len(whole.entities)
    assert {"Nordwind Freight", "Torvik", "Basalt Mills"} <= {entity.name for entity in whole.entities}
    assert [edge.kind for edge in whole.edges] == ["works for"]
    assert len((await graph(house, limit=2)).entities) == 2


async def test_short_forms_are_the_same_entity(house):
    await shelf(house)
    view = await graph(house, "ZH", ctx=caller("board"))
    assert view.entities[0].name == "Zephyrine Holding" and view.entities[0].aliases == ("ZH",)


async def test_what_is_not_there_is_refused_by_field(house):
    await shelf(house)
    for name in ("Nobody Here", "Zephyrine Holding", "zh", ""):
        with pytest.raises(NotFound) as caught:
            await graph(house, name)
        assert caught.value.param == "entity" and "ephyrine" not in str(caught.value)
    with pytest.raises(InvalidInput):
        await graph(house, limit=0)
    assert (await house.knowledge.graph(caller(), "nowhere")).entities == []


async def test_a_second_document_is_found_by_what_the_first_says(house):
    await shelf(house)
    plain = await explain(house, QUESTION, mode="lexical")
    found = await explain(house, QUESTION, "graph.weight=0.9", mode="lexical")
    assert told(found).outcome == "applied" and "Marta Olin → Nordwind Freight (works for)" in told(found).told
    sources = [c.passage.source for c in found.candidates]
    assert set(sources[:2]) == {"people/olin.md", "firms/nordwind.md"}
    assert sources.index("firms/nordwind.md") < sources.index("firms/basalt.md")
    before = {c.passage.id: c.passage.score for c in plain.candidates}
    after = {c.passage.id: c.passage.score for c in found.candidates}
    assert before.keys() <= after.keys()
    assert all(before[key] <= after[key] <= 1 for key in before)


async def test_a_question_that_names_nothing_is_searched_as_it_is(house):
    await shelf(house)
    plain = await explain(house, "who gets letters")
    found = await explain(house, "who gets letters", "graph")
    assert told(found).outcome == "nothing"
    assert [c.passage for c in found.candidates] == [c.passage for c in plain.candidates]


async def test_a_filter_holds_for_what_the_graph_adds(house):
    await shelf(house)
    only = read_filter({"document.source": {"matches": "people/**"}})
    found = await explain(house, QUESTION, "graph.hops=2", filter=only)
    assert {c.passage.source for c in found.candidates} == {"people/olin.md"}


async def test_two_hops_go_further_than_one(house):
    house.write("a.md", "Marta Olin works for Nordwind Freight.\n")
    house.write("b.md", "Nordwind Freight is part of Basalt Group.\n")
    house.write("c.md", "Basalt Group sits in Torvik.\n")
    await house.ingest()
    one = await explain(house, "where is Marta Olin", "graph.entities=2", mode="lexical")
    two = await explain(house, "where is Marta Olin", "graph.hops=2", "graph.entities=2", mode="lexical")
    assert "Basalt Group" not in told(one).told and "Basalt Group" in told(two).told
    assert "c.md" in {c.passage.source for c in two.candidates} - {c.passage.source for c in one.candidates}


async def test_the_step_is_a_span_with_counts_and_no_words(house):
    await shelf(house)
    spans = []

    class Sink:
        def emit(self, span):
            spans.append(span)

    await explain(house, QUESTION, "graph", ctx=replace(caller(), sink=Sink()))
    await graph(house, "Marta Olin", ctx=replace(caller(), sink=Sink()))
    by_name = {span.name: span.attributes for span in spans}
    assert by_name["knowledge.step.graph"]["outcome"] == "applied" and by_name["knowledge.step.graph"]["after"] >= 1
    assert by_name["knowledge.graph"]["edges"] >= 1
    assert "Nordwind" not in str(by_name["knowledge.step.graph"]) + str(by_name["knowledge.graph"])


async def test_what_the_board_knows_is_in_nobody_elses_graph(house):
    await shelf(house)
    board = caller("board")
    assert "acquired" in str(shown(await graph(house, "Nordwind Freight", ctx=board)))
    for ctx in (caller(), OPERATOR):
        seen = str([shown(await graph(house, name, ctx=ctx)) for name in (None, "Nordwind Freight", "Marta Olin")])
        assert not any(word in seen.casefold() for word in ("zephyrine", "halcyon", "acquired", "board/"))
    found = await explain(house, "what does Marta Olin lead", "graph.hops=2", "graph.entities=20")
    assert "Halcyon" not in str(found.steps) + str(found.candidates)
    assert (await house.knowledge.graph(caller(tenant="rival"), "docs")).entities == []


async def test_rights_taken_away_changes_and_erasure_reach_the_graph(house):
    await shelf(house)
    board = caller("board")
    assert (await graph(house, "Project Halcyon", ctx=board)).entities
    await house.ingest(permissions=[{"match": "board/**", "readers": ["group:court"]}, RULES[1]])
    with pytest.raises(NotFound):
        await graph(house, "Project Halcyon", ctx=board)
    house.write("board/deal.md", "# Deal\n\nMarta Olin leads Project Kestrel.\n")
    await house.ingest(permissions=RULES)
    assert (await graph(house, "Project Kestrel", ctx=board)).entities
    with pytest.raises(NotFound):
        await graph(house, "Project Halcyon", ctx=board)
    infos = await house.knowledge.documents(OPERATOR, collection="docs")
    await house.knowledge.delete(OPERATOR, next(info.id for info in infos if info.source == "board/deal.md"))
    # Nothing of it stays in memory, asked for or not.
    assert house.knowledge._graphs._kept == {}
    assert "Kestrel" not in str(shown(await graph(house, ctx=board)))


SAID = [
    {"passage": 1, "source": "the night rota", "relation": "kept by", "target": "porter of gate seven"},
    {"passage": 1, "source": "the night rota", "relation": "owned by", "target": "porter of gate seven"},
    {"passage": 1, "source": "the night rota", "relation": "kept by", "target": "Project Halcyon"},
    {"passage": 9, "source": "the night rota", "relation": "kept by", "target": "porter of gate seven"},
    {"passage": True, "source": ["x"], "relation": None, "target": 7},
    "nonsense",
]


async def test_a_model_names_relations_that_count_when_their_words_stand_there(house):
    await shelf(house)
    house.write("rota.md", "The night rota is kept by the porter of gate seven.\n")
    house.write("gate.md", "Ask the porter of gate seven for the grey keys.\n")
    await house.ingest(permissions=RULES)
    assistant = Assistant(**{"name relations": json.dumps({"relations": SAID})})
    asked = {"mode": "lexical", "assistant": assistant}
    found = await explain(house, "who keeps the night rota", "graph.by_model", "model.name=m/x", **asked)
    assert told(found).told == "the night rota → porter of gate seven (kept by)"
    assert "gate.md" in {c.passage.source for c in found.candidates}
    assert "Halcyon" not in str(assistant.asked)
    assert len(assistant.asked) == 1 and assistant.asked[0][0] == "m/x"
    # What guardrails keep back no model reads.
    guarded = Assistant(**{"name relations": "{}"})
    guarded.blocked = ("gate seven",)
    await explain(house, "who keeps the night rota", "graph.by_model", mode="lexical", assistant=guarded)
    assert "gate seven" not in str(guarded.asked)


@pytest.mark.parametrize("how", ["error", "none", "spent", "not json", "[1]", '{"relations": 3}', "{" * 5000 + "}"])
async def test_a_model_that_fails_leaves_the_rules(house, how):
    await shelf(house)
    assistant = Assistant(**{"name relations": how})
    if how == "error":
        assistant.error = Unavailable("the provider is away")
    bounds = ["model.max_tokens=100"] if how == "spent" else []
    given = None if how == "none" else assistant
    found = await explain(house, QUESTION, "graph.by_model", *bounds, assistant=given)
    plain = await explain(house, QUESTION, "graph")
    assert [c.passage for c in found.candidates] == [c.passage for c in plain.candidates]
    assert told(found).outcome == "applied" and told(found).told == told(plain).told


NAMES = [f"{a}{b}" for a in ("Al", "Be", "Co", "Du", "Er", "Fa") for b in ("dor", "rin", "vex", "mund", "tis")]
VERBS = ("reports to", "replaces", "is part of", "is owned by", "met", "is the twin of")


async def test_random_rights_revocation_and_erasure_leak_nothing(house):
    """Callers of many groups, before and after rights move and documents are erased."""
    draw = random.Random(23)

    def sentence():
        one, other = draw.sample(NAMES, 2)
        if draw.random() < 0.2:
            return f"We asked {one} Works ({one[0]}W) and {other}."
        return f"We know that {one} {draw.choice(VERBS)} {other}."

    texts = {f"{n}.md": " ".join(sentence() for _ in range(draw.randint(1, 3))) for n in range(14)}
    groups = {name: draw.sample(["a", "b", "c"], draw.randint(1, 2)) for name in texts}
    checks = 0
    for turn in range(3):
        if turn == 1:
            groups = {name: draw.sample(["a", "b", "c"], draw.randint(1, 2)) for name in texts}
        for name, text in texts.items():
            house.write(name, f"{text}\n")
        await house.ingest(
            permissions=[{"match": name, "readers": [f"group:{g}" for g in groups[name]]} for name in texts]
        )
        if turn == 2:
            infos = await house.knowledge.documents(OPERATOR, collection="docs")
            gone = draw.sample(infos, 5)
            for info in gone:
                await house.knowledge.delete(OPERATOR, info.id)
                del texts[info.source]
        for mine in (["a"], ["b"], ["c"], ["a", "b"], []):
            ctx = caller(*mine)
            readable = {name for name in texts if set(groups[name]) & set(mine)}
            said = "\n".join(texts[name] for name in readable)
            hidden = [name for name in NAMES if name not in said]
            whole = await graph(house, ctx=ctx, limit=500)
            views = [shown(whole)]
            for name in NAMES:
                if name in said:
                    key = whole.entities and next((e.name for e in whole.entities if name in e.name), None)
                    if key:
                        views.append(shown(await graph(house, key, ctx=ctx, limit=500)))
                else:
                    with pytest.raises(NotFound):
                        await graph(house, name, ctx=ctx)
                checks += 1
            for view in views:
                for place in [p for part in ("entities", "edges") for one in view[part] for p in one["places"]]:
                    assert place["source"] in readable
                assert not [name for name in hidden if name in str(view)]
            for name in draw.sample(NAMES, 3):
                found = await explain(
                    house, f"who met {name}", "graph.hops=2", "graph.entities=20", ctx=ctx, mode="lexical"
                )
                assert {c.passage.source for c in found.candidates} <= readable
                assert not [other for other in hidden if other != name and other in told(found).told]
                checks += 1
    assert checks == 3 * 5 * (30 + 3)


@pytest.mark.parametrize("mine", [["a"], ["b"], ["a", "b"]])
async def test_a_visible_graph_is_that_of_the_readable_documents_alone(house, mine):
    draw = random.Random(5)
    texts = {
        f"{n}.md": f"We know that {draw.choice(NAMES)} {draw.choice(VERBS)} {draw.choice(NAMES)}." for n in range(12)
    }
    groups = {name: draw.choice(["a", "b", "c"]) for name in texts}
    for name, text in texts.items():
        house.write(name, f"{text}\n")
    rules = [{"match": name, "readers": [f"group:{groups[name]}"]} for name in texts]
    await house.ingest(permissions=rules)
    seen = shown(await graph(house, ctx=caller(*mine), limit=500))
    for name in texts:
        if groups[name] not in mine:
            (house.folder / name).unlink()
    await house.ingest(permissions=rules)
    alone = shown(await graph(house, ctx=caller("a", "b", "c"), limit=500))
    assert seen == alone and seen["entities"]


def test_steps_with_the_graph_are_read_and_pinned():
    assert RetrievalSteps().graph is None
    steps = parse_steps(["graph", "graph.hops=2", "graph.by_model"])
    assert steps.graph.hops == 2 and steps.graph.by_model
    assert RetrievalSteps.model_validate(steps.model_dump(mode="json")) == steps
    assert parse_steps(["graph=null"], steps).graph is None
    for wrong in ("graph.hops=3", "graph.entities=0", "graph.weight=2", "graph.depth=1"):
        with pytest.raises(InvalidInput) as caught:
            parse_steps([wrong])
        assert caught.value.param.startswith("steps.graph")
