import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.knowledge.grounding.builders import row

from interlock.knowledge.grounding.support import check, check_evidence

RETURNS = "A customer may return hardware within 30 days of delivery for any reason."
PLANS = (
    "Plan | Requests per minute | Requests per day | API keys\nGrowth | 120 | 50,000 | 5\nScale | 600 | 400,000 | 20\n"
)
HOTELS = "City | Hotel per night | Meals per day\nLondon | £190 | £55\nLeeds | £125 | £40\n"
ITEMS = (
    "Item | Returnable? | Note\nOpened packs | Yes | Within the period\n"
    "Sensors with a custom certificate | No | Made to order\n"
)


@pytest.mark.parametrize(
    ("claim", "fact"),
    [
        (RETURNS, RETURNS),
        ("A customer can return hardware within 30 days of delivery for any reason.", RETURNS),
        ("A return number is valid for twenty-one days.", "A return number is valid for 21 days."),
        ("The return number is valid for 21 days [3].", "A return number is valid for 21 days."),
        ("We recommend 20 minutes.", "We recommend 20 minutes, because most freezers defrost."),
        ("A gateway buffers 50000 readings.", "A gateway buffers 50,000 readings."),
    ],
)
def test_a_near_copy_is_supported(claim: str, fact: str) -> None:
    assert check(claim, fact).supported


@pytest.mark.parametrize(
    ("claim", "fact", "reason"),
    [
        ("A customer may return hardware within 14 days of delivery for any reason.", RETURNS, "number"),
        ("A customer may return hardware within 30 weeks of delivery for any reason.", RETURNS, "foreign"),
        ("A customer must return hardware within 30 days of delivery for any reason.", RETURNS, "modality"),
        ("A customer returns hardware within 30 days of delivery for any reason.", RETURNS, "modality"),
        ("A customer may not return hardware within 30 days of delivery for any reason.", RETURNS, "negation"),
        ("A customer may return hardware after 30 days of delivery for any reason.", RETURNS, "bound"),
        ("The customer pays for shipping.", "The customer pays no shipping.", "negation"),
        ("The Secretary may lift a hold.", "Only the Secretary may lift a hold.", "bound"),
        ("Guests may enter.", "Guests may enter, unless the alarm is on.", "condition"),
        ("The offer was £5.2 million.", "The offer was €5.2 million.", "number"),
        ("Wave 1 starts on 9 May and wave 2 on 3 May.", "Wave 1 starts on 3 May and wave 2 on 9 May.", "order"),
        ("Refunds follow the delivery.", "The delivery follows refunds.", "order"),
        ("Damaged hardware is refunded.", RETURNS, "foreign"),
        ("We promise 99.5% on Scale.", "We promise 99.5% on Growth and 99.8% on Scale.", "number"),
        ("", RETURNS, "empty"),
        ("[1].", RETURNS, "empty"),
    ],
)
def test_a_changed_claim_is_refused_with_its_reason(claim: str, fact: str, reason: str) -> None:
    verdict = check(claim, fact)
    assert (verdict.supported, verdict.reason) == (False, reason)


def test_a_dropped_number_is_refused() -> None:
    assert not check("A customer may return hardware within days of delivery for any reason.", RETURNS).supported


def test_headings_lend_words_but_no_numbers() -> None:
    fact = "It weighs 640 g."
    assert check("The Heron weighs 640 g.", fact, context="Heron datasheet").supported
    assert not check("The Heron 4 weighs 640 g.", fact, context="Heron 4").supported


def test_a_row_is_told_under_its_own_column() -> None:
    growth = row(PLANS)
    assert check_evidence("The Growth plan: requests per minute is 120.", growth).supported
    assert check_evidence("The Growth plan: requests per day is 120.", growth).reason == "number"
    assert not check_evidence("The Scale plan: requests per minute is 120.", growth).supported


def test_the_unit_behind_a_number_is_kept_whole() -> None:
    fact = "The stay must be approved by the line manager at least 15 working days before departure."
    claim = "The stay must be approved by the line manager at least 15 days before departure."
    assert check(claim, fact).reason == "number"
    assert check(claim.replace("15 days", "15 working days"), fact).supported


def test_a_value_in_words_is_not_told_under_another_column() -> None:
    fault = row("Symptom | Likely cause | What to do\nNo light | Lamp not connected | Reseat the plug\n")
    told = "For No light, the likely cause is Lamp not connected and the likely cause is Reseat the plug."
    assert check_evidence(told, fault).reason == "column"
    assert check_evidence("For No light, the likely cause is Lamp not connected.", fault).supported


def test_a_rows_name_keeps_more_than_half_of_its_words() -> None:
    period = row("Record | Period | Owner\nSupport call recordings | 90 days | Head of Support\n")
    assert not check_evidence("For Support, the period is 90 days.", period).supported
    assert check_evidence("For support call recordings, the period is 90 days.", period).supported


def test_technical_column_names_may_be_told_as_words() -> None:
    hire = row("tool_name | price_gbp | minimum_loans\nCordless drill | 12.50 | 2\n")
    assert check_evidence("For Cordless drill, the price gbp is 12.50.", hire).supported
    assert check_evidence("The minimum loans of the cordless drill is 2.", hire).supported
    assert not check_evidence("The minimum loans of the cordless drill is 12.50.", hire).supported
    assert not check_evidence("The price eur of the cordless drill is 12.50.", hire).supported


def test_values_of_a_row_must_not_change_places() -> None:
    london = row(HOTELS)
    assert check_evidence("London: hotel per night is £190, meals per day is £55.", london).supported
    assert not check_evidence("London: hotel per night is £55, meals per day is £190.", london).supported
    assert not check_evidence("London is £55.", london).supported


def test_a_column_is_not_named_without_its_value() -> None:
    custom = row(ITEMS, 2)
    claim = "Sensors with a custom certificate are returnable, note is made to order."
    assert not check_evidence(claim, custom).supported


def test_a_row_must_be_named() -> None:
    assert check_evidence("The hotel per night is £190.", row(HOTELS)).reason == "name"


WORDS = st.lists(
    st.sampled_from(
        ["gateway", "sensor", "customer", "office", "delivery", "report", "engineer", "invoice", "battery"]
    ),
    min_size=2,
    max_size=6,
    unique=True,
)
SENTENCES = st.builds(
    lambda words, number, verb: f"The {words[0]} {verb} {number} {' '.join(words[1:])} in a week.",
    WORDS,
    st.integers(1, 9999),
    st.sampled_from(["may send", "must keep", "receives", "is given", "will need"]),
)


@given(SENTENCES)
def test_a_sentence_supports_itself(sentence: str) -> None:
    verdict = check(sentence, sentence)
    assert verdict.supported
    assert verdict.score == 1.0


@given(SENTENCES, st.integers(1, 99_999))
def test_a_changed_number_is_never_supported(sentence: str, other: int) -> None:
    number = re.search(r"\d+", sentence)
    assert number is not None
    assume(int(number.group()) != other)
    assert not check(sentence.replace(number.group(), str(other)), sentence).supported


@given(SENTENCES, st.integers(0, 12), st.sampled_from(["not", "never", "no", "cannot"]))
def test_an_inserted_or_removed_negation_is_never_supported(sentence: str, place: int, word: str) -> None:
    words = sentence.split()
    place = min(place, len(words) - 1)
    negated = " ".join([*words[:place], word, *words[place:]])
    assert not check(negated, sentence).supported
    assert not check(sentence, negated).supported


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_gets_a_verdict_in_range(claim: str, fact: str) -> None:
    verdict = check(claim, fact)
    assert 0.0 <= verdict.score <= 1.0
    assert verdict.supported == (verdict.reason == "ok")


def test_a_columns_value_is_told_even_when_a_heading_lends_the_columns_word() -> None:
    custom = row(ITEMS, 2, title="What is returnable")
    assert not check_evidence(
        "The sensors with a custom certificate are returnable, note is made to order.", custom
    ).supported
