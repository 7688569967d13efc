"""Later passages cut to what speaks of the question: their words stay the document's, and more of them fit."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.knowledge.conftest import caller

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage, Span
from interlock.knowledge.retrieval.focusing import focused
from interlock.knowledge.retrieval.settings import FocusSettings, PackingSettings

LONG = "The keeper lives in the hall. " * 8
TOLD = LONG + "The heron eats fish by the river. " + LONG


def passage(text, number=0, start=0):
    span = Span(start, start + len(text))
    return Passage(
        PassageId(f"p{number}"), DocumentId("d"), "sha256:x", "r.md", "", "", text, span, None, 0.0,
        dense_score=None, lexical_score=None, metadata=(),
    )  # fmt: skip


def test_the_sentence_that_speaks_of_the_question_is_what_stays():
    first, second = passage(TOLD), passage(TOLD, 1, start=5000)
    found = focused([first, second], "what does a heron eat?", FocusSettings(whole=1, characters=100))
    assert found[0] == first
    assert "The heron eats fish by the river." in found[1].text
    assert len(found[1].text) <= 100
    at = TOLD.index(found[1].text)
    assert found[1].span == Span(5000 + at, 5000 + at + len(found[1].text))
    assert replace(found[1], text=second.text, span=second.span) == second


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.text("ab. \nX", max_size=400), max_size=6), st.text("abX ?", max_size=20), st.integers(0, 4),
    st.integers(100, 300),
)  # fmt: skip
def test_whatever_is_cut_stands_in_its_passage_and_nothing_is_lost_or_put_elsewhere(texts, question, whole, most):
    given_ = [passage(text, number, 1000 * number) for number, text in enumerate(texts)]
    found = focused(given_, question, FocusSettings(whole=whole, characters=most))
    assert [one.id for one in found] == [one.id for one in given_]
    assert found[:whole] == given_[:whole]
    for before, after in zip(given_, found, strict=True):
        start = after.span.start - before.span.start
        assert before.text[start : start + len(after.text)] == after.text
        assert len(after.text) == after.span.end - after.span.start


async def test_a_context_has_room_for_more_passages(house):
    for number, letter in enumerate("abcdef"):
        words = [letter * 3 + first + second for first in "ghijk" for second in "nopq"]
        rest = ". ".join(f"{word.capitalize()} is here" for word in words)
        told = f"At {' '.join(words[:6])} the heron eats fish. {rest}."
        house.write(f"d{number}.md", f"# Page {letter}\n\n{told}\n")
    await house.ingest()
    found = await house.search("what does the heron eat?", limit=6)
    packing = PackingSettings(focus=FocusSettings(whole=1, characters=100))

    async def evidence(**more):
        return await house.knowledge.evidence(caller(), found, budget_tokens=1200, count_tokens=len, **more)

    plain, cut = await evidence(), await evidence(packing=packing, question="what does the heron eat?")
    assert len(plain) < len(cut) == len({one.document_id for one in found})
    for one in cut:
        text = await house.knowledge.document_text(caller(), one.document_id)
        assert text.text[one.span.start : one.span.end] == one.text
        assert "the heron eats fish" in one.text
    assert await evidence(packing=packing) == plain, "without a question there is nothing to go by"
