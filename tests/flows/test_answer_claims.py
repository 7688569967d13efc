"""Claims of an answer: each with its verdict and evidence, and the app's policy for those that were refused."""

from __future__ import annotations

import asyncio
import functools
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.knowledge.grounding.builders import BagEmbedder, passage
from tests.knowledge.onnx_files import write_nli

from interlock.core.answers import Answer, AnswerSentence, Quote
from interlock.core.context import Context, Principal
from interlock.core.ids import PrincipalId, TenantId
from interlock.flows.answer import answer
from interlock.gateway.ports import ProviderDeps
from interlock.gateway.service import Gateway
from interlock.gateway.settings import GatewaySettings, ProviderSettings, ScriptRule
from interlock.gateway.types import RouteSpec
from interlock.knowledge.grounding.claims import split
from interlock.knowledge.grounding.service import Grounding
from interlock.knowledge.grounding.types import AnswerSpec

QUESTION = "How may hardware be returned, and what does it cost?"
RETURNS = "Customers may return hardware within 30 days of delivery."
FEE = "The restocking fee is 10 percent of the price."
PASSAGES = [
    passage(f"{RETURNS} The parcel needs a return number.", source="returns.md", title="Returns"),
    passage(FEE, source="fees.md", title="Fees", score=0.8),
    passage("The cafeteria opens at noon.", source="cafeteria.md", title="Cafeteria", score=0.3),
]
TRUE = "Customers may return hardware within 30 days of delivery [1]."
FALSE = "Customers may return hardware within 90 days of delivery [1]."
HALF = (
    "Customers may return hardware within 30 days of delivery, and the restocking fee is 20 percent of the price [1]."
)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def scripted(*rules, **first):
    script = [ScriptRule(**rule) for rule in rules] or [ScriptRule(**first)]
    gateway = Gateway(
        GatewaySettings(providers={"s": ProviderSettings(kind="scripted", script=script)}),
        ProviderDeps(None, None, {}, {}),
    )
    return functools.partial(gateway.stream, route=RouteSpec(targets=["s/scripted"], retries=0))


def spec(**changed):
    return AnswerSpec.model_validate({"min_answerability": 0.0, **changed})


async def events(reply, *, tier="capable", passages=PASSAGES, question=QUESTION, judge=None, models=None, **changed):
    model = scripted(reply=reply) if isinstance(reply, str) else reply
    stream = answer(
        Context(TenantId("acme"), Principal(PrincipalId("svc"), "service")),
        question=question, passages=passages, spec=spec(**changed), tier=tier, model=model, system="",
        grounding=Grounding(BagEmbedder(), models=models), on_usage=[].append, judge=judge,
    )  # fmt: skip
    async with aclosing(stream) as found:
        return [event async for event in found]


async def final(*arguments, **named):
    found = (await events(*arguments, **named))[-1]
    assert isinstance(found, Answer)
    return found


def check_laws(found, flag_text="[not confirmed by the documents]", passages=PASSAGES):
    """Whatever the policy: quotes are the text at their span, claims the text at theirs, refused ones are marked."""
    texts = {p.id: p for p in passages}
    for citation in [*found.citations, *(c.evidence for s in found.sentences for c in s.claims if c.evidence)]:
        source = texts[citation.passage_id]
        at = source.span.start
        assert source.text[citation.span.start - at : citation.span.end - at] == citation.quote
    for sentence in found.sentences:
        for claim in sentence.claims:
            assert sentence.text[claim.span.start : claim.span.end] == claim.text
            if claim.support == "unsupported":
                assert sentence.text[claim.span.end :].startswith(f" {flag_text}")
                assert claim.evidence is None or claim.evidence.marker == 0
            else:
                assert claim.evidence is not None
                assert f"[{claim.evidence.marker}]" in sentence.text


async def test_a_compound_sentence_has_a_verdict_and_a_citation_for_each_claim():
    both = f"{RETURNS.rstrip('.')}, and the restocking fee is 10 percent of the price [1][2]."
    found = await final(both)
    check_laws(found)
    (sentence,) = found.sentences
    assert [claim.text for claim in sentence.claims] == [
        RETURNS.rstrip("."),
        "the restocking fee is 10 percent of the price",
    ]
    assert [claim.evidence.source for claim in sentence.claims] == ["returns.md", "fees.md"]
    assert sentence.text == (
        "Customers may return hardware within 30 days of delivery [1], "
        "and the restocking fee is 10 percent of the price [2]."
    )
    assert (found.outcome, sentence.support) == ("generated", "supported")


async def test_repair_keeps_what_holds_and_quotes_what_the_rest_should_have_said():
    found = await final(HALF)
    check_laws(found)
    assert "20 percent" not in found.text
    assert found.sentences[0].text == "Customers may return hardware within 30 days of delivery [1]."
    assert found.sentences[0].origin == "repaired"
    assert [claim.reason for claim in found.removed] == ["number"]
    assert found.removed[0].evidence.quote == FEE


async def test_remove_leaves_out_what_was_refused_and_nothing_else():
    found = await final(HALF, unsupported="remove")
    check_laws(found)
    assert "percent" not in found.text
    assert "30 days" in found.text
    assert [claim.text for claim in found.removed] == ["the restocking fee is 20 percent of the price"]


async def test_flag_shows_the_claim_and_marks_it_behind_its_last_word():
    found = await final(HALF, unsupported="flag")
    check_laws(found)
    (sentence,) = found.sentences
    assert sentence.text == (
        "Customers may return hardware within 30 days of delivery [1], "
        "and the restocking fee is 20 percent of the price [not confirmed by the documents]."
    )
    assert (found.outcome, sentence.support) == ("flagged", "unsupported")
    assert [claim.support for claim in sentence.claims] == ["supported", "unsupported"]


async def test_a_flag_may_have_the_apps_own_words():
    found = await final(FALSE, unsupported="flag", flag_text="(unbestätigt)")
    check_laws(found, "(unbestätigt)")
    assert "90 days of delivery (unbestätigt)." in found.text


async def test_decline_says_nothing_before_everything_was_checked_and_then_declines():
    found = await events(f"{TRUE} {FALSE}", unsupported="decline")
    assert [type(event) for event in found] == [AnswerSentence, Answer]
    assert (found[-1].outcome, found[-1].decline_reason) == ("declined", "unsupported")
    assert "90" not in found[-1].text
    assert found[-1].citations == ()
    assert [claim.reason for claim in found[-1].removed] == ["number"]


async def test_decline_answers_when_everything_holds():
    found = await events(TRUE, unsupported="decline")
    assert not any(isinstance(event, Quote) for event in found)
    assert found[-1].outcome == "generated"


@pytest.mark.parametrize("policy", ["repair", "remove", "flag", "decline"])
async def test_a_small_models_claims_follow_the_policy_too(policy):
    found = await final("Customers may return hardware within 90 days of delivery.", tier="small", unsupported=policy)
    check_laws(found)
    if policy == "flag":
        assert "90 days of delivery [not confirmed by the documents]" in found.text
    else:
        assert "90" not in found.text
        assert found.removed
    assert (found.outcome == "declined") == (policy in {"remove", "decline"})


async def test_a_models_failure_is_no_refused_claim():
    found = await final(scripted(fail_status=500), tier="small", unsupported="decline")
    assert found.outcome == "extracted"
    assert found.degraded


CLAIMS = st.sampled_from(
    [
        RETURNS, FEE, "The parcel needs a return number.", "The cafeteria opens at noon.",
        "Customers may return hardware within 90 days of delivery.",
        "The restocking fee is not 10 percent of the price.",
        "Elena pays 400 euros.", "It is a wonderful day and everybody loves parcels.", "The cafeteria opens at 7.",
        "Customers may return hardware within 30 days of delivery and the cafeteria opens at noon; the fee is 3 euros.",
        "the parcel needs a return number, but customers may keep hardware",
    ]
)  # fmt: skip


@given(
    st.lists(CLAIMS, min_size=1, max_size=5), st.sampled_from(["repair", "remove", "flag", "decline"]), st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_no_policy_shows_an_unsupported_claim_unmarked(said, policy, small):
    reply = " ".join(text.rstrip(".") + " [1]." for text in said)
    found = asyncio.run(final(reply, unsupported=policy, max_sentences=8, tier="small" if small else "capable"))
    check_laws(found)
    refused = [claim for sentence in found.sentences for claim in sentence.claims if claim.support == "unsupported"]
    if policy != "flag":
        assert not refused
    if policy == "decline" and found.outcome != "declined":
        assert not found.removed
    # Nothing is lost without a trace: what the model wrote is shown or listed as left out.
    for wrong in ("90 days", "not 10 percent", "400 euros"):
        assert wrong not in found.text or any(wrong in claim.text for claim in refused)


@given(st.text(alphabet=st.sampled_from("abc AND and but ; , . is has the 12 ü\n"), max_size=80))
@settings(max_examples=300, deadline=None)
def test_claims_are_exact_disjoint_and_in_order(sentence):
    pieces = split(sentence)
    at = 0
    for piece in pieces:
        assert sentence[piece.span.start : piece.span.end] == piece.text
        assert piece.text.strip()
        assert piece.span.start >= at
        at = piece.span.end
    assert bool(pieces) == bool(sentence.strip(" \t\n\r.!?…;,"))


@pytest.mark.parametrize(
    "whole",
    [
        "If it is damaged, the customer may return it and will get a refund.",
        "Requests and refunds are handled by finance.",
        "Neither hardware is returned nor software is refunded and kept.",
        "Customers who paid may return it and get a new one.",
    ],
)
def test_what_holds_only_together_stays_together(whole):
    assert len(split(whole)) == 1


async def test_the_apps_judge_is_asked_about_what_the_rules_refuse_and_only_that():
    asked = []

    def judging(word):
        inner = scripted(reply=word)

        def stream(ctx, request):
            asked.append(request.messages[-1].text)
            return inner(ctx, request)

        return stream

    reply = f"{TRUE} Hardware goes back for a tenth of its price [2]."
    found = await final(reply, checker="llm", judge=judging("SUPPORTED"))
    check_laws(found)
    assert len(asked) == 1
    assert [claim.checker for sentence in found.sentences for claim in sentence.claims] == ["rules", "llm"]
    refused = await final(reply, checker="llm", judge=judging("UNSTATED"), unsupported="remove")
    assert [claim.reason for claim in refused.removed] == ["unstated"]


async def test_a_judge_that_fails_leaves_the_claim_unjudged_and_the_answer_standing():
    reply = f"{TRUE} Hardware goes back for a tenth of its price [2]."
    found = await final(reply, checker="llm", judge=scripted(fail_status=500), unsupported="flag")
    check_laws(found)
    assert [claim.reason for sentence in found.sentences for claim in sentence.claims] == ["ok", "unjudged"]


async def test_a_users_entailment_model_decides_by_the_apps_threshold(tmp_path):
    write_nli(tmp_path / "mine", {"tenth": (2.0, 0.0, 0.0)}, ("entailment", "neutral", "contradiction"))
    reply = "Hardware goes back for a tenth of its price [2]."
    chosen = {"kind": "nli", "model": "mine"}
    assert (await final(reply, checker=chosen, models=tmp_path)).sentences[0].claims[0].checker == "nli"
    strict = await final(reply, checker={**chosen, "threshold": 0.99}, models=tmp_path, unsupported="flag")
    assert strict.outcome == "flagged"


async def test_a_checker_that_cannot_be_had_leaves_the_strict_rules(tmp_path):
    reply = f"{TRUE} Hardware goes back for a tenth of its price [2]."
    found = await final(reply, checker={"kind": "nli", "model": "gone"}, models=tmp_path, unsupported="flag")
    assert found.degraded == "model_missing"
    assert [claim.support for sentence in found.sentences for claim in sentence.claims] == ["supported", "unsupported"]


def test_a_release_frozen_before_there_were_checkers_keeps_its_behaviour():
    old = AnswerSpec.of_release({"strategy": "auto", "max_sentences": 3})
    assert (old.checker.kind, old.contradictions, old.unsupported) == ("rules", "ignore", "repair")
    assert AnswerSpec.of_release(AnswerSpec().model_dump(mode="json")) == AnswerSpec()


NEW = passage(
    "Customers may return hardware within 14 days of delivery.", source="new.md", title="Returns 2026", score=0.5,
    date="2026-03-01",
)  # fmt: skip


def dated(**facts):
    return passage(RETURNS, source="old.md", title="Returns 2024", **facts)


@pytest.mark.parametrize(
    ("facts", "other", "decided", "first"),
    [
        ({"date": "2024-03-01"}, {"date": "2026-03-01"}, "date", "new.md"),
        ({"authority": "official"}, {"date": "2026-03-01", "authority": "draft"}, "authority", "old.md"),
        ({"version": "1.9"}, {"version": "1.10"}, "version", "new.md"),
        ({}, {"date": "2026-03-01"}, "", "old.md"),
        (
            {"version_group": "g", "version_rank": "2 of 2", "newer_version": "doc_x"},
            {"version_group": "g", "version_rank": "1 of 2"},
            "version",
            "new.md",
        ),
        # Linked, and which of them is newer nobody knows.
        (
            {"version_group": "g", "version_rank": "2 of 2"},
            {"version_group": "g", "version_rank": "1 of 2"},
            "",
            "old.md",
        ),
        (
            {"version_group": "g", "version_rank": "2 of 2", "newer_version": "doc_x"},
            {"version_group": "h", "version_rank": "1 of 2"},
            "",
            "old.md",
        ),
    ],
)  # fmt: skip
async def test_a_contradiction_is_told_in_words_with_both_places_the_believed_one_first(facts, other, decided, first):
    text = "Customers may return hardware within 14 days of delivery."
    passages = [dated(**facts), passage(text, source="new.md", title="Returns 2026", score=0.5, **other)]
    found = await final("x", tier="none", passages=passages, question="How long may hardware be returned?")
    check_laws(found, passages=passages)
    (contradiction,) = found.contradictions
    assert (contradiction.kind, contradiction.decided_by) == ("number", decided)
    assert contradiction.citations[0].source == first
    assert found.sentences[0].citations[0].source == first
    said = "says otherwise than [1]" + ("" if decided else ", and nothing in them says which one holds") + ": “"
    assert said in found.sentences[-1].text
    assert "14 days" in found.text
    assert "30 days" in found.text
    assert {citation.source for citation in found.citations} == {"old.md", "new.md"}


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Customers may return hardware within 30 days of delivery.", "Returns 2026"),
        ("Customers may return hardware within 14 days of delivery.", "Basic plan"),
        ("Partners may return hardware at the depot within 14 weeks.", "Returns 2026"),
        ("The restocking fee is 14 percent.", "Returns 2026"),
    ],
)
async def test_what_may_both_hold_is_no_contradiction(text, title):
    passages = [dated(), passage(text, source="new.md", title=title, score=0.5)]
    found = await final("x", tier="none", passages=passages, question="How long may hardware be returned?")
    assert found.contradictions == ()
    assert "says otherwise" not in found.text


async def test_a_denial_contradicts_and_an_app_may_leave_that_out():
    passages = [
        passage("Opened software may be returned by customers.", source="a.md", title="Returns", version="1"),
        passage("Opened software may not be returned by customers.", source="b.md", title="Returns", version="2"),
    ]
    asked = {"tier": "none", "passages": passages, "question": "May opened software be returned?"}
    found = await final("x", **asked)
    assert [c.kind for c in found.contradictions] == ["negation"]
    assert found.citations[0].source == "b.md"
    assert (await final("x", **asked, contradictions="ignore")).contradictions == ()


PLANS = [
    passage("Support answers within 4 hours.", source="p.md", title="Premier plan", tier="premier"),
    passage("Support answers within 24 hours.", source="b.md", title="Basic plan", tier="basic"),
]
ASKED = "How fast does support answer?"


async def test_an_underspecified_question_is_asked_back_when_the_app_wants_it():
    found = await events("x", tier="none", passages=PLANS, question=ASKED, clarify=True)
    assert [type(event) for event in found] == [AnswerSentence, Answer]
    done = found[-1]
    assert (done.outcome, done.citations) == ("clarify", ())
    assert {option.value for option in done.options} == {"Premier plan", "Basic plan"}
    assert done.text.startswith("Which one do you mean: ")
    by_facet = await final("x", tier="none", passages=PLANS, question=ASKED, clarify=True, clarify_by=["tier"])
    assert {(option.facet, option.value) for option in by_facet.options} == {("tier", "premier"), ("tier", "basic")}


@pytest.mark.parametrize(
    ("question", "passages", "clarify"),
    [
        (ASKED, PLANS, False),
        ("How fast does support answer on the Basic plan?", PLANS, True),
        (ASKED, PLANS[:1], True),
        (ASKED, [PLANS[0], passage("Support answers within 4 hours.", source="c.md", title="Gold plan")], True),
    ],
    ids=["the app did not ask for it", "one is named", "only one may be read", "both say the same"],
)
async def test_a_question_that_is_clear_enough_is_answered(question, passages, clarify):
    found = await final("x", tier="none", passages=passages, question=question, clarify=clarify)
    assert found.outcome == "extracted"
    assert found.options == ()
