"""Searches with their steps, through the service: what they change, what they tell, and what they never do."""

from __future__ import annotations

import random

import pytest
from tests.knowledge.conftest import OPERATOR, caller

from interlock.core.errors import Unavailable
from interlock.knowledge.filters import read_filter
from interlock.knowledge.retrieval.rerankers import rerankers
from interlock.knowledge.retrieval.settings import RetrievalSteps, parse_steps
from interlock.knowledge.retrieval.types import Turn
from interlock.knowledge.settings import CollectionSettings, FusionSettings, KnowledgeSettings

from .conftest import Assistant

RULES = [
    {"match": "board/**", "readers": ["group:board"]},
    {"match": "**", "readers": ["public"]},
]
FACTS = [
    {"match": "2023/**", "set": {"year": "2023", "date": "2023-05-01", "authority": "0.2"}},
    {"match": "2026/**", "set": {"year": "2026", "date": "2026-05-01", "authority": "1"}},
    {"match": "board/**", "set": {"project": "Halcyon", "year": "2031"}},
]
RETURNS = "# Returns\n\nA customer may return hardware within {days} days of delivery.\n"


async def shelf(house):
    house.write("2023/returns.md", RETURNS.format(days=14))
    house.write("2026/returns.md", RETURNS.format(days=30))
    house.write("fire.md", "# Fire\n\nLeave the building by the stairs. The service level agreement (SLA) says when.\n")
    house.write(
        "board/deal.md", "# Deal\n\nThe acquisition of Zephyrine by a Quantum Leap Initiative (QLI) is secret.\n"
    )
    await house.ingest(permissions=RULES, metadata=FACTS)


async def explain(house, query, *chosen, ctx=None, **more):
    return await house.knowledge.explain(ctx or caller(), query, collection="docs", steps=parse_steps(chosen), **more)


def told(explanation, name):
    return next(step for step in explanation.steps if step.name == name)


async def test_nothing_changes_and_nothing_is_told_without_steps(house):
    await shelf(house)
    plain = await house.knowledge.explain(caller(), "may hardware be returned", collection="docs")
    assert plain.steps == ()
    assert plain.searched == plain.query


async def test_a_misspelt_word_is_searched_as_it_was_meant(house):
    await shelf(house)
    found = await explain(house, "custmer hardwrae", "spelling", mode="lexical")
    assert found.searched == "customer hardware"
    assert told(found, "spelling").told == "custmer → customer, hardwrae → hardware"
    assert found.candidates[0].passage.source.endswith("returns.md")
    assert (await explain(house, "custmer hardwrae", mode="lexical")).candidates == []


async def test_an_acronym_is_searched_with_what_it_stands_for(house):
    await shelf(house)
    found = await explain(house, "our SLA?", "acronyms")
    assert found.searched == "our SLA? (service level agreement)"
    assert told(found, "acronyms").outcome == "applied"


async def test_words_of_unreadable_documents_are_never_suggested(house):
    await shelf(house)
    for question in ("zephyrne deal", "what is QLI", "Halcyon in 2031", "quantum leap initiative"):
        for ctx, knows in ((caller(), False), (caller("board"), True)):
            found = await explain(house, question, "spelling", "acronyms", "self_query.mode=hard", ctx=ctx)
            applied = any(step.outcome == "applied" for step in found.steps)
            assert applied is knows, (question, found.steps)
            # Not the seconds of a step, whose digits may be any.
            shown = str([found.searched, *((step.outcome, step.told) for step in found.steps)])
            assert knows or not any(w in shown.replace(question, "") for w in ("ephyrine", "uantum", "alcyon", "2031"))


async def test_a_right_taken_away_takes_its_words_along(house):
    await shelf(house)
    board = caller("board")
    assert (await explain(house, "zephyrne", "spelling", ctx=board)).searched == "zephyrine"
    await house.ingest(permissions=[{"match": "board/**", "readers": ["group:court"]}, RULES[1]], metadata=FACTS)
    assert (await explain(house, "zephyrne", "spelling", ctx=board)).searched == "zephyrne"
    await house.ingest(permissions=RULES, metadata=FACTS)
    infos = await house.knowledge.documents(OPERATOR, collection="docs")
    await house.knowledge.delete(OPERATOR, next(info.id for info in infos if info.source == "board/deal.md"))
    assert (await explain(house, "zephyrne", "spelling", ctx=board)).searched == "zephyrne"


async def test_other_tenants_words_are_never_suggested(house):
    await shelf(house)
    found = await explain(house, "custmer", "spelling", "acronyms", "self_query", ctx=caller(tenant="rival"))
    assert found.searched == "custmer"
    assert all(step.outcome == "nothing" for step in found.steps)


async def test_random_rights_and_questions_leak_no_word(house):
    """Every word belongs to one document; a caller is only ever given words of readable ones."""
    draw = random.Random(11)
    letters = "abcdefghiklmnoprstuvw"
    words = {f"{n}.md": "".join(draw.choice(letters) for _ in range(9)) for n in range(24)}
    groups = {name: draw.sample(["a", "b", "c"], draw.randint(1, 2)) for name in words}
    for name, word in words.items():
        house.write(name, f"# Note\n\nOf the {word} only.\n")
    rules = [{"match": name, "readers": [f"group:{g}" for g in groups[name]]} for name in words]
    await house.ingest(
        permissions=rules, metadata=[{"match": name, "set": {"code": word}} for name, word in words.items()]
    )
    checks = 0
    for mine in (["a"], ["b"], ["c"], ["a", "b"], []):
        ctx = caller(*mine)
        hidden = {word for name, word in words.items() if not set(groups[name]) & set(mine)}
        for word in words.values():
            place = draw.randrange(1, 8)
            for question in (word[:place] + word[place + 1 :], word):
                found = await explain(
                    house, f"the {question}", "spelling", "acronyms", "self_query", ctx=ctx, mode="lexical"
                )
                said = " ".join([found.searched, *(step.told for step in found.steps)])
                assert not [w for w in hidden if w in said and w != question]
                assert not [step for step in found.steps if step.outcome == "applied"] or word not in hidden
                checks += 1
    assert checks == 5 * 24 * 2


async def test_metadata_in_the_question_filters_or_weighs(house):
    await shelf(house)
    hard = await explain(house, "return hardware in 2023", "self_query.mode=hard")
    assert {c.passage.source for c in hard.candidates} == {"2023/returns.md"}
    assert hard.documents == 1
    assert told(hard, "self_query").told == "year = 2023"
    soft = await explain(house, "return hardware in 2023", "self_query")
    assert soft.candidates[0].passage.source == "2023/returns.md"
    assert len(soft.candidates) > 1
    # What the asker filtered himself stands, also where both leave nothing together.
    both = await explain(house, "return hardware in 2023", "self_query.mode=hard", filter=read_filter({"year": "2026"}))
    assert {c.passage.source for c in both.candidates} == {"2026/returns.md"}
    assert told(both, "self_query").outcome == "nothing"


async def test_newer_and_more_authoritative_documents_come_first(house):
    await shelf(house)
    for chosen in ("freshness.weight=0.9", "authority.weight=0.9"):
        found = await explain(house, "may a customer return hardware within 14 days", chosen)
        assert [c.passage.source for c in found.candidates[:2]] == ["2026/returns.md", "2023/returns.md"], chosen
        scores = [c.passage.score for c in found.candidates]
        assert scores == sorted(scores, reverse=True)
    rules = 'authority={"field":"document.source","values":{"2023/**":1.0,"**":0.0},"weight":0.9}'
    found = await explain(house, "may a customer return hardware within 30 days", rules)
    assert found.candidates[0].passage.source == "2023/returns.md"


async def test_a_document_gives_way_after_its_share(house):
    parts = "\n\n".join(f"## Lamp {n}\n\nThe lamp number {n} is lit." for n in range(6))
    house.write("many.md", f"# Lamps\n\n{parts}\n")
    house.write("other.md", "# Other\n\nA lamp of ours.\n")
    await house.ingest()
    plain = await explain(house, "the lamp number is lit", limit=5)
    capped = await explain(house, "the lamp number is lit", "diversity.per_document=1", limit=5)
    assert [c.passage.source for c in capped.candidates[:2]] == ["many.md", "other.md"]
    assert {c.passage.id for c in plain.candidates} == {c.passage.id for c in capped.candidates}
    scores = [c.passage.score for c in capped.candidates]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)


async def test_what_says_the_same_is_pushed_back(house):
    await shelf(house)
    house.write("copy.md", RETURNS.format(days=30).replace("# Returns", "# Returns again"))
    house.write("fee.md", "# Fee\n\nHardware that comes back costs a fee of ten percent.\n")
    await house.ingest(permissions=RULES, metadata=FACTS)
    query = "may a customer return hardware within 30 days of delivery"
    plain = [c.passage.source for c in (await explain(house, query)).candidates]
    found = await explain(house, query, "diversity.mmr=0.3")
    spread = [c.passage.source for c in found.candidates]
    assert plain.index("fee.md") > 1
    assert spread.index("fee.md") < plain.index("fee.md")
    assert sorted(spread) == sorted(plain)
    assert told(found, "mmr").after > 0


async def test_a_model_searches_other_words_of_the_question(house):
    await shelf(house)
    assistant = Assistant(**{"other ways": "1. leave the building\n2. stairs"}, hyde="unused")
    found = await explain(
        house, "what to do when it burns", "expansion.queries=2", "model.name=m/x", mode="lexical", assistant=assistant
    )
    assert [c.passage.source for c in found.candidates] == ["fire.md"]
    assert told(found, "multi_query").told == "leave the building; stairs"
    assert assistant.asked[0][0] == "m/x"


async def test_an_imagined_answer_is_searched_by_meaning(house):
    await shelf(house)
    answer = "Leave the building by the stairs."
    found = await explain(house, "zzz", "expansion.hyde", assistant=Assistant(**{"short passage": answer}))
    assert found.candidates[0].passage.source == "fire.md"
    assert told(found, "hyde").outcome == "applied"
    assert answer in house.embedder.texts


async def test_parts_are_searched_and_the_model_asks_on_until_nothing_new_comes(house):
    await shelf(house)
    answers = {
        "several facts": "who may return hardware?",
        "still missing": ["leave the building by which stairs?", "who may return hardware at all?"],
    }
    assistant = Assistant(**answers)
    found = await explain(
        house, "return and burn", "expansion.decompose", "model.max_rounds=5", mode="lexical", assistant=assistant
    )
    assert {"2026/returns.md", "fire.md"} <= {c.passage.source for c in found.candidates}
    hops = [step for step in found.steps if step.name == "hop"]
    assert [step.outcome for step in hops] == ["applied", "nothing"]
    assert len(assistant.asked) == 3
    assert "secret" not in str(assistant.asked)
    assert all(0 <= c.passage.score <= 1 for c in found.candidates)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        (("model.max_calls=1",), "max_calls"),
        (("model.max_tokens=150",), "max_tokens"),
    ],
)
async def test_the_loop_ends_with_its_allowance(house, chosen, reason):
    await shelf(house)
    assistant = Assistant(**{"several facts": "who?\nwhy?", "still missing": "and where?"})
    found = await explain(house, "return hardware", "expansion.decompose", *chosen, assistant=assistant)
    last = found.steps[-1]
    assert last.outcome == "skipped" and reason in last.told
    assert len(assistant.asked) <= 1


@pytest.mark.parametrize("how", ["error", "slow", "none", "nonsense"])
async def test_a_model_that_fails_never_fails_a_search(house, how):
    await shelf(house)
    assistant = Assistant(
        **dict.fromkeys(("other ways", "several facts", "short passage", "missing", "numbered", "Rewrite"), "")
    )
    if how == "error":
        assistant.error = Unavailable("the provider is away")
    elif how == "slow":
        assistant.delay_s = 30
    steps = ("expansion.queries=3", "expansion.hyde", "expansion.decompose", "rerank.reranker=listwise")
    bounds = ("model.max_seconds=0.05", "rerank.timeout_s=0.05", "conversation=model")
    history = [Turn("user", "How long is the notice?"), Turn("assistant", "A month.")]
    query = "may a customer return hardware within 30 days"
    found = await explain(
        house, query, *steps, *bounds, assistant=None if how == "none" else assistant, history=history
    )
    plain = await explain(house, query)
    assert [c.passage for c in found.candidates] == [c.passage for c in plain.candidates]
    assert all(step.outcome != "applied" for step in found.steps)
    assert {"multi_query", "hyde", "decompose", "rerank"} <= {step.name for step in found.steps}
    assert "provider is away" not in str(found.steps)


async def test_who_looks_after_a_collection_is_told_why_a_step_failed(house):
    await shelf(house)
    asked = ("rerank.reranker=onyx",)
    assert told(await explain(house, "return", *asked), "rerank").told == "it failed: invalid_request"
    overseer = await explain(house, "return", *asked, ctx=OPERATOR)
    assert "did you mean 'onnx'" in told(overseer, "rerank").told


async def test_a_reranker_that_breaks_never_fails_a_search(house, monkeypatch):
    await shelf(house)

    class Broken:
        def open(self, given):
            return self

        async def rerank(self, ctx, query, passages):
            raise RuntimeError("text of a passage")

    monkeypatch.setitem(rerankers._loaded, "listwise", Broken())
    found = await explain(house, "may hardware be returned", "rerank.reranker=listwise")
    assert told(found, "rerank").outcome == "failed"
    assert "text of" not in told(found, "rerank").told
    assert found.candidates
    missing = await explain(house, "may hardware be returned", "rerank.reranker=nowhere")
    assert told(missing, "rerank").outcome == "failed"


async def test_a_model_orders_the_candidates(house):
    await shelf(house)
    plain = await explain(house, "may hardware be returned")
    last = len(plain.candidates)
    found = await explain(
        house, "may hardware be returned", "rerank.reranker=listwise", assistant=Assistant(numbered=f"{last}, 1")
    )
    assert found.candidates[0].passage.id == plain.candidates[-1].passage.id
    assert found.candidates[1].passage.id == plain.candidates[0].passage.id
    scores = [c.passage.score for c in found.candidates]
    assert scores == sorted(scores, reverse=True) and scores[0] <= 1 and scores[-1] >= 0


async def test_a_follow_up_is_rewritten_by_rule_or_model(house):
    await shelf(house)
    history = [Turn("user", "How long may hardware be kept?"), Turn("assistant", "30 days.")]
    ruled = await explain(house, "and returned?", history=history)
    assert ruled.searched == "How long may hardware be kept? and returned?"
    asked = Assistant(Rewrite="May hardware be returned?")
    modelled = await explain(house, "and returned?", "conversation=model", history=history, assistant=asked)
    assert modelled.searched == "May hardware be returned?"
    assert (await explain(house, "and returned?", "conversation=off", history=history)).searched == "and returned?"


async def test_every_step_is_a_span_with_its_counts(house):
    await shelf(house)
    spans = []

    class Sink:
        def emit(self, span):
            spans.append(span)

    from dataclasses import replace

    await explain(house, "custmer of SLA", "spelling", "acronyms", ctx=replace(caller(), sink=Sink()))
    steps = {span.name: span.attributes for span in spans if span.name.startswith("knowledge.step.")}
    assert steps["knowledge.step.spelling"] == {"before": 3, "after": 1, "outcome": "applied"}
    assert "customer" not in str(steps)


async def test_a_collection_has_steps_of_its_own(house):
    await shelf(house)
    own = CollectionSettings(steps=RetrievalSteps(spelling=True))
    settings = KnowledgeSettings(collections={"docs": own, "fused": CollectionSettings(fusion=FusionSettings(k=7))})
    knowledge = house.knowledge.beside(house.sql, house.blobs, house.index, settings=settings)
    assert knowledge.steps_of("docs").spelling and not knowledge.steps_of("fused").spelling
    assert knowledge.fusion_of("docs") == FusionSettings() and knowledge.fusion_of("fused").k == 7
    found = await knowledge.explain(caller(), "custmer", collection="docs")
    assert found.searched == "customer"
