"""Weak questions are thrown away, and what is made without a model says only what stands in the passage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage, Span
from interlock.knowledge.questions.asking import ask_for, drafts_in
from interlock.knowledge.questions.checks import Known, copied_share, weakness_of
from interlock.knowledge.questions.drafting import drafts_of
from interlock.knowledge.questions.types import Draft

TEXT = (
    "A restocking fee is a charge that is kept when goods come back opened. "
    "Customers may return hardware within 30 days of delivery for any reason at all."
)


def passage(text, heading="Returns › Fees", title="Returns"):
    span = Span(10, 10 + len(text))
    return Passage(
        PassageId("p"), DocumentId("d"), "sha256:x", "r.md", title, heading, text, span, None, 0.0,
        dense_score=None, lexical_score=None, metadata=(),
    )  # fmt: skip


def test_each_kind_is_drafted_from_what_stands_there():
    found = {draft.origin: draft for draft in drafts_of(passage(TEXT))}
    assert found["definition"].text == "what is meant by restocking fee?"
    assert found["quantity"].text.startswith("how many days Customers may return hardware")
    assert found["heading"].text == "Returns: Fees"
    assert all(weakness_of(draft, TEXT) is None for draft in found.values())


@pytest.mark.parametrize(
    "told",
    [
        "We all recommend migrating to the Claude 3 family of models for every new project.",
        "Take at least 100 multi-turn talks of many people as the cases of every new test.",
        "The article was published in Section 12 sentences and all of the appendix tables.",
    ],
)
def test_a_number_that_is_part_of_a_name_is_no_quantity(told):
    assert [draft.text for draft in drafts_of(passage(told)) if draft.origin == "quantity"] == []
    both = f"{told[:-1]} within 30 days of the release."
    (draft,) = [draft for draft in drafts_of(passage(both)) if draft.origin == "quantity"]
    assert draft.text.startswith("how many days")


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=400))
def test_every_quote_stands_in_its_passage_whatever_the_text(text):
    for draft in drafts_of(passage(text)):
        assert draft.quote in text


@pytest.mark.parametrize(
    ("question", "quote", "weakness"),
    [
        ("fee?", "kept when goods come back", "too_short"),
        ("what " * 50, "kept when goods come back", "too_long"),
        ("what does opening cost?", "a charge that was kept", "not_quoted"),
        ("what does opening cost?", " ", "not_quoted"),
        ("what does this passage say of fees?", "kept when goods come back", "refers_to_passage"),
        ("may customers return hardware within 30 days of delivery?", "for any reason at all", "copied"),
        ("is opened hardware kept at a charge?", "charge that is kept", "answers_itself"),
        ("what does it cost to send back something used?", "a charge that is kept", None),
    ],
)
def test_what_is_weak_is_named(question, quote, weakness):
    assert weakness_of(Draft(question, quote, "model"), TEXT) == weakness


def test_a_copy_is_a_run_of_words_not_a_shared_word():
    assert copied_share("hardware and delivery and reason", TEXT) == 0.0
    assert copied_share("customers may return hardware", TEXT) == 1.0
    assert copied_share("", TEXT) == 0.0


def test_questions_of_nearly_the_same_words_are_one():
    known = Known(["how long may hardware be returned?"])
    assert known.has("How long may returned hardware be?")
    assert not known.has("who pays the fee?")
    known.add("who pays the fee?")
    assert known.has("Who pays a fee?")


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=300))
def test_any_answer_of_a_model_is_read(said):
    for draft in drafts_in(said):
        assert isinstance(draft.text, str)


def test_an_answer_is_read_line_by_line_and_the_rest_passed_over():
    said = 'Here:\n{"question": "a  b?", "quote": "x"}\n{"question": 1}\n{broken\n{"question": "c?", "quote": " y "}'
    assert drafts_in(said) == [Draft("a b?", "x", "model"), Draft("c?", "y", "model")]
    assert TEXT in ask_for(passage(TEXT), 3)


@pytest.mark.parametrize(
    "text",
    [
        "The Heron H4 carries the CE and UKCA marks and FCC ID 2AXNG-H4 on its back side.",
        "Growth plan | monthly price of 29 euros | yearly price of 290 euros | for teams of people",
        "The Chief Executive's claims are approved by the chair of the board every quarter year.",
        "Alerts for the site are not evaluated while the gateway is offline for any reason.",
    ],
)
def test_marks_rows_and_owners_are_no_quantities_and_no_terms(text):
    assert {draft.origin for draft in drafts_of(passage(text))} <= {"heading"}
