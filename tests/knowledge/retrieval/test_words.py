"""Spelling, acronyms, metadata in a question, and follow-ups: the rules, without a collection."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId
from interlock.knowledge.filters import EVERYTHING
from interlock.knowledge.retrieval.acronyms import Pair, expanded, explained_in
from interlock.knowledge.retrieval.conversation import is_follow_up, standalone
from interlock.knowledge.retrieval.expansion import cleaned, lines_of
from interlock.knowledge.retrieval.self_query import recognised
from interlock.knowledge.retrieval.settings import RetrievalSteps, SelfQuerySettings, parse_steps
from interlock.knowledge.retrieval.spelling import corrected, distance
from interlock.knowledge.types import DocumentInfo

WORDS = {
    "refund": 9,
    "refunds": 3,
    "policy": 5,
    "cloud": 4,
    "delivery": 7,
    "restocking": 2,
    "customer": 8,
    "costumer": 1,
}


@pytest.mark.parametrize(
    ("asked", "became"),
    [
        ("the refnud polcy", "the refund policy"),
        ("Delivry and restokcing", "Delivery and restocking"),
        ("custommer", "customer"),
        ("could we", "could we"),  # a stop word is no slip of "cloud"
        ("refunding", "refunding"),  # another form of a word that is there
        ("rfnd", "rfnd"),  # too short to know
        ("GDPRX policy-2 api.delivry", "GDPRX policy-2 api.delivry"),  # codes are meant as they stand
        ("telescope", "telescope"),  # nothing is near
        ("配送ポリシー", "配送ポリシー"),
    ],
)
def test_only_words_that_nobody_wrote_are_set_right(asked, became):
    assert corrected(asked, WORDS)[0] == became


def test_a_long_question_is_not_compared_word_by_word_for_ever():
    _, found = corrected("refnud " * 500 + "polcy", WORDS)
    assert len(found) == 8
    unknown = " ".join(f"zeppelin{'a' * n}" for n in range(60)) + " refnud"
    assert corrected(unknown, WORDS) == (unknown, [])


def test_of_two_words_equally_near_neither_is_guessed():
    assert corrected("stard", {"start": 5, "stars": 4})[0] == "stard"
    assert corrected("stard", {"start": 15, "stars": 4})[0] == "start"


@given(st.text("abcde", max_size=7), st.text("abcde", max_size=7))
def test_slips_are_counted_alike_both_ways(a, b):
    assert distance(a, b, 3) == distance(b, a, 3)
    assert (distance(a, b, 3) == 0) == (a == b)
    assert distance(a, b, 1) == min(distance(a, b, 3), 2)


@given(
    st.dictionaries(st.text("refundpolicy", min_size=3, max_size=9), st.integers(1, 9), max_size=20),
    st.text(max_size=60),
)
def test_a_correction_only_gives_words_of_the_vocabulary(words, question):
    _, found = corrected(question, words)
    assert all(one.meant.casefold() in words and one.word.casefold() not in words for one in found)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Our service level agreement (SLA) holds.", [("SLA", "service level agreement")]),
        ("The DPO (data protection officer) decides.", [("DPO", "data protection officer")]),
        ("heat shock protein (HSP)", [("HSP", "heat shock protein")]),
        ("See the annex (ABC) for more.", []),
        ("It rose (by 5 %) and fell (WTO)", []),
        ("единый социальный налог (ЕСН) платят", [("ЕСН", "единый социальный налог")]),
        ("Das Bürgerliche Gesetzbuch (BGB) gilt.", [("BGB", "Bürgerliche Gesetzbuch")]),
        ("Die öffentliche Auftragsvergabe (ÖA) ruht.", [("ÖA", "öffentliche Auftragsvergabe")]),
        ("two\nlines of personal data\nbreach (PDB) here", [("PDB", "personal data breach")]),
    ],
)
def test_explanations_are_found(text, pairs):
    assert list(explained_in(text)) == [Pair(*pair) for pair in pairs]


def test_short_forms_and_long_ones_are_both_added():
    pairs = {"sla": ["service level agreement"], "it": ["information technology"], "pto": ["paid time off"]}
    assert expanded("what is our SLA?", pairs) == [Pair("SLA", "service level agreement")]
    assert expanded("how much paid time off", pairs) == [Pair("PTO", "paid time off")]
    assert expanded("is it allowed", pairs) == []
    assert expanded("the SLA, our service level agreement", pairs) == []


@given(st.text(max_size=300))
def test_any_text_can_be_read(text):
    for short, long in explained_in(text):
        assert short and long
    expanded(text, {"ab": ["a b"]})


def info(name, **metadata):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return DocumentInfo(
        DocumentId(name),
        "docs",
        name,
        name,
        "text/plain",
        "sha256:0",
        "sha256:0",
        1,
        None,
        1,
        frozenset({"public"}),
        metadata,
        ("en",),
        "ok",
        "",
        "",
        at,
        at,
        "",
        "",
        1.0,
        (),
    )


SHELF = [
    info("a", company="Acme Rail", year="2023", team="red", version="3", date="2023-04-01"),
    info("b", company="Acme", year="2024", team="blue", version="4", date="2024-05-01"),
    info("c", company="Borealis", year="2024", team="reader", version="4", date="2025-01-31"),
]


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("what did Acme Rail earn", "a"),
        ("what did acme earn", "b"),
        ("revenue in 2024", "bc"),
        ("Borealis' revenue in 2024", "c"),
        ("what changed in version 4", "bc"),
        ("what are the 4 rules", "abc"),
        ("readers of the board", "abc"),  # "reader" in the plural is a team; see below
        ("the red team", "a"),
        ("anything else", "abc"),
    ],
)
def test_values_of_metadata_are_recognised(question, left):
    fields = ["company", "year", "version"] if "readers" in question else []
    found = recognised(question, SHELF, SelfQuerySettings(fields=fields))
    kept = found.filter(EVERYTHING)
    assert "".join(one.id for one in SHELF if kept.holds(one)) == left
    assert all((found.missed(one) == 0) == kept.holds(one) for one in SHELF)


def test_a_year_finds_dates_of_that_year():
    found = recognised("what was decided in 2025", SHELF, SelfQuerySettings(fields=["date"]))
    assert [one.id for one in SHELF if found.filter(EVERYTHING).holds(one)] == ["c"]
    assert found.told == "date in 2025"


def test_a_value_that_every_document_has_says_nothing():
    same = [info("a", team="red"), info("b", team="red")]
    assert recognised("the red team", same, SelfQuerySettings()).groups == ()


def test_follow_ups_are_searched_with_what_they_follow():
    assert standalone("and in Germany?", ["How long is the notice period?"]) == (
        "How long is the notice period? and in Germany?"
    )
    whole = "How many days of leave does a new colleague get?"
    assert standalone(whole, ["How long is the notice period?"]) == whole


@pytest.mark.parametrize(
    ("question", "follows"),
    [
        ("年假需要提前多久向经理提出申请", False),
        ("那德国呢？", True),
        ("那么在德国工作的员工应该怎么办理呢", True),
        ("返品は何日以内にできますか教えてください", False),
        ("それはドイツでも同じように適用されますか", True),
        ("พนักงานใหม่มีวันหยุดพักผ่อนประจำปีกี่วัน", False),
        ("Und wie lange gilt das für Kunden in Deutschland?", True),
        ("Wie lange gilt die Frist für Kunden in Deutschland?", False),
        ("¿Y cuánto tiempo tienen los clientes en España?", True),
        ("Et combien de temps ont les clients en France ?", True),
        ("А сколько времени есть у клиентов в России?", True),
        ("Сколько времени есть у клиентов для возврата?", False),
        ("وماذا عن العملاء الذين يعيشون في ألمانيا؟", True),
    ],
)
def test_follow_ups_are_known_in_other_languages(question, follows):
    assert is_follow_up(question, ["How long is the notice period?"]) is follows


@pytest.mark.parametrize(
    ("question", "follows"),
    [
        ("IT support is open until when on a Saturday?", False),
        ("It is open until when on a Saturday in May?", True),
        ("AND WHAT DOES IT COST FOR STUDENTS IN GERMANY?", True),
        ("EN 50128 asks for which kinds of tests?", False),
        ("E-mail of contractors is kept for how long?", False),
        ("Y-axis of the load chart shows which unit?", False),
        ("It's open until when on a Saturday in May?", True),
        ("They're open until when on a Saturday in May?", True),
        ("That's the same for people in Germany, is it?", True),
        ("En quelle année la maison a-t-elle été construite ?", False),
        ("¿En qué año se construyó la primera planta?", False),
        ("En hoe zit dat met de huur in de zomer?", True),
        ("Men's changing rooms are open until when?", False),
        ("Men vad gäller för anställda i Tyskland då?", True),
        ("Mais de dez dias de férias são aprovados por quem?", False),
        ("Mais combien de temps ont les clients en France ?", True),
        ("その他の費用として申請できるものは何がありますか教えて", False),
        ("那不勒斯办公室的开放时间是几点到几点请告诉我", False),
        ("但丁大街办公室周末的开放时间是几点到几点请告诉我", False),
        ("但是在德国工作的员工应该怎么办理呢请告诉我", True),
    ],
)
def test_a_question_that_only_looks_like_a_follow_up_stands_alone(question, follows):
    assert is_follow_up(question, ["How long is the notice period?"]) is follows


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("2023年的退货政策是什么", "a"),
        ("２０２４年の返品", "b"),
        ("销售部的规定", "a"),
        ("営業部について", "b"),
        ("什么时候", "abc"),
    ],
)
def test_values_of_metadata_are_recognised_in_scripts_without_spaces(question, left):
    shelf = [info("a", year="2023", team="销售部"), info("b", year="2024", team="営業部"), info("c", year="2025")]
    kept = recognised(question, shelf, SelfQuerySettings()).filter(EVERYTHING)
    assert "".join(one.id for one in shelf if kept.holds(one)) == left


def test_what_a_model_writes_becomes_clean_lines():
    said = 'Here are two questions:\n1. How long?\n- "How long?"\n* Who\x00 pays?\u202e\nNONE\n\nA third one\n'
    assert lines_of(said, most=3, beside=["a third one"]) == ["How long?", "Who pays?"]
    assert lines_of("x\ny\nz", most=2) == ["x", "y"]
    assert lines_of("None.", most=2) == []
    assert len(cleaned("word " * 1000, 100)) <= 100


def test_steps_are_read_from_the_command_line():
    assert parse_steps([]) == RetrievalSteps()
    steps = parse_steps(["spelling", "self_query", "diversity.mmr=0.7", "rerank.reranker=onnx", "packing.sections"])
    assert steps.spelling and steps.self_query == SelfQuerySettings()
    assert steps.diversity.mmr == 0.7 and steps.rerank.reranker == "onnx" and steps.packing.sections
    assert parse_steps(["rerank=null", "spelling=false"], steps) == parse_steps(
        ["self_query", "diversity.mmr=0.7", "packing.sections"]
    )
    for wrong in ("speling", "diversity.mmr=7", "spelling.fast=1", "rerank=[", "rerank"):
        with pytest.raises(InvalidInput) as caught:
            parse_steps([wrong])
        assert caught.value.param.startswith("steps")
