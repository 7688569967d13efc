"""Questions that vectors take for the same and that have other answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.gateway.cache.guards import difference


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("What is 7 * 6?", "What is 7 - 6?", "signs"),
        ("Is x > y always true?", "Is x < y always true?", "signs"),
        ("Is a ≤ b?", "Is a ≥ b?", "signs"),
        ("Is it < 5 % of all?", "Is it > 5 % of all?", "signs"),
        ("Is 😀 allowed?", "Is 😡 allowed?", "signs"),
        ("Is my contract valid?", "Is your contract valid?", "persons"),
        ("Is that his fault?", "Is that her fault?", "persons"),
        ("Did I pay you?", "Did you pay me?", "persons"),
        ("When is the party?", "Where is the party?", "asked"),
        ("Who signed the contract?", "Why was the contract signed?", "asked"),
        ("When will the shop open today?", "When did the shop open today?", "mode"),
        ("May I smoke here?", "Must I smoke here?", "mode"),
        ("Is parking free on day 2?", "Is parking free on day 3?", "numbers"),
        ("How do I replace the tube in the bathroom?", "How do I replace the tub in the bathroom?", "words"),
        ("Is a can of wine sold here?", "Is a cane of wine sold here?", "words"),
        ("Which part is it?", "Which party is it?", "words"),
        ("What does the police say?", "What does the policy say?", "words"),
        ("Which planes are there?", "Which plans are there?", "words"),
        ("How do taxes work?", "How do taxis work?", "words"),
        ("Can my employer read my mail?", "Can I read my employer's mail?", "direction"),
    ],
)
def test_what_changes_the_answer_is_seen(one, other, reason):
    assert difference(one, other) == reason
    assert difference(other, one) == reason


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "Please tell me how to reset the password"),
        ("Can you tell me how I can reset my password?", "How can I reset my password?"),
        ("Where can I find my invoice?", "Where do I find my invoice?"),
        ("What is the refund policy?", "What's the refund policy?"),
        ("What is the price of the plan?", "Which price has the plan?"),
        ("How are the parcels tracked?", "How is a parcel tracked?"),
        ("Where are policies kept?", "Where is the policy kept?"),
        ("What boxes are there?", "What box is there?"),
    ],
)
def test_asking_in_another_way_is_no_difference(one, other):
    assert difference(one, other) == ""


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_judgement_is_symmetric_and_equal_texts_never_differ(one, other):
    assert difference(one, other) == difference(other, one)
    assert difference(one, one) == ""
