from __future__ import annotations

import asyncio
import functools
from contextlib import aclosing

import pytest
from tests.knowledge.grounding.builders import BagEmbedder, passage

from interlock.core.answers import Answer, AnswerSentence, Quote
from interlock.core.clock import Deadline
from interlock.core.context import Context, Principal
from interlock.core.errors import Blocked
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import Finish, TextDelta, Usage
from interlock.core.trace import Span
from interlock.flows.answer import answer
from interlock.gateway.ports import ProviderDeps
from interlock.gateway.service import Gateway
from interlock.gateway.settings import GatewaySettings, ProviderSettings, ScriptRule
from interlock.gateway.types import RouteSpec
from interlock.knowledge.grounding.service import Grounding
from interlock.knowledge.grounding.types import AnswerSpec

QUESTION = "How long is a return number valid?"
FACT = "A return number is valid for 21 days."
PASSAGES = [
    passage(f"{FACT} After that the customer asks for a new one.", source="returns.md", title="Returns"),
    passage("The warranty of a gateway lasts 36 months.", source="warranty.md", title="Warranty", score=0.4),
]
OPEN = AnswerSpec(min_answerability=0.0)


class Kept:
    def __init__(self):
        self.spans: list[Span] = []

    def emit(self, span):
        self.spans.append(span)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def context(**more):
    return Context(TenantId("acme"), Principal(PrincipalId("svc"), "service"), **more)


def scripted(*rules, **first):
    """A stream function over a real gateway with the scripted provider, and that provider."""
    script = [ScriptRule(**rule) for rule in rules] or [ScriptRule(**first)]
    gateway = Gateway(
        GatewaySettings(providers={"s": ProviderSettings(kind="scripted", script=script)}),
        ProviderDeps(None, None, {}, {}),
    )
    route = RouteSpec(targets=["s/scripted"], retries=0)
    return functools.partial(gateway.stream, route=route), gateway.provider("s")


async def events(model, *, tier="small", spec=OPEN, question=QUESTION, passages=PASSAGES, ctx=None, used=None):
    stream = answer(
        ctx or context(), question=question, passages=passages, spec=spec, tier=tier, model=model, system="",
        grounding=Grounding(BagEmbedder()), on_usage=[].append if used is None else used.append, snapshot="snap",
    )  # fmt: skip
    async with aclosing(stream) as found:
        return [event async for event in found]


async def test_a_quote_comes_first_then_checked_sentences_then_the_answer():
    model, _ = scripted(reply=FACT)
    used = []
    found = await events(model, used=used)
    assert isinstance(found[0], Quote)
    assert found[0].citation.quote == FACT
    assert [type(e) for e in found[1:-1]] == [AnswerSentence] * (len(found) - 2)
    final = found[-1]
    assert isinstance(final, Answer)
    assert final.sentences[0].text == "A return number is valid for 21 days [1]."
    assert final.sentences[0].origin == "generated"
    assert (final.snapshot, final.decline_reason) == ("snap", "")
    assert used and used[0].output_tokens > 0


async def test_every_citation_quotes_its_span():
    model, _ = scripted(reply=FACT)
    final = (await events(model))[-1]
    for citation in final.citations:
        source = next(p for p in PASSAGES if p.id == citation.passage_id)
        assert (
            source.text[citation.span.start - source.span.start : citation.span.end - source.span.start]
            == citation.quote
        )
    assert [c.marker for c in final.citations] == list(range(1, len(final.citations) + 1))


async def test_an_unsupported_claim_is_repaired_once_and_then_quoted():
    wrong, _ = scripted(reply="A return number is valid for 14 days.")
    final = (await events(wrong))[-1]
    assert final.sentences[0].origin == "extracted"
    assert FACT.removesuffix(".") in final.sentences[0].text
    assert "14" not in final.text
    second, _ = scripted(
        {"match": "Question:", "reply": FACT}, {"match": "", "reply": "A return number is valid for 14 days."}
    )
    assert (await events(second))[-1].sentences[0].origin == "repaired"


async def test_a_model_that_fails_is_replaced_by_quotes_and_not_asked_again():
    model, provider = scripted(fail_status=500)
    sink = Kept()
    final = (await events(model, ctx=context(sink=sink)))[-1]
    assert final.outcome == "extracted"
    assert provider.open_streams == 0
    generate = next(s for s in sink.spans if s.name == "answer generate")
    assert generate.attributes["interlock.calls"] == 1
    assert generate.attributes["interlock.fallback"]


async def test_a_slow_model_is_cut_off_in_time_and_quoted_instead():
    model, provider = scripted(reply=FACT, first_delay_s=5.0)
    began = asyncio.get_running_loop().time()
    final = (await events(model, spec=OPEN.model_copy(update={"max_seconds": 0.5})))[-1]
    assert asyncio.get_running_loop().time() - began < 2.0
    assert final.outcome == "extracted"
    assert provider.open_streams == 0


async def test_the_callers_deadline_holds_too():
    model, _ = scripted(reply=FACT)
    final = (await events(model, ctx=context(deadline=Deadline.after(0.05))))[-1]
    assert final.outcome == "extracted"


async def test_closing_the_answer_closes_the_models_stream():
    model, provider = scripted(reply="slow " * 50, chunk_delay_s=0.02)
    stream = answer(
        context(), question=QUESTION, passages=PASSAGES, spec=OPEN, tier="small", model=model, system="",
        grounding=Grounding(BagEmbedder()), on_usage=lambda _: None,
    )  # fmt: skip
    await anext(stream)
    task = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.1)
    assert provider.open_streams == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stream.aclose()
    assert provider.open_streams == 0


async def test_no_model_is_called_when_there_is_none():
    def model(ctx, request):
        raise AssertionError("no model may be called")

    final = (await events(model, tier="none"))[-1]
    assert {s.origin for s in final.sentences} == {"extracted"}
    final = (await events(model, tier="capable", spec=OPEN.model_copy(update={"strategy": "extractive"})))[-1]
    assert final.outcome == "extracted"


async def test_without_passages_or_with_weak_evidence_it_declines():
    model, _ = scripted(reply=FACT)
    found = await events(model, passages=[])
    assert [type(e) for e in found] == [AnswerSentence, Answer]
    assert (found[-1].outcome, found[-1].decline_reason) == ("declined", "no_passages")
    found = await events(model, spec=AnswerSpec(min_answerability=1.0))
    assert found[-1].decline_reason == "weak_evidence"
    assert found[0].origin == "notice"
    assert not found[-1].citations


async def test_a_policy_that_blocks_the_model_is_not_quoted_around():
    async def model(ctx, request):
        raise Blocked("stopped")
        yield

    with pytest.raises(Blocked):
        await events(model)


async def test_a_capable_model_is_checked_sentence_by_sentence():
    reply = (
        "A return number is valid for 21 days [1]. It is valid for 99 years [1]. "
        "The warranty of a gateway lasts 36 months [2]."
    )
    model, _ = scripted(reply=reply)
    found = await events(model, tier="capable")
    sentences = [e for e in found if isinstance(e, AnswerSentence)]
    assert [s.text for s in sentences if s.origin == "generated"] == [
        "A return number is valid for 21 days [1].",
        "The warranty of a gateway lasts 36 months [2].",
    ]
    assert "99" not in found[-1].text


async def test_a_wrong_marker_is_corrected_to_the_passage_that_says_it():
    model, _ = scripted(reply="A return number is valid for 21 days [2].")
    final = (await events(model, tier="capable"))[-1]
    assert final.citations[0].source == "returns.md"


async def test_a_sentence_is_shown_before_the_model_has_finished():
    state = {"finished": False}

    async def model(ctx, request):
        for piece in (FACT, " [1]. ", "The warranty of a gateway", " lasts 36 months [2]."):
            yield TextDelta(piece)
            await asyncio.sleep(0)
        state["finished"] = True
        yield Finish("stop", Usage(1, 1), "m")

    stream = answer(
        context(), question=QUESTION, passages=PASSAGES, spec=OPEN, tier="capable", model=model, system="",
        grounding=Grounding(BagEmbedder()), on_usage=lambda _: None,
    )  # fmt: skip
    async with aclosing(stream) as found:
        async for event in found:
            if isinstance(event, AnswerSentence):
                assert not state["finished"]
                break


async def test_a_capable_model_that_finds_nothing_declines():
    model, _ = scripted(reply="NONE")
    final = (await events(model, tier="capable"))[-1]
    assert (final.outcome, final.decline_reason) == ("declined", "unsupported")


async def test_a_capable_model_that_breaks_off_is_completed_by_quotes():
    model, _ = scripted(reply="Return numbers may be used for ever and ever [1].", fail_status=500, fail_after_chunks=2)
    final = (await events(model, tier="capable"))[-1]
    assert final.outcome == "extracted"
    assert "21 days" in final.text


async def test_a_withdrawn_document_is_set_aside_and_named():
    old = passage("A return number is valid for 7 days.", source="old.md", title="Returns", status="withdrawn")
    model, _ = scripted(reply=FACT)
    final = (await events(model, passages=[old, *PASSAGES]))[-1]
    assert final.conflicts == ("old.md",)
    assert "7 days" not in final.text


async def test_spans_hold_counts_and_no_texts():
    sink = Kept()
    model, _ = scripted(reply=FACT)
    await events(model, ctx=context(sink=sink))
    names = [s.name for s in sink.spans if s.name.startswith("answer")]
    assert names == ["answer select", "answer assess", "answer generate"]
    for span in sink.spans:
        assert not any("return number" in str(value) for value in span.attributes.values())
