from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.knowledge.analysers import analyse


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Refunds are paid", "paying a refund"),
        ("set maxRetryCount", "max retry count"),
        ("set maxRetryCount", "maxretrycount"),
        ("snake_case_name", "snake case"),
        ("error E-1042 again", "E1042"),
        ("firmware 3.2.1", "3.2.1"),
        ("café Straße", "cafe strasse"),
        ("1,299 sensors", "1299"),
        ("C++ and C#", "c++"),
        ("返品は30日以内", "返品"),
        ("gpt-4o-mini", "gpt-4o"),
        ("it's Okafor's", "okafor"),
    ],
)
def test_a_question_meets_the_text_it_means(stored, asked):
    assert set(analyse(asked)) & set(analyse(stored))


@pytest.mark.parametrize(("one", "other"), [("3.2.1", "321"), ("c", "C++"), ("2019", "2020")])
def test_different_codes_stay_apart(one, other):
    assert not set(analyse(one)) & set(analyse(other))


def test_a_question_of_stop_words_alone_keeps_them():
    assert analyse("who are you") == ["who", "are", "you"]
    assert "the" not in analyse("the fox")


@given(st.text(max_size=300))
def test_terms_are_letters_and_digits_only(text):
    assert all(term.isalnum() and 0 < len(term) <= 64 for term in analyse(text))


def test_the_documented_example_runs():
    import doctest

    from interlock.knowledge import analysers

    assert doctest.testmod(analysers) == (0, 1)
