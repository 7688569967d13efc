"""Steps of a search that ask a model: through the gateway, on the bill, under the guardrails, and never in the way."""

from __future__ import annotations

import pytest

from interlock.core.answers import Answer
from interlock.core.errors import NotFound
from interlock.flows.retrieval_assistant import RetrievalAssistant
from interlock.knowledge.retrieval.settings import parse_steps
from interlock.knowledge.retrieval.types import StepFailed

from .conftest import apps, open_house

pytestmark = pytest.mark.model
QUESTION = "How long may customers return hardware?"


@pytest.fixture(scope="module")
async def stepping(tmp_path_factory, models_dir):
    made = apps()
    made["stepper"] = {
        **made["helper"],
        "knowledge": {
            "collection": "docs",
            "steps": {"spelling": True, "expansion": {"queries": 2}, "rerank": {"reranker": "listwise"}},
        },
    }
    async with open_house(tmp_path_factory.mktemp("steps") / "workspace", models_dir, apps=made) as house:
        yield house


async def test_an_apps_steps_are_traced_and_billed_with_its_answer(stepping):
    outcome = await stepping.call("stepper", QUESTION)
    answer = next(event for event in outcome.events if isinstance(event, Answer))
    assert "30 days" in answer.text
    steps = {span.name: span.attributes["outcome"] for span in outcome.spans if ".step." in span.name}
    assert (
        steps
        == {
            "knowledge.step.spelling": "nothing",
            "knowledge.step.multi_query": "applied",
            "knowledge.step.rerank": "applied",
        }
        or steps["knowledge.step.rerank"] == "nothing"
    )
    plain = await stepping.call("helper", QUESTION)
    assert len(outcome.ledger) == len(plain.ledger) + 2
    assert {entry.app for entry in outcome.ledger} == {"stepper"}
    assert len(outcome.audit) == 1


async def test_a_provider_that_dies_takes_only_its_step_along(stepping):
    outcome = await stepping.call("stepper", "When hardware dies, may customers return it within 30 days?")
    steps = {span.name: span.attributes["outcome"] for span in outcome.spans if ".step." in span.name}
    assert steps["knowledge.step.multi_query"] == "failed"
    assert any(isinstance(event, Answer) for event in outcome.events)


async def test_the_steps_are_pinned_by_the_release(stepping):
    release = await stepping.app.resolve(stepping.caller(), "app/stepper")
    assert release.components["retrieval"]["steps"]["expansion"]["queries"] == 2
    plain = await stepping.app.resolve(stepping.caller(), "app/helper")
    assert plain.components["retrieval"]["steps"]["spelling"] is False


async def test_a_search_of_its_own_opens_a_bill_for_each_call(stepping):
    parts, ctx = stepping.app.parts, stepping.caller()
    told = await parts.knowledge.explain(
        ctx,
        QUESTION,
        collection="docs",
        steps=parse_steps(["expansion.queries=1", "model.name=scripted"]),
        assistant=RetrievalAssistant(parts),
    )
    assert [step.outcome for step in told.steps] == ["applied"]
    await parts.governance.flush()
    lines = [line for line in await parts.governance.lines(ctx, limit=500) if line.trace_id == ctx.trace_id]
    assert [line.action for line in lines] == ["knowledge.ask"]
    assert len(list(await parts.cost.ledger(ctx, trace_id=ctx.trace_id))) == 1


async def test_a_model_that_is_not_there_or_only_quotes_is_said(stepping):
    parts, ctx = stepping.app.parts, stepping.caller()
    assistant = RetrievalAssistant(parts)
    asked = {"system": "s", "user": "u", "max_tokens": 10}
    with pytest.raises(NotFound):
        await assistant.ask(ctx, model="", **asked)
    with pytest.raises(StepFailed) as caught:
        await assistant.ask(ctx, model="extractive", **asked)
    assert caught.value.skipped
    with pytest.raises(StepFailed):
        await RetrievalAssistant(parts, regions=("eu",)).rerank(ctx, "q", ["a"], model="scripted")
    told = await parts.knowledge.explain(
        ctx, QUESTION, collection="docs", steps=parse_steps(["expansion.hyde"]), assistant=assistant
    )
    assert [step.outcome for step in told.steps] == ["failed"]
    assert told.candidates
